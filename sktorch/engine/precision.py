"""In which precision the forward of training computes, and how its gradients are kept in range."""

import threading
from contextlib import nullcontext

import torch

from sktorch.backward import backward

__all__ = ["PRECISIONS", "Autocast", "Full", "Scaled", "TensorFloat"]


class Full:
    """The dtype of the net, throughout."""

    def in_use(self):
        """Return a context to train in."""
        return nullcontext()

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


class TensorFloat(Full):
    """Matrix products of a CUDA device in TF32: the range of float32 with 10 of its 23 bits."""

    def __init__(self, device):
        self.device = device

    def in_use(self):
        """Return a context to train in."""
        return _PRODUCTS_IN_TF32 if self.device.type == "cuda" else nullcontext()


class _ProductsInTf32:
    """A context in which CUDA multiplies in TF32.

    Torch has one such setting for the process: the first to enter sets it and the last to leave
    puts it back.
    """

    def __init__(self):
        self.lock = threading.Lock()
        self.n_inside = 0

    def __enter__(self):
        products = torch.backends.cuda.matmul
        with self.lock:
            if not self.n_inside:
                # Torch before 2.9 has one name for it; with the other set alone it reads neither.
                self.outer = getattr(products, "fp32_precision", None) or products.allow_tf32
                if self.outer not in (True, "tf32"):
                    products.allow_tf32 = True
            self.n_inside += 1

    def __exit__(self, *_):
        products = torch.backends.cuda.matmul
        with self.lock:
            self.n_inside -= 1
            if not self.n_inside and self.outer not in (True, "tf32"):
                products.allow_tf32 = False
                if self.outer is not False:
                    products.fp32_precision = self.outer


_PRODUCTS_IN_TF32 = _ProductsInTf32()

PRECISIONS = {"tf32": TensorFloat, "bfloat16": Autocast, "float16": Scaled}
