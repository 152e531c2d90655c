"""What a fitted net is made of: layers, shapes, memory, and how each parameter was trained."""

import copy
import math

import pandas as pd
import torch
import torchinfo
from torchinfo.torchinfo import clear_cached_forward_pass

from sktorch.fields import each

__all__ = ["Summary", "parameter_rules", "summarize"]

# Deeper than any net is nested: every layer is shown.
_ALL_LEVELS = 100


class Summary:
    """A table of layers and one of parameters; ``print`` shows both.

    Parameters
    ----------
    layers : str
        The table of layers, with output shapes and MB for a batch of one sample.
    parameters : DataFrame
        See the attribute.

    Attributes
    ----------
    parameters : DataFrame of shape (n_parameters, 6)
        ``name, shape, count, lr, weight_decay, frozen``. ``lr`` is what the fit began with;
        ``lr`` and ``weight_decay`` are NaN for a frozen parameter.
    total_params : int
        Numbers in the net, those that several layers share counted once.
    trainable_params : int
        Those not frozen.
    """

    def __init__(self, layers, parameters):
        self.layers = layers
        self.parameters = parameters
        self.total_params = int(parameters["count"].sum())
        self.trainable_params = int(parameters.loc[~parameters["frozen"], "count"].sum())

    def __repr__(self):
        table = self.parameters.assign(shape=[str(list(s)) for s in self.parameters["shape"]])
        return f"{self.layers}\n{table.to_string(index=False, na_rep='-', max_colwidth=60)}"


def parameter_rules(optimizer):
    """Return ``{name: (lr, weight_decay)}`` of the parameters that ``optimizer`` updates.

    Parameters
    ----------
    optimizer : torch.optim.Optimizer
        Its groups have ``names``. A schedule leaves what it began with as ``initial_lr``.
    """
    return {
        name: (
            float(group.get("initial_lr", group["lr"])),
            float(group.get("weight_decay", 0.0)),
        )
        for group in optimizer.param_groups
        for name in group["names"]
    }


def summarize(net, shape, dtype, device, rules):
    """Return the ``Summary`` of a net, which stays as it is.

    Parameters
    ----------
    net : nn.Module
    shape : tuple of int, or a dict or tuple of them
        Shape of one sample.
    dtype : torch.dtype, or a dict or tuple of them
        What ``net`` takes samples in.
    device : torch.device
        Where ``net`` is.
    rules : dict
        From ``parameter_rules``.
    """
    return Summary(_layer_table(net, shape, dtype, device), _parameter_table(net, rules))


def _parameter_table(net, rules):
    rows = []
    for name, parameter in net.named_parameters():
        frozen = not parameter.requires_grad
        rate, decay = (math.nan, math.nan) if frozen else rules.get(name, (math.nan, math.nan))
        rows.append((name, tuple(parameter.shape), parameter.numel(), rate, decay, frozen))
    columns = ["name", "shape", "count", "lr", "weight_decay", "frozen"]
    return pd.DataFrame(rows, columns=columns).astype({"count": int, "frozen": bool})


def _layer_table(net, shape, dtype, device):
    """Return torchinfo's table of layers, with totals that also hold for small and shared ones."""
    # A forward may write to the net and draw random numbers; zeros are valid ids too.
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        statistics = torchinfo.summary(
            copy.deepcopy(net),
            input_data=each(
                lambda kind, size: torch.zeros((1, *size), dtype=kind, device=device), dtype, shape
            ),
            depth=_ALL_LEVELS,
            col_names=("output_size", "num_params"),
            row_settings=("var_names",),
            device=device,
            verbose=0,
        )
    # It would keep the last net of each name for the life of the process.
    clear_cached_forward_pass()
    parameters = list(net.parameters())
    total = sum(p.numel() for p in parameters)
    trainable = sum(p.numel() for p in parameters if p.requires_grad)
    sizes = {
        "input": statistics.total_input,
        "forward and backward": statistics.total_output_bytes,
        "parameters": sum(p.nbytes for p in parameters),
    }
    sizes["total"] = sum(sizes.values())
    layout = statistics.formatting
    rule = "=" * layout.get_total_width()
    return "\n".join(
        [
            rule,
            layout.header_row().rstrip("\n"),
            rule,
            layout.layers_to_str(statistics.summary_list, total).rstrip("\n"),
            rule,
            f"Total params: {total:,}",
            f"Trainable params: {trainable:,}",
            f"Frozen params: {total - trainable:,}",
            "MB for one sample: " + ", ".join(f"{k} {v / 1e6:.3g}" for k, v in sizes.items()),
            rule,
        ]
    )
