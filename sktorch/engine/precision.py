"""In which precision the forward of training computes, and how its gradients are kept in range."""

import torch

from sktorch.backward import backward

__all__ = ["PRECISIONS", "Autocast", "Full", "Scaled"]


class Full:
    """The dtype of the net, throughout."""

    def forward(self, net, x):
        """Return the prediction of ``net``."""
        return net(x)

    def backward(self, loss):
        """Add the gradients of ``loss``."""
        backward(loss)

    def unscale(self, optimizer):
        """Bring gradients to their true size before anything reads them."""

    def update(self, optimizer):
        """Take one step of ``optimizer``."""
        optimizer.step()

    def state_dict(self):
        """Return what it has learned of the gradients, in numbers by name."""
        return {}

    def load_state_dict(self, state):
        """Take over what another has learned, if it has."""


class Autocast(Full):
    """Matrix products in half precision, weights and losses in that of the net."""

    dtype = torch.bfloat16

    def __init__(self, device):
        self.device = device

    def forward(self, net, x):
        """Return the prediction of ``net``, in at least float32."""
        with torch.autocast(self.device.type, self.dtype):
            y_pred = net(x)
        return y_pred.float() if y_pred.dtype is self.dtype else y_pred


class Scaled(Autocast):
    """float16, whose small gradients would vanish: the loss is scaled up, its gradients down."""

    dtype = torch.float16

    def __init__(self, device):
        super().__init__(device)
        self.scaler = torch.amp.GradScaler(device.type)

    def backward(self, loss):
        """Add the gradients of ``loss``, scaled up."""
        self.scaler.scale(loss).backward()

    def unscale(self, optimizer):
        """Scale gradients down."""
        self.scaler.unscale_(optimizer)

    def update(self, optimizer):
        """Take one step of ``optimizer``, or none if a gradient overflowed."""
        self.scaler.step(optimizer)
        self.scaler.update()

    def state_dict(self):
        """Return the scale and how long it has held."""
        return self.scaler.state_dict()

    def load_state_dict(self, state):
        """Take over a scale, if there is one."""
        if state:
            self.scaler.load_state_dict(state)


PRECISIONS = {"bfloat16": Autocast, "float16": Scaled}
