"""The loss and the metrics of a fitted net on given rows."""

import torch

from sktorch.data.batches import copied
from sktorch.engine.means import Mean
from sktorch.engine.measure import Readout, new_metrics
from sktorch.engine.placement import place
from sktorch.engine.shortage import halves, in_memory, n_rows
from sktorch.fields import caller
from sktorch.objective import decoder_of

__all__ = ["measure"]


def measure(net, objective, rows, signature, target, measures, device):
    """Return the mean loss over samples and each metric over all of them.

    Parameters
    ----------
    net : nn.Module
        In eval mode, on ``device``.
    objective : Objective
    rows : Rows
        With y encoded.
    signature : Signature
    target : Labels or Values
    measures : dict of str to Measure
    device : torch.device

    Returns
    -------
    values : dict of str to float
    """
    batches = place(rows, net, device, signature=signature)
    readout = Readout(signature, target, decoder_of(objective.module), device)
    metrics = new_metrics(measures, readout, device)
    forward = caller(net, signature.input_dtype)
    mean = Mean()

    def step(batch):
        # The net may write to what it is given.
        batch = copied(batch)
        y_pred = forward(batch.x)
        return objective(y_pred, batch.y.clone(), batch.weight, batch.total), y_pred

    with torch.no_grad():
        for batch, (loss, y_pred) in in_memory(step, batches, n_rows, halves, device):
            mean.add(loss, batch.total)
            if metrics is not None:
                metrics.add(y_pred, batch.y)
    values = {"loss": mean.compute(), **(metrics.compute() if metrics else {})}
    return {name: value.item() for name, value in values.items()}
