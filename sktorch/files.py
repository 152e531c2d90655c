"""Files that are whole or not there."""

import os
import secrets
from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path, write):
    """Write a file so that ``path`` holds all of it or what it held before.

    Parameters
    ----------
    path : str or path-like
    write : callable
        Called with a binary file.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with partial.open("wb") as file:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _sync_folder(folder):
    """Make the name of a new file last, where folders can be opened."""
    if not hasattr(os, "O_DIRECTORY"):
        return
    descriptor = os.open(folder, os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
