"""Datasets in scikit-learn's tools, and what is said of those that break their promise."""

import warnings

import joblib
import numpy as np
import pytest
import torch
from sklearn.model_selection import (
    GridSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    train_test_split,
)
from skorch.helper import SliceDataset
from test_inputs import DIGITS, LABELS, Iterated, N, Named, Rows, classifier, same_weights
from torch.utils.data import DataLoader, Dataset, IterableDataset

from sktorch import TorchClassifier, TorchRegressor
from sktorch.data import DatasetSlice

GRID = {"lr": [1e-4, 1e-2]}


def searched(X, y, **settings):
    search = GridSearchCV(classifier(shuffle=True), GRID, cv=StratifiedKFold(3), **settings)
    return search.fit(X, y)


@pytest.mark.parametrize("make", [Rows, Named])
@pytest.mark.parametrize("n_jobs", [None, 2])
def test_a_search_over_a_slice_of_a_dataset_is_that_over_the_array(make, n_jobs):
    data = DatasetSlice(make())
    search, plain = searched(data, data.y, n_jobs=n_jobs), searched(DIGITS, LABELS)
    for name in ("mean_test_score", "std_test_score"):
        assert np.array_equal(search.cv_results_[name], plain.cv_results_[name])
    assert search.best_params_ == {"lr": 1e-2}
    assert same_weights(search.best_estimator_.net_, plain.best_estimator_.net_)
    assert np.array_equal(search.predict(data), plain.predict(DIGITS))


def test_a_search_over_skorchs_slices_is_that_over_the_array():
    X, y = SliceDataset(Rows(), idx=0), SliceDataset(Rows(), idx=1)
    plain = searched(DIGITS, LABELS)
    for labels in (LABELS, np.asarray(list(y))):
        search = searched(X, labels)
        assert np.array_equal(
            search.cv_results_["mean_test_score"], plain.cv_results_["mean_test_score"]
        )
    assert same_weights(classifier().fit(X, y).net_, classifier().fit(DIGITS, LABELS).net_)


def test_a_search_needs_no_y_where_samples_hold_it():
    search = GridSearchCV(classifier(), GRID, cv=3).fit(DatasetSlice(Rows()))
    assert search.best_params_ == {"lr": 1e-2}
    assert search.score(DatasetSlice(Rows())) > 0.7


def test_the_other_tools_take_a_slice():
    data = DatasetSlice(Rows())
    clf = classifier()
    assert np.array_equal(
        cross_val_score(clf, data, data.y, cv=3), cross_val_score(clf, DIGITS, LABELS, cv=3)
    )
    assert np.array_equal(
        cross_val_predict(clf, data, data.y, cv=3), cross_val_predict(clf, DIGITS, LABELS, cv=3)
    )
    train, test = train_test_split(data, random_state=0)
    X_train, X_test, _, y_test = train_test_split(DIGITS, LABELS, random_state=0)
    assert np.array_equal(test.y, y_test)
    assert len(train) == len(X_train)
    assert np.array_equal(np.stack([x for x, _ in test]), X_test)


def test_targets_of_a_slice_are_read_once():
    class Counted(Rows):
        reads = 0

        def __getitem__(self, i):
            type(self).reads += 1
            return super().__getitem__(i)

    data = DatasetSlice(Counted())
    assert data.shape == (N,)
    assert np.array_equal(data[data.y == 3].y, LABELS[LABELS == 3])
    assert np.array_equal(data[10:20].y, LABELS[10:20])
    assert Counted.reads == N
    assert data[3][1] == LABELS[3]
    assert np.array_equal(DatasetSlice(Counted(), np.array([5, 2, 5])).y, LABELS[[5, 2, 5]])


def test_targets_that_a_dataset_lists_need_no_pass():
    class Listed(Rows):
        reads = 0

        def __getitem__(self, i):
            type(self).reads += 1
            return super().__getitem__(i)

    data = Listed()
    data.targets = LABELS.tolist()
    assert np.array_equal(DatasetSlice(data).y, LABELS)
    assert Listed.reads < 5
    data.targets = [9 - label for label in LABELS]  # not those of the samples
    assert np.array_equal(DatasetSlice(data).y, LABELS)


def test_workers_are_not_started_in_a_worker():
    def fit():
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            clf = classifier(max_epochs=1, num_workers=2).fit(Rows())
        return [str(w.message) for w in caught], clf.score(Rows())

    here, there = fit(), joblib.Parallel(n_jobs=2)([joblib.delayed(fit)()] * 2)[0]
    assert not here[0]
    assert any("num_workers=2 inside a worker process" in text for text in there[0])
    assert here[1] == there[1]


def test_an_epoch_that_ends_early_leaves_no_thread():
    import threading

    class Fails(Exception):
        pass

    class Last(Rows):
        def __getitem__(self, i):
            if i == N - 1:
                raise Fails("the disk is gone")
            return super().__getitem__(i)

    with pytest.raises(Fails, match=r"the disk is gone"):
        classifier().fit(DatasetSlice(Last()), LABELS)
    assert not [t for t in threading.enumerate() if t.name.startswith("sktorch-read")]


# What is wrong, and what is said of it --------------------------------------------------------


class OfImages(Dataset):
    def __init__(self, sizes):
        self.sizes = sizes

    def __len__(self):
        return len(self.sizes)

    def __getitem__(self, i):
        return np.zeros((1, *self.sizes[i]), dtype=np.float32), i % 2


def of(sample):
    return DatasetSlice([sample] * 20)


class Lies(Rows):
    def __len__(self):
        return 2 * N


class LiesWhileIterated(Iterated):
    def __len__(self):
        return N + 1


class Once(IterableDataset):
    def __init__(self):
        self.samples = zip(DIGITS, LABELS, strict=True)

    def __iter__(self):
        return self.samples


class NoLength(Dataset):
    def __getitem__(self, i):
        return DIGITS[i], LABELS[i]


class Holed(Rows):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return (x if i != 500 else x * np.nan), y


UNEQUAL = [(8, 8)] * 19 + [(8, 9)]

WRONG = {
    "strings": (of(("a text", 1)), r"gives 'a text'|gives .*a text.* no tensor of numbers"),
    "None": (of((None, 1)), r"cannot be stacked: sample 0 is \(a NoneType, a int\)"),
    "four items": (of((1, 2, 3, 4)), r"a sample is a tuple of 4 items. A sample is x, \(x, y\)"),
    "no target": (of(torch.ones(3)), r"hold no target"),
    "two targets": (of({"x": torch.ones(3), "y": 1, "label": 1}), r"more than one target"),
    "only a target": (of({"y": 1}), r"gives no input for the net"),
    "a ragged target": (
        DatasetSlice([(torch.ones(3), [1] * (1 + i % 2)) for i in range(20)]),
        r"cannot be stacked",
    ),
    "images of unequal size": (
        OfImages(UNEQUAL),
        r"sample 0 is \(ndarray of shape \(1, 8, 8\), a int\), sample 19 is .*\(1, 8, 9\).*size=",
    ),
    "images of unequal size in a DataLoader": (
        DataLoader(OfImages(UNEQUAL), batch_size=20),
        r"cannot be stacked .*collate_fn",
    ),
    "a length that lies": (Lies(), r"has 1200 samples by its __len__, but .* is not there"),
    "a length that lies, iterated": (
        LiesWhileIterated(),
        r"has 601 samples by its __len__, and gave 600",
    ),
    "no length": (NoLength(), r"has no length .*__len__.*IterableDataset"),
    "nothing": (DatasetSlice([]), r"has 0 samples"),
    "a second pass": (Once(), r"gave no samples in this pass.*begin anew"),
    "NaN": (Holed(), r"X contains NaN or infinity"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_dataset_that_gives_the_wrong_thing_is_told_so(wrong):
    X, message = WRONG[wrong]
    with pytest.raises(ValueError, match=message) as caught:
        TorchClassifier(max_epochs=1).fit(X)
    assert str(caught.value).startswith("X")


@pytest.mark.parametrize("data", [Iterated(), DataLoader(Rows(), batch_size=50)])
@pytest.mark.parametrize("settings", [{"early_stopping": True}, {"validation_fraction": 0.2}])
def test_rows_cannot_be_held_out_of_what_is_iterated(data, settings):
    clf = TorchClassifier(max_epochs=1, **settings)
    with pytest.raises(ValueError, match=r"validation_fraction=0\.. cannot be held out.*X_val"):
        clf.fit(data)
    clf.set_params(early_stopping="auto", validation_fraction=0.1).fit(data, X_val=data)
    assert "val_loss" in clf.history_


def test_a_stream_takes_no_y_and_no_schedule_of_unknown_length():
    with pytest.raises(ValueError, match=r"y is passed beside a DataLoader"):
        classifier().fit(DataLoader(Rows(), batch_size=50), LABELS)
    with pytest.raises(ValueError, match=r"lr_scheduler='onecycle' needs the number of batches"):
        classifier(lr_scheduler="onecycle", classes=range(10)).fit(Iterated())
    with pytest.raises(ValueError, match=r"sample_weight is passed beside a Dataset"):
        classifier().fit(Rows(), sample_weight=np.ones(N))
    with pytest.raises(ValueError, match=r"y is None, and the samples of X hold no target"):
        classifier().fit(Rows()).score(DatasetSlice([(x,) for x in DIGITS]))
    clf = classifier(lr_scheduler="onecycle", lr_scheduler__max_lr=0.1).fit(Iterated())
    assert clf.history_["lr"].iloc[-1] < clf.history_["lr"].max()


def test_data_that_lies_elsewhere_is_checked_as_it_is_read(tmp_path):
    X = DIGITS.copy()
    X[-1, 0] = np.inf
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    with pytest.raises(ValueError, match=r"X contains NaN or infinity"):
        classifier().fit(mapped, LABELS)
    with pytest.raises(ValueError, match=r"at least 2 axes"):
        classifier().fit(mapped[:, 0], LABELS)
    clf = classifier().fit(DIGITS, LABELS)
    with pytest.raises(ValueError, match=r"3 features, but .* 64 features"):
        clf.predict(mapped[:, :3])
    words = np.array([["a"] * 2] * 3)
    np.save(tmp_path / "words.npy", words)
    with pytest.raises(ValueError, match=r"X must hold numbers, got dtype <U1"):
        classifier().fit(np.load(tmp_path / "words.npy", mmap_mode="r"), [0, 1, 2])


def test_a_single_batch_holds_the_rows_that_a_dataset_draws_anew():
    """Augmentation is drawn at each reading, and only by samples that are trained on."""

    class Noisy(Rows):
        def __getitem__(self, i):
            x, y = super().__getitem__(i)
            return x + np.float32(next(self.draws)), y

    data = Noisy()
    data.draws = iter(np.linspace(0, 1e-3, 100_000))
    reg = TorchRegressor(max_epochs=3, shuffle=False, random_state=0, lr=0).fit(data)
    assert reg.history_["train_loss"].nunique() == 3


class Augmented(Rows):
    def __getitem__(self, i):
        x, y = super().__getitem__(i)
        return x + 0.1 * torch.randn(64).numpy(), y


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
@pytest.mark.parametrize("loader", [False, True])
def test_what_a_dataset_draws_goes_by_random_state(workers, dropout, loader):
    def fit(seed):
        data = Augmented()
        if loader:
            data = DataLoader(data, batch_size=50, shuffle=True, num_workers=workers)
        clf = TorchClassifier(
            net__dropout=dropout,
            dtype="float32",
            batch_size=50,
            max_epochs=2,
            random_state=seed,
            num_workers=0 if loader else workers,
        )
        return clf.fit(data).net_

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = fit(0)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert same_weights(first, fit(0))
    assert not same_weights(first, fit(1))


def test_the_backend_of_stacks_trains_streamed_data_one_by_one():
    data = DatasetSlice(Rows())
    search = GridSearchCV(classifier(), GRID, cv=3)
    plain = search.fit(DIGITS, LABELS).cv_results_["mean_test_score"]
    with (
        joblib.parallel_config(backend="sktorch"),
        pytest.warns(UserWarning, match=r"one by one: the data is streamed"),
    ):
        stacked = search.fit(data, LABELS).cv_results_["mean_test_score"]
    assert np.array_equal(stacked, plain)
    with (
        joblib.parallel_config(backend="sktorch"),
        pytest.warns(UserWarning, match=r"one by one: the validation data is streamed"),
    ):
        search.fit(DIGITS, LABELS, X_val=data)
