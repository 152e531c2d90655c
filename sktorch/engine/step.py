"""One plain training step and one plain evaluation step.

This is the reference: whatever runs faster must end where these end.
"""

__all__ = ["closure_step", "eval_step", "train_step"]


def train_step(state, batches):
    """Update the net once.

    Parameters
    ----------
    state : FitState
    batches : list of Batch
        One batch, or the several whose gradients are accumulated for one update.

    Returns
    -------
    outcomes : list of (Tensor, Tensor)
        Mean loss of each batch and the net's output, before the update, on the device.
    """
    outcomes = compute_gradients(state, batches)
    state.precision.update(state.optimizer)
    for after in state.after_update:
        after()
    return outcomes


def compute_gradients(state, batches):
    """Set the gradients to those of the mean loss over the rows of ``batches``, and penalties."""
    for parameter in state.parameters:
        parameter.grad = None
    total = sum(batch.total for batch in batches) if len(batches) > 1 else None
    outcomes = []
    for batch in batches:
        with state.randomness:
            y_pred = state.precision.forward(state.forward, batch.x)
            loss = state.objective(y_pred, batch.y, batch.weight, batch.total)
            state.precision.backward(loss if total is None else loss * (batch.total / total))
        outcomes.append((loss.detach(), y_pred.detach()))
    for before in state.before_update:
        before()
    return outcomes


def closure_step(state, batches):
    """Update the net once with an optimizer that evaluates the loss as often as it likes."""
    evaluations = []

    def closure():
        outcomes = compute_gradients(state, batches)
        evaluations.append(outcomes)
        totals = [batch.total for batch in batches]
        losses = [loss for loss, _ in outcomes]
        mean = sum(loss * total for loss, total in zip(losses, totals, strict=True)) / sum(totals)
        return mean if state.penalty is None else mean + state.penalty.value()

    state.optimizer.step(closure)
    for after in state.after_update:
        after()
    return evaluations[0]


def eval_step(state, batch):
    """Return the loss of ``batch`` and the net's output; the net is in eval mode."""
    with state.randomness:
        y_pred = state.forward(batch.x)
        return state.objective(y_pred, batch.y, batch.weight, batch.total), y_pred
