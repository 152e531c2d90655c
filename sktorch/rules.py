"""Numbers that may differ among the parameters of a net: learning rates, decay, penalties."""

import math
from collections.abc import Mapping
from fnmatch import fnmatchcase
from numbers import Real

__all__ = ["apply_rule"]


def apply_rule(rule, parameters, name, *, spared=None, default=None):
    """Return a number for each parameter of a net, and the pattern it came by.

    Parameters
    ----------
    rule : float, mapping or callable
        One number; or ``{pattern: number}`` over parameter names, shell patterns of which the
        first that matches wins; or ``(name, parameter) -> number``.
    parameters : list of (str, Parameter)
    name : str
        Of the rule, for messages.
    spared : callable, optional
        ``(name, parameter) -> bool``: parameters that a plain number leaves at 0. A mapping or a
        callable spares none.
    default : float, optional
        For parameters that no pattern matches; without it that is an error.

    Returns
    -------
    values : list of (float, str or None)
    """
    if isinstance(rule, Mapping):
        return _matched(rule, parameters, name, default)
    if callable(rule):
        values = [(_called(rule, key, parameter, name), None) for key, parameter in parameters]
    else:
        values = [
            (0.0 if spared is not None and spared(key, parameter) else rule, None)
            for key, parameter in parameters
        ]
    for (key, _), (value, _) in zip(parameters, values, strict=True):
        _check_number(value, "{} of {}", name, key)
    return values


def _called(rule, key, parameter, name):
    try:
        return rule(key, parameter)
    except Exception as error:
        raise ValueError(
            f"{name}: {rule!r} raised {type(error).__name__} for {key}: {error}. It is "
            "called with the name of a parameter and the parameter."
        ) from error


def _matched(rule, parameters, name, default):
    keys = [key for key, _ in parameters]
    for pattern, value in rule.items():
        _check_number(value, "{}[{!r}]", name, pattern)
        if not any(fnmatchcase(key, pattern) for key in keys):
            raise ValueError(
                f"{name}: the pattern {pattern!r} matches no parameter of net. "
                f"Parameters: {', '.join(keys)}."
            )
    found = [next((p for p in rule if fnmatchcase(key, p)), None) for key in keys]
    left = [key for key, pattern in zip(keys, found, strict=True) if pattern is None]
    if left and default is None:
        raise ValueError(
            f"{name} has no value for {', '.join(left)}. Add a pattern that matches, such as '*'."
        )
    return [(default if p is None else float(rule[p]), p) for p in found]


def _check_number(value, words, *names):
    if not isinstance(value, Real) or not 0 <= value < math.inf:
        raise ValueError(f"{words.format(*names)} must be a finite number >= 0, got {value!r}.")
