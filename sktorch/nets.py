"""Nets: the built-in MLP, and how the ``net`` parameter becomes a module.

``NETS`` is the registry: a name that ``net=`` accepts, and the class behind it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from itertools import chain
from numbers import Integral

import torch
from torch import nn

from sktorch.copying import duplicate
from sktorch.specs import accepted_arguments, check_arguments, describe, lookup

__all__ = [
    "ACTIVATIONS",
    "MLP",
    "NETS",
    "LoadReport",
    "build_net",
    "first_layer",
    "float_dtype",
    "has_batch_norm",
    "has_sparse_gradients",
    "is_built_in",
    "lies_on",
    "load_matching",
    "reads_ids",
]

ACTIVATIONS = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "selu": nn.SELU,
    "elu": nn.ELU,
    "leaky_relu": nn.LeakyReLU,
    "tanh": nn.Tanh,
    "logistic": nn.Sigmoid,
    "identity": nn.Identity,
}


class MLP(nn.Sequential):
    """Multi-layer perceptron: linear layers with an activation between them.

    Parameters
    ----------
    n_features_in : int
        Width of the input, of shape ``(n_samples, n_features_in)``.
    n_outputs : int
        Width of the output, of shape ``(n_samples, n_outputs)``.
    hidden_layer_sizes : int or sequence of int, default=(100,)
        Units of each hidden layer; empty for a linear model.
    activation : str, default="relu"
        A key of ``ACTIVATIONS``.
    dropout : float, default=0.0
        Probability of dropping a hidden unit while training, in [0, 1).

    Notes
    -----
    Weights are drawn as in scikit-learn's MLP (Glorot and Bengio, 2010), uniform in
    ``+-sqrt(6 / (fan_in + fan_out))``, biases included.

    Examples
    --------
    >>> import torch
    >>> from sktorch.nets import MLP
    >>> MLP(4, 3, hidden_layer_sizes=(8, 8))(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self, n_features_in, n_outputs, hidden_layer_sizes=(100,), activation="relu", dropout=0.0
    ):
        make_activation = lookup(activation, ACTIVATIONS, "net__activation")
        if not isinstance(dropout, (int, float)) or not 0 <= dropout < 1:
            raise ValueError(f"net__dropout must be a number in [0, 1), got {dropout!r}.")
        layers = []
        width = n_features_in
        for hidden in _hidden_widths(hidden_layer_sizes):
            layers += [_glorot_linear(width, hidden), make_activation()]
            if dropout:
                layers.append(nn.Dropout(dropout))
            width = hidden
        super().__init__(*layers, _glorot_linear(width, n_outputs))


def _hidden_widths(sizes):
    widths = [sizes] if isinstance(sizes, Integral) else sizes
    try:
        widths = list(widths)
        valid = all(isinstance(w, Integral) and not isinstance(w, bool) and w > 0 for w in widths)
    except TypeError:
        valid = False
    if not valid:
        raise ValueError(
            f"net__hidden_layer_sizes must be a positive int or a sequence of them, got {sizes!r}."
        )
    return [int(w) for w in widths]


def _glorot_linear(n_in, n_out):
    layer = nn.Linear(n_in, n_out)
    bound = (6 / (n_in + n_out)) ** 0.5
    with torch.no_grad():
        layer.weight.uniform_(-bound, bound)
        layer.bias.uniform_(-bound, bound)
    return layer


NETS = {"mlp": MLP}

_FROM_DATA = ("n_features_in", "n_outputs")


def is_built_in(net):
    """Whether ``net`` names one of the nets of this module."""
    return isinstance(net, str)


def build_net(net, arguments, *, n_features_in, n_outputs):
    """Return a module of its own for one fit.

    Parameters
    ----------
    net : str, nn.Module, class or callable
        What the user gave. An instance is copied; a class or callable is called.
    arguments : dict
        The ``net__`` parameters.
    n_features_in, n_outputs : int
        Handed to a class or callable whose signature has arguments of these names
        and to which the user did not pass them.
    """
    if isinstance(net, nn.Module):
        if arguments:
            raise ValueError(
                f"net__{next(iter(arguments))} cannot be set: net is an instance of "
                f"{type(net).__name__}, already built. Pass its class to set its parameters."
            )
        return _copied(net)
    build = lookup(net, NETS, "net") if is_built_in(net) else net
    if not callable(build):
        raise ValueError(
            "net must be a name, a torch.nn.Module, a Module class or a callable that builds one, "
            f"got {describe(net)}."
        )
    check_arguments(build, arguments, "net", reserved=_FROM_DATA if is_built_in(net) else ())
    names, _ = accepted_arguments(build)
    sizes = {"n_features_in": n_features_in, "n_outputs": n_outputs}
    sizes = {name: size for name, size in sizes.items() if name in names}
    try:
        module = build(**{**sizes, **arguments})
    except TypeError as error:
        raise ValueError(
            f"net: {describe(build)} could not be called with "
            f"{sorted({**sizes, **arguments})}: {error}. Set what it needs with net__<argument>=; "
            "arguments called n_features_in and n_outputs are filled from the data."
        ) from error
    except Exception as error:
        if str(error).startswith("net__"):
            raise
        raise ValueError(
            f"net: {describe(build)} raised {type(error).__name__}: {str(error).rstrip('.')}."
        ) from error
    if not isinstance(module, nn.Module):
        raise ValueError(
            f"net: {describe(build)} must return a torch.nn.Module, got {describe(module)}."
        )
    # A function may return the same module each time.
    return _trainable(module) if isinstance(build, type) else _copied(module)


def _trainable(net):
    """Return a module, unless it cannot be trained."""
    if isinstance(net, torch.jit.ScriptModule):
        raise ValueError(
            "net: a scripted module has no copies that can be trained. Pass the module that it was "
            "scripted from."
        )
    if any(parameter.is_meta for parameter in net.parameters()):
        raise ValueError(
            f'net: the {type(net).__name__} is on the device "meta", which holds no numbers. Build '
            "it on another device."
        )
    return net


def _copied(net):
    """Return a copy of a module, which each fit needs."""
    try:
        return duplicate(_trainable(net))
    except Exception as error:
        if str(error).startswith("net: "):
            raise
        raise ValueError(
            f"net: the {type(net).__name__} cannot be copied, and each fit trains a copy "
            f"({type(error).__name__}: {error}). Pass its class, or a function that builds it."
        ) from error


def first_layer(net):
    """First module of ``net`` that has none inside it."""
    return next(m for m in net.modules() if not any(True for _ in m.children()))


def has_batch_norm(net):
    """Whether ``net`` cannot be trained on a batch of one row."""
    return any(isinstance(m, nn.modules.batchnorm._NormBase) for m in net.modules())


def has_sparse_gradients(net):
    """Whether an embedding of ``net`` has gradients of the rows it used only."""
    return any(getattr(module, "sparse", False) for module in net.modules())


def reads_ids(net):
    """Whether ``net`` begins with an embedding, which takes integers."""
    return isinstance(first_layer(net), nn.Embedding | nn.EmbeddingBag)


def lies_on(net, device):
    """Whether all parameters and buffers of ``net`` are on ``device``."""
    return all(t.device == device for t in chain(net.parameters(), net.buffers()))


def float_dtype(net):
    """Floating dtype ``net`` computes in: that of its first floating parameter or buffer."""
    tensors = chain(net.parameters(), net.buffers())
    dtypes = (t.dtype for t in tensors if t.is_floating_point())
    return next(dtypes, torch.get_default_dtype())


@dataclass(frozen=True)
class LoadReport:
    """What ``load_matching`` did; names of the state's entries are as they are after renaming.

    Parameters
    ----------
    loaded : list of str
        Parameters and buffers of the net that got a value.
    skipped : list of str
        Entries left out on request.
    missing : list of str
        Parameters and buffers of the net that got none, those left out on request apart.
    unexpected : list of str
        Entries that found no place.
    mismatched : dict of str to (shape in the state, shape in the net)
        Entries whose place has another shape.
    """

    loaded: list
    skipped: list
    missing: list
    unexpected: list
    mismatched: dict

    def __str__(self):
        lines = [f"{len(self.loaded)} loaded"]
        for title in ("skipped", "missing", "unexpected"):
            names = getattr(self, title)
            if names:
                lines.append(f"{len(names)} {title}: {', '.join(names)}")
        for name, (given, wanted) in self.mismatched.items():
            lines.append(f"shape of {name}: {given} in the state, {wanted} in the net")
        return "\n".join(lines)


def load_matching(net, state, skip=(), rename=None):
    """Copy into ``net`` the weights of ``state`` that have a place in it, by name and shape.

    Parameters
    ----------
    net : nn.Module
        Changed in place.
    state : mapping of str to Tensor, or nn.Module
        A state dict, such as ``torch.load(path, weights_only=True)`` returns, or a module.
    skip : str or iterable of str, default=()
        Names, prefixes of names, or shell patterns to leave out, as the net calls them:
        ``"head"`` leaves out ``head.weight``.
    rename : dict of str to str, optional
        Prefixes and what to put in their place, tried in order, the first that fits being used:
        ``{"module.": "", "backbone.": "encoder."}``.

    Returns
    -------
    report : LoadReport

    Raises
    ------
    ValueError
        If nothing was loaded, or a prefix of ``rename`` begins no name.

    Examples
    --------
    >>> from torch import nn
    >>> from sktorch.nets import load_matching
    >>> trained = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 1000))
    >>> net = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))
    >>> print(load_matching(net, trained, skip="2"))
    2 loaded
    2 skipped: 2.weight, 2.bias
    """
    entries = _renamed(state, rename or {})
    left_out = _matcher(skip, entries)
    places = net.state_dict()
    skipped = [name for name in entries if left_out(name)]
    given = {name: value for name, value in entries.items() if name not in skipped}
    fits = {n: v for n, v in given.items() if n in places and v.shape == places[n].shape}
    if not fits:
        raise ValueError(
            f"state: no entry has the name and shape of one of net's. Entries: "
            f"{', '.join(list(entries)[:8])} ... Net: {', '.join(list(places)[:8])} ... "
            "Map prefixes with rename={'old.': 'new.'}."
        )
    with torch.no_grad():
        for name, value in fits.items():
            places[name].copy_(value)
    return LoadReport(
        loaded=list(fits),
        skipped=skipped,
        missing=[name for name in places if name not in fits and not left_out(name)],
        unexpected=[name for name in given if name not in places],
        mismatched={
            name: (tuple(value.shape), tuple(places[name].shape))
            for name, value in given.items()
            if name in places and name not in fits
        },
    )


def _matcher(skip, names):
    """Return whether a name is to be skipped, as a function; each pattern must match something."""
    skip = (skip,) if isinstance(skip, str) else tuple(skip)

    def matches(name, pattern):
        return name.startswith(f"{pattern}.") or fnmatchcase(name, pattern)

    for pattern in skip:
        if not any(matches(name, pattern) for name in names):
            raise ValueError(
                f"skip: {pattern!r} matches no name of state. Names: {', '.join(list(names)[:8])} "
                "..."
            )
    return lambda name: any(matches(name, pattern) for pattern in skip)


def _renamed(state, rename):
    """Return the tensors of a state by the names that ``rename`` makes of theirs."""
    if isinstance(state, nn.Module):
        state = state.state_dict()
    if not isinstance(state, Mapping) or not all(
        isinstance(v, torch.Tensor) for v in state.values()
    ):
        raise ValueError(
            f"state must be a state dict of tensors or a module, got {describe(state)}. A "
            'checkpoint may hold it under a key such as "state_dict" or "model".'
        )
    for prefix in rename:
        if not any(name.startswith(prefix) for name in state):
            raise ValueError(
                f"rename: no name of state begins with {prefix!r}. Names: "
                f"{', '.join(list(state)[:8])} ..."
            )
    entries = {}
    for name, value in state.items():
        prefix = next((p for p in rename if name.startswith(p)), "")
        entries[rename.get(prefix, "") + name.removeprefix(prefix) if prefix else name] = value
    return entries
