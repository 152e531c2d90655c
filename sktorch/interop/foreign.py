"""The callbacks of a fit: copies of the user's, those of other libraries behind one of ours."""

import copy

from sktorch.callbacks import Callback
from sktorch.specs import describe

__all__ = ["prepare_callbacks"]

# What a copy of a callback must not share with the user's; anything else that a callback of skorch
# holds, such as a writer, a run or a file, is a way out of the fit and stays the same object.
_CONTAINERS = (list, tuple, dict, set)


def prepare_callbacks(callbacks, fit):
    """Return callbacks for one fit; the user's objects stay as they are.

    Parameters
    ----------
    callbacks : list or None
        Objects of ``sktorch.callbacks.Callback``; callbacks of skorch, their classes, and pairs
        ``(name, callback)`` of these.
    fit : dict
        What ``sktorch.interop.skorch.adapt`` wants to know of the fit.

    Returns
    -------
    callbacks : list of Callback
    """
    given = [] if callbacks is None else [_unnamed(item) for item in callbacks]
    given = [item for item in given if item is not None]
    foreign = [item for item in given if _is_of_skorch(item)]
    for item in given:
        if not isinstance(item, Callback) and not _is_of_skorch(item):
            raise ValueError(
                "callbacks must hold objects of sktorch.callbacks.Callback or callbacks of "
                f"skorch, got {describe(item)}. Derive its class from one of them, and pass an "
                "object."
            )
    # One memo, so that callbacks that refer to each other go on to do so.
    memo = {id(value): value for item in foreign for value in _ways_out(item)}
    if not foreign:
        return copy.deepcopy(given, memo)
    # Imported here: it takes time, and reads private parts of scikit-learn.
    from sktorch.interop.skorch import adapt

    return adapt(copy.deepcopy(given, memo), **fit)


def _unnamed(item):
    is_pair = isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
    return item[1] if is_pair else item


def _is_of_skorch(item):
    kind = item if isinstance(item, type) else type(item)
    return any(base.__module__.split(".")[0] == "skorch" for base in kind.__mro__)


def _ways_out(callback):
    """Yield what ``callback`` holds that is neither a container nor a callback itself."""
    if isinstance(callback, type):
        return
    for value in vars(callback).values():
        if _is_of_skorch(value):
            yield from _ways_out(value)
        elif not isinstance(value, _CONTAINERS):
            yield value
