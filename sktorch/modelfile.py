"""One file that holds a model: tensors, and the rest as JSON, under one checksum.

It is a file of safetensors: reading it copies numbers and runs nothing.
"""

import json
import os

import safetensors
import safetensors.torch

from sktorch.digest import digest
from sktorch.exceptions import DamagedModelError
from sktorch.files import write_whole

__all__ = ["read_model", "write_model"]

_FORMAT = 1

# How files begin that are taken for models.
_FOREIGN = {
    b"\x80": "a pickle: load it with joblib or pickle, if you trust it",
    b"PK": "a zip archive, such as torch.save or skops write",
    b"\x1f\x8b": "a compressed file",
}


def write_model(path, document, tensors):
    """Write a file, whole or not at all.

    Parameters
    ----------
    path : str or path-like
    document : dict
        As JSON has it.
    tensors : dict of str to Tensor
    """
    path = os.fspath(path)
    folder = os.path.dirname(path) or "."
    if not os.path.isdir(folder):
        raise FileNotFoundError(f"save: there is no directory {folder!r}. Make it first.")
    # Copies: names may share memory, which a file of safetensors cannot tell.
    tensors = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    text = json.dumps(document, allow_nan=False)
    metadata = {"sktorch": text, "format": str(_FORMAT), "sha256": _checksum(text, tensors)}
    content = safetensors.torch.save(tensors, metadata)
    write_whole(path, lambda file: file.write(content))


def read_model(path):
    """Return the document and the tensors of a file.

    Raises
    ------
    DamagedModelError
        If the file is not as it was written, or is no model at all.
    """
    path = os.fspath(path)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = file.keys()  # of a file, which is no dict and cannot be iterated
            tensors = {name: file.get_tensor(name) for name in names}
    except OSError:
        raise
    except Exception as error:
        raise DamagedModelError(f"{path!r} {_complaint(path)} ({error}).") from error
    if "sktorch" not in metadata:
        raise DamagedModelError(
            f"{path!r} is a file of safetensors that no estimator has saved, or damaged. Weights "
            "alone go into a net by sktorch.nets.load_matching."
        )
    text = metadata["sktorch"]
    if _checksum(text, tensors) != metadata.get("sha256"):
        raise DamagedModelError(
            f"{path!r} is damaged: what was read does not match its checksum. Load it from "
            "another copy, or fit again."
        )
    document = json.loads(text)
    if metadata.get("format") != str(_FORMAT):
        raise ValueError(
            f"{path!r} was saved in format {metadata.get('format')} by sktorch "
            f"{document.get('versions', {}).get('sktorch')}, and this version reads format "
            f"{_FORMAT}. Install that version, or one that came after it."
        )
    return document, tensors


def _checksum(text, tensors):
    return digest([text, sorted(tensors.items())])


def _complaint(path):
    """Say what is wrong with a file that safetensors cannot read."""
    with open(path, "rb") as file:
        head = file.read(2)
    if not head:
        return "is empty: it is damaged, load another copy"
    for start, kind in _FOREIGN.items():
        if head.startswith(start):
            return f"is no file of save, but {kind}; or it is damaged"
    return "is damaged, or no file of save: load another copy"
