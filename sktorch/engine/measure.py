"""Metrics of an epoch, on the device, over all of its samples."""

import torch

__all__ = ["MetricSet"]

# Outputs are gathered for many batches before a metric sees them: an update costs many times what a
# step of a small net does.
_GATHERED_ROWS = 2**16


class MetricSet:
    """Several metrics of the same predictions.

    Parameters
    ----------
    metrics : dict of str to torchmetrics.Metric
        Or objects with ``update(preds, target)``, ``compute()`` and ``reset()``.
    readouts : dict of str to callable
        ``(y_pred, y_true) -> (preds, target)``: from the net's output and the targets of the loss
        to what each metric takes.
    """

    def __init__(self, metrics, readouts):
        self.metrics = metrics
        self.readouts = readouts
        self._pairs = []
        self._rows = 0

    def add(self, y_pred, y_true):
        """Take in the predictions of one batch."""
        self._pairs.append((y_pred, y_true))
        self._rows += len(y_true)
        if self._rows >= _GATHERED_ROWS:
            self._update()

    def _update(self):
        if not self._pairs:
            return
        y_pred, y_true = (torch.cat(parts) for parts in zip(*self._pairs, strict=True))
        for name, metric in self.metrics.items():
            metric.update(*self.readouts[name](y_pred, y_true))
        self._pairs, self._rows = [], 0

    @torch.no_grad()
    def compute(self):
        """Return the value of each metric as a 0-d tensor, and begin anew."""
        self._update()
        values = {name: torch.as_tensor(metric.compute()) for name, metric in self.metrics.items()}
        for metric in self.metrics.values():
            metric.reset()
        return values
