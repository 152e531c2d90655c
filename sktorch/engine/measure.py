"""Metrics of an epoch, on the device, over all of its samples."""

import copy
from contextlib import contextmanager

import torch
from torch.distributed import is_initialized as is_distributed

__all__ = ["MetricSet", "new_metrics"]

# Outputs are gathered for many batches before a metric sees them: an update costs many times what a
# step of a small net does.
_GATHERED_ROWS = 2**16


class Readout:
    """From a net's output and the targets of its loss to predictions and targets for metrics.

    Parameters
    ----------
    signature : Signature
    target : Labels or Values
    decoder : nn.Module or None
        Turns features into log probabilities.
    device : torch.device
    """

    def __init__(self, signature, target, decoder, device):
        self.signature = signature
        self.decoder = decoder
        self.classifies = target.classifies
        self.binary = target.classifies and target.kind == "binary"
        # Not every accelerator has float64.
        self.dtype = torch.float32 if device.type == "mps" else torch.float64
        if not target.classifies:
            self.mean, self.scale = (
                torch.as_tensor(part, dtype=self.dtype, device=device)
                for part in (target.mean, target.scale)
            )

    def __call__(self, y_pred, y_true):
        """Return (probabilities, class numbers or indicators), or values in the units of y.

        Probabilities have shape (n_samples, n_classes) or (n_samples, n_labels); values
        (n_samples, n_outputs) or, for one output, (n_samples,).
        """
        y_pred = y_pred.to(self.dtype)
        if self.classifies:
            return self._probabilities(y_pred), self._numbers(y_true)
        meaning = self.signature.meaning
        if meaning in ("log_mean", "log_probabilities"):
            y_pred = y_pred.exp()
        y_pred, y_true = y_pred.reshape(len(y_pred), -1), y_true.reshape(len(y_true), -1)
        if meaning == "mean_and_log_variance":
            y_pred = y_pred[:, : len(self.mean)]
        y_pred, y_true = (y * self.scale + self.mean for y in (y_pred, y_true.to(self.dtype)))
        return (y_pred, y_true) if len(self.mean) > 1 else (y_pred[:, 0], y_true[:, 0])

    def _probabilities(self, y_pred):
        layout, meaning = self.signature.layout, self.signature.meaning
        if self.decoder is not None:
            return self.decoder.log_probabilities(y_pred).exp()
        if meaning == "log_probabilities":
            y_pred = y_pred.exp()
        elif meaning != "probabilities":
            y_pred = torch.softmax(y_pred, 1) if layout == "index" else torch.sigmoid(y_pred)
        if layout == "indicator" and self.binary:
            y_pred = y_pred.reshape(-1, 1)
            y_pred = torch.cat([1 - y_pred, y_pred], dim=1)
        return y_pred

    def _numbers(self, y_true):
        y_true = y_true.long()
        return y_true.reshape(-1) if self.binary else y_true


class MetricSet:
    """Several metrics of the same predictions.

    Parameters
    ----------
    measures : dict of str to Measure
    readout : Readout
    device : torch.device
    ranks : Ranks or None
        Processes whose predictions count together.
    """

    def __init__(self, measures, readout, device, ranks=None):
        self.readout = readout
        self.columns = {name: m.columns or not readout.binary for name, m in measures.items()}
        self.modes = {name: measure.mode for name, measure in measures.items()}
        self.metrics = {}
        for name, measure in measures.items():
            metric = copy.deepcopy(measure.metric).to(device)
            if hasattr(metric, "set_dtype"):
                metric.set_dtype(readout.dtype)
            # Or they would wait for other processes wherever torch.distributed is in use.
            for part in metric.modules() if hasattr(metric, "modules") else [metric]:
                part.distributed_available_fn = _never if ranks is None else is_distributed
            self.metrics[name] = metric
        self._pairs = []
        self._rows = 0

    def add(self, y_pred, y_true):
        """Take in the predictions of one batch."""
        self._pairs.append((y_pred, y_true))
        self._rows += len(y_true)
        if self._rows >= _GATHERED_ROWS:
            self._update()

    @torch.no_grad()
    def _update(self):
        if not self._pairs:
            return
        y_pred, y_true = (torch.cat(parts) for parts in zip(*self._pairs, strict=True))
        preds, target = self.readout(y_pred, y_true)
        for name, metric in self.metrics.items():
            with _named(name):
                metric.update(preds if self.columns[name] else preds[:, 1], target)
        self._pairs, self._rows = [], 0

    def try_out(self, y_pred, y_true):
        """See whether each metric takes such predictions, before they cost an epoch."""
        self.add(y_pred, y_true)
        self._update()
        self.reset()

    def reset(self):
        """Forget what was taken in."""
        self._pairs, self._rows = [], 0
        for metric in self.metrics.values():
            metric.reset()

    @torch.no_grad()
    def compute(self):
        """Return the value of each metric as a 0-d tensor, and begin anew."""
        self._update()
        values = {}
        for name, metric in self.metrics.items():
            with _named(name):
                value = metric.compute()
            if not isinstance(value, torch.Tensor) or value.numel() != 1:
                raise ValueError(
                    f"metrics: {name!r} must compute one number, got {value}. Choose an average, "
                    "or pass a metric for each number."
                )
            values[name] = value.reshape(()).to(self.readout.dtype)
            metric.reset()
        return values


@contextmanager
def _named(name):
    """Tell which metric failed."""
    try:
        yield
    except Exception as error:
        raise ValueError(
            f"metrics: {name!r} failed on the predictions of this net: "
            f"{type(error).__name__}: {error} Pass one that is for this kind of data."
        ) from error


def _never():
    return False


def new_metrics(measures, readout, device, ranks=None):
    """Return the metrics of one part of the data, or None where there are none."""
    return MetricSet(measures, readout, device, ranks) if measures else None
