"""The hooks that a training loop calls."""

__all__ = ["HOOKS", "Callback", "overriding"]


class Callback:
    """Base class: override the hooks you need; the others cost nothing.

    Each hook gets ``state``, the ``FitState`` of the running fit: its ``net``, ``optimizer``,
    ``history`` (a list of rows), ``epoch``; setting ``state.stop_reason`` to a text ends the fit
    after the epoch. What a hook reads off a tensor it reads off the device: per batch that costs
    time. The object that a user passes is copied for each fit.

    Attributes
    ----------
    writes : bool
        Whether it writes or shows something, which the first of several processes does alone.
    """

    writes = False

    def on_fit_begin(self, state):
        """Run once, before the first epoch."""

    def on_epoch_begin(self, state):
        """Run before each epoch; ``state.epoch`` is its number, the first being 1."""

    def on_batch_begin(self, state, batch):
        """Run before each batch, also of validation, where ``state.net.training`` is False.

        ``batch`` has ``x``, ``y`` as the loss sees it, ``weight`` (or None) and ``total``.
        """

    def on_gradients(self, state):
        """Run when the gradients of an update are complete, penalties among them, before it."""

    def on_batch_end(self, state, batch, loss, y_pred):
        """Run after each batch, also of validation, where ``state.net.training`` is False.

        ``loss`` is a 0-d tensor on the device, ``y_pred`` what the net gave, detached.
        """

    def on_epoch_end(self, state):
        """Run after each epoch, when its row is in ``state.history``."""

    def on_checkpoint(self, state):
        """Run last in each epoch, when all callbacks have seen it and the schedule has moved on.

        ``state`` is then as the next epoch begins with it.
        """

    def on_fit_end(self, state):
        """Run once, after the last epoch."""

    def on_fit_abort(self, state):
        """Run in place of ``on_fit_end`` where the fit fails or is interrupted."""

    def state_dict(self):
        """Return what a resumed fit must know of this callback, in numbers, texts and tensors."""
        return {}

    def load_state_dict(self, state):
        """Go on from ``state_dict``; called after ``on_fit_begin`` of a resumed fit."""


HOOKS = [name for name in vars(Callback) if name.startswith("on_")]


def overriding(callbacks, hook):
    """Return the bound ``hook`` of each callback that overrides it."""
    return [
        getattr(callback, hook)
        for callback in callbacks
        if getattr(type(callback), hook) is not getattr(Callback, hook)
    ]
