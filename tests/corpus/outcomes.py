"""What comes of a case on a library."""

import re

from corpus.libraries import NotApplicable, quietly

__all__ = ["GOOD", "outcome"]

GOOD = ("works", "told", "warned")

# What torch says of shapes, dtypes and devices when nobody has checked before it.
_RAW = (
    r"mat1 and mat2|size mismatch|The size of tensor|[Ee]xpected (all|input|tensor|more|scalar|m1)|"
    r"Target|shape |Given|Can't call numpy"
)


def outcome(case, library):
    """Return one word for what happened, and the message or the value.

    "works": the value is right. "told": refused, by an error that says why. "warned": a wrong
    value, and a warning that says so. "raw": an error that does not name the cause. "silent": a
    wrong value and not a word. "-": the library has no such thing.
    """
    try:
        value, warned = quietly(lambda: case.act(library))
    except NotApplicable as reason:
        return "-", str(reason)
    except BaseException as error:
        kind = type(error).__name__
        said = f"{error} {error.__cause__ or ''}"
        told = case.error is not None and re.search(case.error, said, re.DOTALL)
        return ("told" if told and not re.match(_RAW, said) else "raw"), f"{kind}: {said}"
    if case.right is not None and case.right(value):
        return "works", repr(value)
    if case.error is not None and any(re.search(case.error, w, re.DOTALL) for w in warned):
        return "warned", "; ".join(warned)
    return "silent", repr(value)
