"""How a parameter names a thing: by name, class, callable or instance.

``loss="huber", loss__delta=2.0`` and ``loss=nn.HuberLoss, loss__delta=2.0``
go through the same few functions, as do nets and optimizers, so that every
misspelling is answered alike: with the list of what is valid.
"""

import functools
import inspect
import sys
from contextlib import contextmanager

__all__ = ["about", "accepted_arguments", "check_arguments", "describe", "lookup", "user_level"]


def describe(value):
    """Name ``value`` the way a user would recognise it in an error message."""
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if callable(value) and hasattr(value, "__name__"):
        return f"the function {value.__name__}"
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def lookup(name, registry, parameter):
    """Return ``registry[name]``, or raise a ``ValueError`` that lists the names."""
    try:
        return registry[name]
    except KeyError:
        raise ValueError(
            f"{parameter}={name!r} is not known. Known names: {', '.join(sorted(registry))}."
        ) from None


def accepted_arguments(build):
    """Names of the arguments ``build`` takes by keyword, and whether it takes any other.

    Returns
    -------
    names : list of str
    open_ended : bool
        True where the signature has ``**kwargs`` or cannot be read.
    """
    # Only what belongs to a class is kept: a function may hold data, which must not outlive it.
    return _class_arguments(build) if isinstance(build, type) else _read_arguments(build)


def _read_arguments(build):
    try:
        parameters = inspect.signature(build).parameters.values()
    except (TypeError, ValueError):
        return [], True
    keyword = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    names = [p.name for p in parameters if p.kind in keyword]
    open_ended = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    return names, open_ended


_class_arguments = functools.lru_cache(maxsize=128)(_read_arguments)


def check_arguments(build, given, parameter, reserved=()):
    """Refuse the arguments of ``given`` that ``build`` does not take.

    Parameters
    ----------
    build : callable
    given : iterable of str
        What the user set with the prefix ``parameter__``.
    parameter : str
        The prefix, for the message.
    reserved : iterable of str
        Arguments that sktorch fills itself and a user cannot set.
    """
    if not given:
        return
    names, open_ended = accepted_arguments(build)
    valid = [name for name in names if name not in reserved]
    for name in given:
        if name in reserved:
            raise ValueError(
                f"{parameter}__{name} cannot be set: it is filled in from the data, or from the "
                f"parameter {name} of the estimator."
            )
        if not (open_ended or name in valid):
            listed = ", ".join(f"{parameter}__{v}" for v in valid) or "none"
            raise ValueError(
                f"{parameter}__{name} is not a parameter of {describe(build)}. "
                f"Valid parameters: {listed}."
            )


@contextmanager
def about(subject):
    """Begin every ``ValueError`` from inside with ``subject``, where it does not do so itself."""
    try:
        yield
    except ValueError as error:
        if str(error).startswith(subject):
            raise
        raise ValueError(f"{subject}: {error}") from error


def user_level():
    """Return the ``stacklevel`` with which a warning points at the code that called sktorch.

    scikit-learn stands in between where it wraps ``fit``.
    """
    level, frame = 0, sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(
        ("sktorch.", "sklearn.callback.")
    ):
        level, frame = level + 1, frame.f_back
    return level + 1
