"""Torch's fused optimizers, without what torch looks up anew at each step.

For a small net the update is one kernel of some microseconds, around which ``torch.optim`` spends
several times as many on sorting parameters and states that are the same in every step. These
classes sort them once; the numbers, kept in ``param_groups``, are read at each step as ever.
"""

from array import array
from functools import partial

import torch
from torch.optim import SGD, Adam, AdamW, Optimizer

__all__ = ["FUSED"]


class _Fused:
    """Mixin that goes straight to the fused kernel once every parameter has its state.

    The step of torch is taken instead while it has not, where a parameter has no gradient, with a
    closure, with hooks, and under a gradient scaler.
    """

    _sorted = _no_grad = None

    def step(self, closure=None):
        """Update the parameters, as torch's own class does."""
        if closure is not None or self._needs_torch() or not self._is_sorted():
            return self._torch_step(closure)
        gradients = [[p.grad for p in params] for _, params, *_ in self._sorted]
        if any(g is None for group in gradients for g in group):
            return self._torch_step()
        with self._no_grad:
            for (group, params, *states), grads in zip(self._sorted, gradients, strict=True):
                self._update(group, params, grads, *states)
        return None

    # Torch wraps the step of every class, for its profiler and hooks, but not one so marked.
    step.hooked = True

    def _torch_step(self, closure=None):
        step = super().step.__func__
        if not getattr(step, "hooked", False):
            step = Optimizer.profile_hook_step(step)
        return step(self, closure)

    def _is_sorted(self):
        """Sort parameters and states where that is still to do; tell whether all have theirs."""
        if self._sorted is None:
            parts = [self._sort(group) for group in self.param_groups]
            self._sorted = parts if all(parts) else None
            # One for all steps, since to make it takes as long as to enter it.
            self._no_grad = torch.no_grad()
        return self._sorted is not None

    def _needs_torch(self):
        scaled = getattr(self, "found_inf", None) is not None
        return scaled or self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks

    def add_param_group(self, param_group):
        """Take over more parameters, as torch's own class does."""
        super().add_param_group(param_group)
        self._sorted = None

    def load_state_dict(self, state_dict):
        """Take over another optimizer's state, as torch's own class does."""
        super().load_state_dict(state_dict)
        self._sorted = None


def _count(steps):
    """Add one to counts in memory; an operation of torch would take a tenth of a small step."""
    steps[:] = array("f", [count + 1.0 for count in steps])


class _FusedAdam(_Fused):
    def _sort(self, group):
        params = group["params"]
        if any(p.grad is None for p in params):
            return None
        if params[0].is_cpu and not any(map(self.state.get, params)):
            return group, params, *self._begin(group)
        sorted_params, grads, *states, steps = ([] for _ in range(6))
        # Torch's own, which makes the state of a parameter at its first gradient.
        self._init_group(group, sorted_params, grads, *states, steps)
        return group, sorted_params, *states, steps, partial(torch._foreach_add_, steps, 1)

    def _begin(self, group):
        """Make the state of parameters as torch does, the counts of their steps side by side."""
        params = group["params"]
        counts = torch.zeros(len(params), dtype=torch.float32, device="cpu")
        kept = {"step": counts.unbind()}
        for name in ("exp_avg", "exp_avg_sq", *["max_exp_avg_sq"] * group["amsgrad"]):
            kept[name] = [torch.zeros_like(p, memory_format=torch.preserve_format) for p in params]
        for param, *values in zip(params, *kept.values(), strict=True):
            self.state[param] = dict(zip(kept, values, strict=True))
        return (
            kept["exp_avg"],
            kept["exp_avg_sq"],
            kept.get("max_exp_avg_sq", []),
            kept["step"],
            partial(_count, memoryview(counts.numpy())),
        )

    def _update(self, group, params, grads, exp_avg, exp_avg_sq, largest, steps, count):
        count()
        kernel = torch._fused_adamw_ if group["decoupled_weight_decay"] else torch._fused_adam_
        beta1, beta2 = group["betas"]
        kernel(
            params,
            grads,
            exp_avg,
            exp_avg_sq,
            largest,
            steps,
            amsgrad=group["amsgrad"],
            lr=group["lr"],
            beta1=beta1,
            beta2=beta2,
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            maximize=group["maximize"],
        )


class _FusedSGD(_Fused):
    def _sort(self, group):
        params = group["params"]
        buffers = [self.state.get(p, {}).get("momentum_buffer") for p in params]
        # The first step makes the momentum, in a way of its own.
        if group["momentum"] and any(buffer is None for buffer in buffers):
            return None
        return group, params, buffers if group["momentum"] else []

    def _update(self, group, params, grads, buffers):
        torch._fused_sgd_(
            params,
            grads,
            buffers,
            weight_decay=group["weight_decay"],
            momentum=group["momentum"],
            lr=group["lr"],
            dampening=group["dampening"],
            nesterov=group["nesterov"],
            maximize=group["maximize"],
            is_first_step=False,
        )


# The class that stands in for each of torch's when its ``fused`` is on.
FUSED = {
    Adam: type("Adam", (_FusedAdam, Adam), {}),
    AdamW: type("AdamW", (_FusedAdam, AdamW), {}),
    SGD: type("SGD", (_FusedSGD, SGD), {}),
}
