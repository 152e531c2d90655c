"""Where a resumed fit goes on from."""

import os
from pathlib import Path

from sktorch.callbacks import Checkpoint
from sktorch.callbacks.checkpoint import newest_checkpoint
from sktorch.fingerprint import MAY_CHANGE
from sktorch.persistence import current_versions, warn_of_other_versions
from sktorch.specs import describe

__all__ = ["find_checkpoint", "origin_of"]


def origin_of(fingerprint, seeds):
    """Return what a checkpoint tells of its fit beside the state."""
    return {
        "fingerprint": fingerprint.entries,
        "seeds": list(seeds),
        "versions": current_versions(),
    }


def find_checkpoint(folder, settings, fingerprint):
    """Return the checkpoint that a fit goes on from, or None for a fit that begins anew.

    Parameters
    ----------
    folder : str, path-like or None
        What the user gave as ``resume_from``.
    settings : estimator
        Its ``callbacks`` and ``max_epochs`` are read.
    fingerprint : Fingerprint
        Of the fit that is to go on.

    Raises
    ------
    ValueError
        If there is no checkpoint, or one of another fit. Where the fit writes its own checkpoints
        to the same directory it may be empty: a script can then be run again as it is.
    """
    if folder is None:
        return None
    if not isinstance(folder, str | os.PathLike):
        raise ValueError(
            f"resume_from must be the directory of a Checkpoint, got {describe(folder)}."
        )
    content = newest_checkpoint(folder)
    if content is None:
        if Path(folder).resolve() in _own_folders(settings.callbacks):
            return None
        raise ValueError(
            f"resume_from={str(folder)!r} holds no checkpoint. Pass the dirname of the Checkpoint "
            "in callbacks of the fit to go on with, or fit without resume_from."
        )
    if differences := fingerprint.differences(content["fingerprint"]):
        raise ValueError(
            f"resume_from={str(folder)!r} is of another fit: {'; '.join(differences)}. Set it "
            f"back, or fit without resume_from. Only {', '.join(MAY_CHANGE)} may change."
        )
    if settings.max_epochs < content["epoch"]:
        raise ValueError(
            f"max_epochs={settings.max_epochs} is less than the {content['epoch']} epochs that "
            f"resume_from={str(folder)!r} has behind it. Raise max_epochs."
        )
    warn_of_other_versions("checkpoint", content["versions"])
    return content


def _own_folders(callbacks):
    given = [] if callbacks is None else callbacks
    items = [item[1] if isinstance(item, tuple) else item for item in given]
    return [Path(item.dirname).resolve() for item in items if isinstance(item, Checkpoint)]
