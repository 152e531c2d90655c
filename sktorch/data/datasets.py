"""torch's Datasets: as scikit-learn slices them, and as a fit reads them."""

from collections.abc import Mapping
from operator import length_hint

import numpy as np
import torch
from torch.utils.data import (
    DataLoader,
    Dataset,
    IterableDataset,
    Subset,
    TensorDataset,
    default_collate,
)

from sktorch.fields import each, leaves
from sktorch.specs import describe

__all__ = ["DatasetSlice", "Samples", "Stream", "is_dataset", "parts_of", "plain", "to_array"]

_TARGETS = ("labels", "label", "y", "target")
_WEIGHT = "sample_weight"

_FORMS = (
    "A sample is x, (x, y), (x, y, weight), or a dict with the target as one of "
    f"{', '.join(map(repr, _TARGETS))}; x is a tensor, an array or a number, or a dict or tuple of "
    "them."
)

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
                    f"X: samples of {describe(self.dataset)} hold no target. {_FORMS} Or pass y."
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
        try:
            batch = collated(samples)
        except (TypeError, RuntimeError, ValueError, AttributeError, KeyError) as error:
            raise ValueError(
                f"X: samples of {describe(type(self.dataset))} cannot be stacked: "
                f"{_misfit(samples, numbers)} ({type(error).__name__}: {_first_line(error)})"
            ) from error
        return parts_of(batch)


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


def collated(samples):
    """Return ``default_collate`` of samples, arrays of numpy being stacked by numpy, in a third."""
    if not isinstance(samples[0], tuple | list):
        return column(samples)
    return [column(values) for values in zip(*samples, strict=True)]


def column(values):
    """Return one part of all samples."""
    if isinstance(values[0], np.ndarray):
        return torch.from_numpy(np.stack(values))
    if isinstance(values[0], np.number):
        return torch.from_numpy(np.array(values))
    return default_collate(list(values))


def parts_of(batch):
    """Return ``(x, y, weight)`` of a sample or a batch, each None where there is none."""
    if isinstance(batch, Mapping):
        targets = [name for name in _TARGETS if name in batch]
        if len(targets) > 1:
            raise ValueError(
                f"X: a dict sample has more than one target, {' and '.join(targets)}. {_FORMS}"
            )
        inputs = {k: v for k, v in batch.items() if k not in (*targets, _WEIGHT)}
        y = batch[targets[0]] if targets else None
        return _inputs(inputs), y, batch.get(_WEIGHT)
    if isinstance(batch, list | tuple):
        if not 1 <= len(batch) <= 3:
            raise ValueError(f"X: a sample is a tuple of {len(batch)} items. {_FORMS}")
        x, y, weight = (*batch, None, None)[:3]
        return _inputs(x), y, weight
    return batch, None, None


def _inputs(x):
    """Return one input as it is, and several as a dict or a tuple."""
    if isinstance(x, Mapping):
        return dict(x) if len(x) != 1 else next(iter(x.values()))
    if isinstance(x, list | tuple):
        return tuple(x) if len(x) != 1 else x[0]
    return x


def numeric_inputs(x, source):
    """Refuse inputs that are no arrays of numbers."""
    parts = leaves(x)
    for _, part in parts:
        numeric = isinstance(part, torch.Tensor) or (
            isinstance(part, np.ndarray) and part.dtype.kind in "biuf"
        )
        if not numeric:
            raise ValueError(
                f"X: {describe(source)} gives {describe(part)} for x, which is no tensor of "
                f"numbers. {_FORMS}"
            )
    if not parts:
        raise ValueError(f"X: {describe(source)} gives no input for the net. {_FORMS}")
    return x


def to_array(values, name):
    """Return targets or weights as an array of numpy."""
    if isinstance(values, torch.Tensor):
        values = values.detach().cpu()
        return (values.float() if values.dtype is torch.bfloat16 else values).numpy()
    array = np.asarray(values)
    if array.dtype == object:
        raise ValueError(
            f"{name}: a Dataset gives {describe(values)} for it, which is no array. {_FORMS}"
        )
    return array


def joined(arrays):
    """Return arrays one after the other, or say that they do not fit."""
    try:
        return np.concatenate(arrays)
    except ValueError as error:
        shapes = sorted({array.shape[1:] for array in arrays})
        raise ValueError(f"y: targets have unequal shapes: {shapes}. Make them alike.") from error


def _misfit(samples, numbers):
    """Say in words why samples cannot be stacked."""
    outlines = [_outline(sample) for sample in samples]
    other = next((i for i, found in enumerate(outlines) if found != outlines[0]), None)
    if other is None:
        return f"sample {numbers[0]} is {outlines[0]}. {_FORMS}"
    return (
        f"sample {numbers[0]} is {outlines[0]}, sample {numbers[other]} is {outlines[other]}. "
        "Make them one size (ImageFolder(size=...), or pad), or pass a DataLoader with a "
        "collate_fn."
    )


def _outline(sample):
    if isinstance(sample, Mapping):
        return f"{{{', '.join(f'{k}: {_outline(v)}' for k, v in sample.items())}}}"
    if isinstance(sample, list | tuple):
        return f"({', '.join(_outline(item) for item in sample)})"
    if hasattr(sample, "shape"):
        return f"{type(sample).__name__} of shape {tuple(sample.shape)}"
    return f"a {type(sample).__name__}"


def _first_line(error):
    return str(error).splitlines()[0] if str(error) else ""


class Samples:
    """A map-style Dataset as a fit reads it; see ``sktorch.data.inputs``.

    Parameters
    ----------
    samples : DatasetSlice
    carries_y : bool
        Whether y and weights are read together with x.
    """

    checked = False

    def __init__(self, samples, carries_y=False):
        self.samples = samples
        self.carries_y = carries_y

    def __len__(self):
        return len(self.samples)

    @property
    def elsewhere(self):
        """See ``sktorch.data.inputs``."""
        return f"X is a Dataset ({type(self.samples.dataset).__name__}), which may draw anew"

    def take(self, index):
        """See ``sktorch.data.inputs``."""
        return Samples(self.samples[index], self.carries_y)

    def unaugmented(self):
        """Return the same samples as a net is to be tried on them.

        A Dataset with a method of this name is asked for them.
        """
        return Samples(self.samples.unaugmented(), self.carries_y)

    def read(self, rows):
        """See ``sktorch.data.inputs``."""
        x, y, weight = self.samples.read(rows)
        return numeric_inputs(x, self.samples.dataset), y, weight

    def head(self, n_rows):
        """See ``sktorch.data.inputs``."""
        return self.read(slice(0, n_rows))

    def users(self):
        """See ``sktorch.data.inputs``."""
        return self.samples


class Stream:
    """A DataLoader or an IterableDataset: batches in an order of their own.

    Parameters
    ----------
    source : DataLoader or IterableDataset
        A DataLoader's own batches are taken as they come.
    """

    checked = False
    carries_y = True

    def __init__(self, source):
        self.source = source
        self.n_batches = None
        self.n_samples = None
        self._head = None

    def __len__(self):
        raise TypeError(f"{describe(self.source)} has no known number of samples")

    @property
    def elsewhere(self):
        """See ``sktorch.data.inputs``."""
        kind = type(self.source).__name__
        return f"X is a {kind}, which gives batches in an order of its own"

    @property
    def has_batches(self):
        """Whether the batches are those of a DataLoader."""
        return isinstance(self.source, DataLoader)

    def batches(self, batch_size, workers=0):
        """Yield ``(x, y, weight)`` of each batch of one pass."""
        loader = self.source
        if not self.has_batches:
            loader = DataLoader(loader, batch_size=batch_size, num_workers=workers)
        n_samples = 0
        for batch in self._collated(iter(loader)):
            x, y, weight = parts_of(batch)
            numeric_inputs(x, self.source)
            if self._head is None:
                self._head = x, y, weight
            n_samples += _length(x)
            yield x, y, weight
        self._check_count(n_samples)

    def _collated(self, batches):
        while True:
            try:
                batch = next(batches)
            except StopIteration:
                return
            except (TypeError, RuntimeError) as error:
                if "collate" not in str(error) and "equal size" not in str(error):
                    raise
                raise ValueError(
                    f"X: samples of {describe(type(self.source))} cannot be stacked "
                    f"({_first_line(error)}). Make them tensors of one size, or pass a DataLoader "
                    "with a collate_fn."
                ) from error
            yield batch

    def _check_count(self, n_samples):
        if n_samples == 0:
            raise ValueError(
                f"X: {describe(type(self.source))} gave no samples in this pass. Its __iter__ must "
                "begin anew each time; a generator can be gone through once."
            )
        source = self.source.dataset if self.has_batches else self.source
        if isinstance(source, IterableDataset) and hasattr(source, "__len__"):
            dropped = self.has_batches and self.source.drop_last
            if len(source) != n_samples and not dropped:
                raise ValueError(
                    f"X: {describe(type(source))} has {len(source)} samples by its __len__, and "
                    f"gave {n_samples}. Make __len__ say how many there are, or remove it."
                )

    def first_pass(self, batch_size):
        """Go through once; return all targets and weights as arrays, the latter or None."""
        ys, weights = [], []
        for _, y, weight in self.batches(batch_size):
            if y is None:
                raise ValueError(f"X: {describe(self.source)} gives no target. {_FORMS}")
            ys.append(to_array(y, "y"))
            weights.append(None if weight is None else to_array(weight, "sample_weight"))
        y = joined(ys)
        self.n_batches, self.n_samples = len(ys), len(y)
        return y, None if weights[0] is None else joined(weights)

    def count(self, batch_size):
        """Return how many batches one pass has, or None where nobody knows."""
        if self.has_batches:
            return self.n_batches or length_hint(self.source, 0) or None
        n_samples = self.n_samples or length_hint(self.source, 0)
        return -(-n_samples // batch_size) if n_samples else None

    def head(self, n_rows):
        """See ``sktorch.data.inputs``."""
        if self._head is None:
            next(self.batches(max(n_rows, 2)))
        x, y, weight = self._head
        cut = _cut(n_rows)
        return each(cut, x), None if y is None else cut(y), None if weight is None else cut(weight)

    def users(self):
        """See ``sktorch.data.inputs``."""
        return self.source


def _length(x):
    return len(leaves(x)[0][1])


def _cut(n_rows):
    return lambda part: part[:n_rows]


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
