"""One plain training step and one plain evaluation step.

This is the reference: whatever runs faster must end where these two end.
"""

__all__ = ["eval_step", "train_step"]


def train_step(state, batch):
    """Update the net once on ``batch`` and return the loss before the update, on the device."""
    for parameter in state.parameters:
        parameter.grad = None
    with state.randomness:
        y_pred = state.net(batch.x)
    loss = state.objective(y_pred, batch.y, batch.weight, batch.total)
    loss.backward()
    state.optimizer.step()
    return loss.detach()


def eval_step(state, batch):
    """Return the loss of ``batch``, on the device; the caller has set the net to eval mode."""
    y_pred = state.net(batch.x)
    return state.objective(y_pred, batch.y, batch.weight, batch.total)
