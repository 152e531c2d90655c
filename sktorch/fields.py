"""What a net takes: one tensor, or several by name (a dict) or by position (a tuple)."""

from functools import partial

__all__ = ["caller", "each", "each_named", "leaves", "outline"]


def each(function, *values):
    """Return ``function`` of a value, or of each part of dicts or tuples that are built alike."""
    first = values[0]
    if isinstance(first, dict):
        return {name: function(*(value[name] for value in values)) for name in first}
    if isinstance(first, tuple):
        return tuple(function(*parts) for parts in zip(*values, strict=True))
    return function(*values)


def each_named(function, *values):
    """Return ``each``, where the first argument of ``function`` is a name for messages."""
    first = values[0]
    names = [name for name, _ in leaves(first)]
    if isinstance(first, dict):
        return each(function, dict(zip(first, names, strict=True)), *values)
    return each(function, tuple(names) if isinstance(first, tuple) else names[0], *values)


def leaves(value, name="X"):
    """Return pairs of a name for messages and a part."""
    if isinstance(value, dict):
        return [(f"{name}[{key!r}]", part) for key, part in value.items()]
    if isinstance(value, tuple):
        return [(f"{name}[{number}]", part) for number, part in enumerate(value)]
    return [(name, value)]


def outline(value):
    """Return the names of several inputs, or how many they are, or None for one."""
    if isinstance(value, dict):
        return tuple(value)
    return len(value) if isinstance(value, tuple) else None


def caller(net, inputs):
    """Return ``net`` as a function of a batch's ``x``.

    Parameters
    ----------
    net : callable
    inputs : dict, tuple or anything else
        Built like ``x``; for a single tensor ``net`` is returned as it is.
    """
    if isinstance(inputs, dict):
        return partial(_by_name, net)
    return partial(_by_position, net) if isinstance(inputs, tuple) else net


def _by_name(net, x):
    return net(**x)


def _by_position(net, x):
    return net(*x)
