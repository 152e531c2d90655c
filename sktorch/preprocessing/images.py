"""Folders of images, by class."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import Dataset

__all__ = ["ImageFolder"]


class ImageFolder(Dataset):
    """Images in a folder for each class: ``root/cat/1.png``, ``root/dog/2.jpg``.

    Its samples are ``(image, name of the folder)``; pass it to ``fit`` as X, without y, and
    predictions are names of folders. Images are opened when they are read. Needs Pillow:
    ``pip install "sktorch[images]"``.

    Parameters
    ----------
    root : str or path-like
    size : int, (int, int) or None, default=None
        Height and width to resize to; None leaves each image as it is, and then all must be of one
        size.
    transform : callable, optional
        What is done to each image, a ``PIL.Image.Image``: one of ``torchvision.transforms``, or any
        function. What it returns is the sample: a tensor or an array, or an image again.
    augment : callable, optional
        The same, done before ``transform`` to the images that a net is trained on, and to none that
        it is validated on or predicts. What it draws by torch goes by ``random_state``.
    mode : str, default="RGB"
        Colours, as Pillow calls them: "RGB", "L" for one channel of grey, "RGBA".
    scale : bool, default=False
        Whether images that no ``transform`` made tensors of are float32 in [0, 1], and not uint8.

    Attributes
    ----------
    classes : list of str
        Names of the folders, in the order of the alphabet.
    paths : list of Path
        Of each image.
    targets : list of str
        The class of each image.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from PIL import Image
    >>> from sktorch.preprocessing import ImageFolder
    >>> root = pathlib.Path(tempfile.mkdtemp())
    >>> for name, colour in [("cold", "blue"), ("warm", "red")]:
    ...     (root / name).mkdir()
    ...     Image.new("RGB", (20, 10), colour).save(root / name / "0.png")
    >>> image, label = ImageFolder(root, size=8)[0]
    >>> image.shape, label
    (torch.Size([3, 8, 8]), 'cold')
    """

    def __init__(self, root, size=None, transform=None, *, augment=None, mode="RGB", scale=False):
        extensions = _pillow().registered_extensions()
        self.root = Path(root)
        self.size = _height_and_width(size)
        self.transform = transform
        self.augment = augment
        self.mode = mode
        self.scale = scale
        if not self.root.is_dir():
            raise ValueError(f"root: {self.root} is no folder. Pass one with a folder a class.")
        folders = sorted(path for path in self.root.iterdir() if path.is_dir())
        self.paths = [
            path
            for folder in folders
            for path in sorted(folder.rglob("*"))
            if path.suffix.lower() in extensions
        ]
        self.targets = [path.relative_to(self.root).parts[0] for path in self.paths]
        self.classes = sorted({*self.targets})
        if not self.paths:
            raise ValueError(
                f"root: no folder of {self.root} has an image. Expected {self.root}/<class>/*.png "
                f"or the like; found the folders {[folder.name for folder in folders]}."
            )

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, number):
        """Return image ``number``, ``(channels, height, width)``, and its class."""
        return self._tensor(self._read(self.paths[number])), self.targets[number]

    def unaugmented(self):
        """Return the same images without ``augment``, as a net is to be tried on them."""
        twin = type(self).__new__(type(self))
        vars(twin).update({**vars(self), "augment": None})
        return twin

    def _read(self, path):
        try:
            with _pillow().open(path) as image:
                image = image.convert(self.mode)
        except OSError as error:
            raise ValueError(f"{path} cannot be read as an image: {error}") from error
        if self.size is not None:
            image = image.resize(self.size[::-1])
        for change in (self.augment, self.transform):
            image = image if change is None else change(image)
        return image

    def _tensor(self, image):
        if isinstance(image, torch.Tensor):
            return image
        is_image = not isinstance(image, np.ndarray)
        pixels = np.array(image)
        if pixels.dtype == object or pixels.ndim not in (2, 3):
            raise ValueError(
                f"transform must return an image, a tensor or an array, got {type(image).__name__}."
            )
        if not is_image:
            return torch.from_numpy(pixels)
        # Pillow has channels last, and none for grey.
        pixels = pixels[..., None] if pixels.ndim == 2 else pixels
        pixels = torch.from_numpy(pixels).permute(2, 0, 1).contiguous()
        return pixels.float() / 255 if self.scale else pixels


def _pillow():
    try:
        from PIL import Image
    except ImportError as error:
        raise ImportError(
            'ImageFolder needs the package Pillow: pip install "sktorch[images]".'
        ) from error
    return Image


def _height_and_width(size):
    pair = (size, size) if isinstance(size, int) else size
    if pair is None:
        return None
    pair = tuple(pair) if isinstance(pair, list | tuple) else ()
    if len(pair) != 2 or any(isinstance(n, bool) or not isinstance(n, int) or n < 1 for n in pair):
        raise ValueError(
            f"size must be a positive int, a pair (height, width) or None, got {size!r}."
        )
    return pair
