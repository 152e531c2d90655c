"""torch's Datasets, and how scikit-learn slices them."""

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from sktorch.data.collate import FORMS, collated, joined, parts_of, to_array
from sktorch.specs import describe

__all__ = ["DatasetSlice", "is_dataset", "plain"]

# Samples that are read one by one and stacked at once.
_STACKED = 1024


def is_dataset(value):
    """Whether ``value`` is one of torch's sources of samples, or a slice of one."""
    return isinstance(value, Dataset | DataLoader | DatasetSlice)


class DatasetSlice:
    """A map-style Dataset that scikit-learn can split.

    ``GridSearchCV``, ``cross_val_score`` and ``train_test_split`` index X with arrays of row
    numbers, which a Dataset does not take. This does, and reads no sample before a fit does.

    Parameters
    ----------
    dataset : torch.utils.data.Dataset
        With ``__len__`` and ``__getitem__``. Its samples are ``(x, y)``, ``(x, y, weight)`` or a
        dict that names its target ``labels``, ``label``, ``y`` or ``target``.
    indices : ndarray of int, optional
        Rows of ``dataset``; by default all.

    Attributes
    ----------
    shape : tuple of int
        ``(n_samples,)``.
    y : ndarray of shape (n_samples, ...)
        The targets, read in one pass when first asked for; slices share them.

    Examples
    --------
    >>> import torch
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.model_selection import cross_val_score
    >>> from sktorch import TorchClassifier
    >>> from sktorch.data import DatasetSlice
    >>> class Flowers(torch.utils.data.Dataset):
    ...     def __init__(self):
    ...         self.X, self.y = load_iris(return_X_y=True)
    ...     def __len__(self):
    ...         return len(self.X)
    ...     def __getitem__(self, i):
    ...         return self.X[i], self.y[i]
    >>> data = DatasetSlice(Flowers())
    >>> clf = TorchClassifier(lr=0.01, random_state=0)
    >>> bool(cross_val_score(clf, data, data.y, cv=3).mean() > 0.9)
    True
    """

    def __init__(self, dataset, indices=None):
        if isinstance(dataset, IterableDataset) or not hasattr(dataset, "__getitem__"):
            raise ValueError(
                f"dataset must have __len__ and __getitem__, got {describe(type(dataset))}. What "
                "can only be iterated cannot be split; pass it to fit as it is."
            )
        self.dataset = dataset
        self.indices = np.arange(length_of(dataset)) if indices is None else np.asarray(indices)
        self._known = KnownTargets()

    @property
    def shape(self):
        """``(n_samples,)``."""
        return (len(self.indices),)

    def __len__(self):
        return len(self.indices)

    def __getitem__(self, rows):
        """Return one sample for a number, and a slice of the Dataset for anything else."""
        if isinstance(rows, tuple) and rows[1:] == (Ellipsis,):
            rows = rows[0]
        chosen = self.indices[rows]
        if np.ndim(chosen) == 0:
            return self.dataset[int(chosen)]
        part = DatasetSlice(self.dataset, chosen)
        part._known = self._known
        return part

    @property
    def y(self):
        """The targets of the samples."""
        return self.targets()[0]

    def targets(self):
        """Return the targets and the weights of the samples, each an array or None."""
        missing = np.setdiff1d(self.indices, self._known.numbers)
        if len(missing):
            self._known.add(missing, *self._read_targets(missing))
        return self._known.pick(self.indices)

    def _read_targets(self, numbers):
        labels = getattr(self.dataset, "targets", None)
        if isinstance(labels, list | np.ndarray | torch.Tensor) and labels_agree(
            self.dataset, labels
        ):
            return np.asarray(labels)[numbers], None
        ys, weights = [], []
        for start in range(0, len(numbers), _STACKED):
            _, y, weight = self.read_samples(numbers[start : start + _STACKED])
            if y is None:
                raise ValueError(
                    f"X: samples of {describe(self.dataset)} hold no target. {FORMS} Or pass y."
                )
            ys.append(to_array(y, "y"))
            weights.append(None if weight is None else to_array(weight, "sample_weight"))
        return joined(ys), None if weights[0] is None else joined(weights)

    def unaugmented(self):
        """Return the same samples, of a Dataset without its augmentation where it has any."""
        dataset = unaugmented(self.dataset)
        if dataset is self.dataset:
            return self
        part = DatasetSlice(dataset, self.indices)
        part._known = self._known
        return part

    def read(self, rows):
        """Return ``(x, y, weight)`` of a slice or an array of rows, stacked."""
        return self.read_samples(self.indices[rows])

    def read_samples(self, numbers):
        """Return ``(x, y, weight)`` of samples of the Dataset by their numbers, stacked."""
        samples = read_all(self.dataset, numbers)
        return parts_of(collated(samples, numbers, self.dataset))


class KnownTargets:
    """Targets that were read already, shared by all slices of a Dataset."""

    def __init__(self):
        self.numbers = np.empty(0, dtype=np.int64)
        self.y = self.weight = None

    def add(self, numbers, y, weight):
        """Keep the targets and weights of samples by their numbers."""
        if self.y is not None:
            numbers, y = np.concatenate([self.numbers, numbers]), joined([self.y, y])
            weight = None if weight is None else np.concatenate([self.weight, weight])
        order = np.argsort(numbers)
        self.numbers, self.y = numbers[order], y[order]
        self.weight = None if weight is None else weight[order]

    def pick(self, numbers):
        """Return targets and weights of samples that are known."""
        places = np.searchsorted(self.numbers, numbers)
        return self.y[places], None if self.weight is None else self.weight[places]


def length_of(dataset):
    """Return how many samples a Dataset says that it has."""
    try:
        return len(dataset)
    except (TypeError, NotImplementedError) as error:
        raise ValueError(
            f"X: {describe(type(dataset))} has no length ({error}). Give it __len__, or derive it "
            "from torch.utils.data.IterableDataset."
        ) from error


def labels_agree(dataset, labels):
    """Whether ``dataset.targets`` are the targets of its samples, so that none need be read."""
    if len(labels) != len(dataset) or getattr(dataset, "target_transform", None) is not None:
        return False
    for number in {0, len(labels) - 1}:
        _, y, weight = parts_of(dataset[number])
        if weight is not None or y is None or np.ndim(y) or y != labels[number]:
            return False
    return True


def read_all(dataset, numbers):
    """Return the samples of these numbers as a list."""
    numbers = numbers.tolist()
    try:
        if hasattr(dataset, "__getitems__"):
            return dataset.__getitems__(numbers)
        return [dataset[number] for number in numbers]
    except (IndexError, KeyError) as error:
        raise ValueError(
            f"X: {describe(type(dataset))} has {len(dataset)} samples by its __len__, but one of "
            f"numbers {min(numbers)} to {max(numbers)} is not there ({type(error).__name__}: "
            f"{error}). Make __len__ say how many there are."
        ) from error


def unaugmented(dataset):
    """Return a Dataset as a net is to be tried on it, also where it is a part of one."""
    if hasattr(dataset, "unaugmented"):
        return dataset.unaugmented()
    if type(dataset) is Subset:
        inner = unaugmented(dataset.dataset)
        return dataset if inner is dataset.dataset else Subset(inner, dataset.indices)
    return dataset


def plain(dataset):
    """Return the tensors of a ``TensorDataset``, or of a part of one, or None.

    They never change, so that they need not be read sample by sample.
    """
    index = None
    while type(dataset) is Subset:
        part = np.asarray(dataset.indices)
        index = part if index is None else part[index]
        dataset = dataset.dataset
    if type(dataset) is not TensorDataset:
        return None
    if index is None:
        return dataset.tensors
    rows = torch.from_numpy(index)
    return tuple(tensor[rows.to(tensor.device)] for tensor in dataset.tensors)
