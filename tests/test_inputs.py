"""X in every form gives what the same rows give as a plain array."""

import pickle
import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from scipy import sparse
from sklearn.datasets import load_digits
from sklearn.utils.validation import validate_data
from torch import nn
from torch.utils.data import DataLoader, Dataset, IterableDataset, Subset, TensorDataset

from sktorch import TorchClassifier, TorchRegressor
from sktorch.data import DatasetSlice
from sktorch.data.checks import check_X

N = 600
DIGITS, LABELS = load_digits(return_X_y=True)
DIGITS, LABELS = (DIGITS[:N] / 16).astype(np.float32), LABELS[:N]


class Rows(Dataset):
    """Samples as a user writes them: ``(x, y)``."""

    def __init__(self, X=DIGITS, y=LABELS):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], self.y[i]


class Named(Rows):
    def __getitem__(self, i):
        return {"pixels": self.X[i], "label": int(self.y[i])}


class Iterated(IterableDataset):
    def __init__(self, X=DIGITS, y=LABELS):
        self.X, self.y = X, y

    def __iter__(self):
        return zip(self.X, self.y, strict=True)


class Sliced:
    """What h5py and zarr give: rows in ascending order, no fancy indexing beyond that."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, array.dtype

    def __getitem__(self, rows):
        if not isinstance(rows, slice):
            assert (np.diff(rows) > 0).all()
        return self.array[rows]


def memmap(tmp_path):
    np.save(tmp_path / "X.npy", DIGITS)
    return np.load(tmp_path / "X.npy", mmap_mode="r")


# What fit gets, and where the batches then come from.
FORMS = {
    "frame of pandas": (lambda path: (pd.DataFrame(DIGITS), LABELS), "resident"),
    "frame of polars": (lambda path: (pl.DataFrame(DIGITS), pl.Series(LABELS)), "resident"),
    "tensor": (lambda path: (torch.from_numpy(DIGITS), torch.from_numpy(LABELS)), "resident"),
    "sparse": (lambda path: (sparse.csr_matrix(DIGITS), LABELS), "streamed"),
    "sparse array": (lambda path: (sparse.coo_array(DIGITS), LABELS), "streamed"),
    "memory map": (lambda path: (memmap(path), LABELS), "streamed"),
    "sliced": (lambda path: (Sliced(DIGITS), LABELS), "streamed"),
    "dict of one": (lambda path: ({"pixels": DIGITS}, LABELS), "resident"),
    "Dataset": (lambda path: (Rows(), None), "streamed"),
    "Dataset and y": (lambda path: (Rows(), LABELS), "streamed"),
    "Dataset of dicts": (lambda path: (Named(), None), "streamed"),
    "DatasetSlice": (lambda path: (DatasetSlice(Rows()), None), "streamed"),
    "Subset": (lambda path: (Subset(Rows(), range(N)), None), "streamed"),
    "TensorDataset": (
        lambda path: (TensorDataset(torch.from_numpy(DIGITS), torch.from_numpy(LABELS)), None),
        "resident",
    ),
    "Subset of a TensorDataset": (
        lambda path: (
            Subset(TensorDataset(*map(torch.from_numpy, (DIGITS, LABELS))), [*range(N)]),
            None,
        ),
        "resident",
    ),
    "IterableDataset": (lambda path: (Iterated(), None), "streamed"),
    "DataLoader": (lambda path: (DataLoader(Rows(), batch_size=50), None), "streamed"),
    "DataLoader of dicts": (lambda path: (DataLoader(Named(), batch_size=50), None), "streamed"),
}


def net_of(n_inputs=64):
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(n_inputs, 16), nn.ReLU(), nn.Linear(16, 10))


def classifier(**settings):
    settings = {"max_epochs": 4, "batch_size": 50, "shuffle": False, "random_state": 0, **settings}
    return TorchClassifier(net_of(), early_stopping=False, lr=0.01, **settings)


def same_weights(a, b):
    return all(torch.equal(p, q) for p, q in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.parametrize("form", FORMS)
def test_any_form_fits_predicts_scores_and_is_stored_as_an_array_is(form, tmp_path):
    make, kind = FORMS[form]
    X, y = make(tmp_path)
    plain = classifier().fit(DIGITS, LABELS)
    clf = classifier().fit(X, y)
    assert same_weights(clf.net_, plain.net_)
    assert clf.classes_.tolist() == [*range(10)]
    assert clf.history_["train_loss"].equals(plain.history_["train_loss"])
    assert clf.data_source_.kind == kind
    assert clf.data_source_.reason
    p = plain.predict_proba(DIGITS)
    assert np.array_equal(clf.predict_proba(X), p)
    assert np.array_equal(clf.predict(X), plain.predict(DIGITS))
    assert clf.score(X, y) == plain.score(DIGITS, LABELS)
    assert clf.evaluate(X, y)["loss"] == pytest.approx(plain.evaluate(DIGITS, LABELS)["loss"])
    again = pickle.loads(pickle.dumps(clf))
    assert np.array_equal(again.predict_proba(X), p)
    assert clf.n_features_in_ == 64


@pytest.mark.parametrize(
    "form", [form for form in FORMS if "Iter" not in form and "Loader" not in form]
)
def test_any_form_that_can_be_split_is_shuffled_and_held_out_alike(form, tmp_path):
    X, y = FORMS[form][0](tmp_path)
    settings = {
        "shuffle": True,
        "early_stopping": True,
        "metrics": "accuracy",
        "class_weight": "balanced",
    }
    plain = classifier().set_params(**settings).fit(DIGITS, LABELS)
    clf = classifier().set_params(**settings).fit(X, y)
    assert same_weights(clf.net_, plain.net_)
    columns = ["train_loss", "val_loss", "val_accuracy"]
    assert clf.history_[columns].equals(plain.history_[columns])


@pytest.mark.filterwarnings("ignore:X has feature names")
@pytest.mark.parametrize("form", FORMS)
def test_any_form_validates(form, tmp_path):
    X, y = FORMS[form][0](tmp_path)
    plain = classifier().fit(DIGITS, LABELS, X_val=DIGITS, y_val=LABELS)
    clf = classifier().fit(DIGITS, LABELS, X_val=X, y_val=y)
    np.testing.assert_allclose(clf.history_["val_loss"], plain.history_["val_loss"], rtol=1e-6)


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize(("batch_size", "workers"), [(1, 0), (37, 0), (37, 2), (10_000, 0)])
def test_streamed_data_ends_where_resident_data_ends(shuffle, weighted, batch_size, workers):
    weight = np.arange(N) % 3 + 0.5 if weighted else None
    clf = classifier(shuffle=shuffle, batch_size=batch_size, max_epochs=2, metrics="accuracy")
    resident = clf.fit(DIGITS, LABELS, weight)
    assert resident.data_source_.kind == "resident"
    net, columns = resident.net_, resident.history_.drop(columns="epoch_time")
    clf.set_params(data_source="streamed", num_workers=workers).fit(DIGITS, LABELS, weight)
    assert clf.data_source_ == ("streamed", 'data_source="streamed" was asked for')
    assert same_weights(clf.net_, net)
    assert clf.history_.drop(columns="epoch_time").equals(columns)


class TwoInputs(nn.Module):
    """Ids to an embedding, values to a linear layer."""

    def __init__(self, n_outputs=2):
        super().__init__()
        self.embedding = nn.Embedding(20, 4)
        self.linear = nn.Linear(3, 4)
        self.head = nn.Linear(8, n_outputs)

    def forward(self, ids, values):
        both = [self.embedding(ids).mean(1), torch.relu(self.linear(values))]
        return self.head(torch.cat(both, dim=1))


RNG = np.random.default_rng(0)
IDS, VALUES = RNG.integers(0, 20, size=(300, 5)), RNG.normal(size=(300, 3))
Y = ((IDS > 14).sum(1) + VALUES[:, 0] > 1.25).astype(int)


class Pairs(Dataset):
    def __len__(self):
        return len(IDS)

    def __getitem__(self, i):
        return {"values": VALUES[i], "ids": torch.from_numpy(IDS[i]), "target": Y[i]}


SEVERAL = {
    "dict": ({"values": VALUES, "ids": IDS}, Y),
    "tuple": ((IDS, VALUES), Y),
    "list": ([IDS, VALUES], Y),
    "dict of frames and tensors": (
        {"ids": torch.from_numpy(IDS), "values": pd.DataFrame(VALUES)},
        Y,
    ),
    "tuple with a sparse matrix": ((IDS, sparse.csr_array(VALUES)), Y),
    "dict of integers of every size": (
        {"ids": IDS.astype(np.uint8), "values": VALUES},
        Y,
    ),
    "Dataset of dicts": (Pairs(), None),
    "Dataset of tuples": ([((IDS[i], VALUES[i]), Y[i]) for i in range(300)], None),
    "DataLoader": (DataLoader(Pairs(), batch_size=32), None),
}


@pytest.mark.parametrize("form", SEVERAL)
@pytest.mark.parametrize("net", [TwoInputs, TwoInputs()], ids=["class", "module"])
def test_a_net_of_several_inputs(form, net):
    X, y = SEVERAL[form]
    if form == "Dataset of tuples":
        X = DatasetSlice(X)
    settings = {"lr": 0.02, "batch_size": 32, "max_epochs": 3, "random_state": 0, "shuffle": False}
    plain = TorchClassifier(net, **settings).fit(SEVERAL["dict"][0], Y)
    clf = TorchClassifier(net, **settings).fit(X, y)
    assert same_weights(clf.net_, plain.net_)
    assert np.array_equal(clf.predict_proba(X), plain.predict_proba(SEVERAL["dict"][0]))
    assert clf.score(X, y) == plain.score(SEVERAL["dict"][0], Y)
    assert "Embedding" in str(clf.summary())
    again = pickle.loads(pickle.dumps(clf))
    assert np.array_equal(again.predict(X), clf.predict(X))


def test_several_inputs_learn():
    clf = TorchClassifier(TwoInputs, lr=0.02, batch_size=32, max_epochs=80, random_state=0)
    clf.fit({"ids": IDS, "values": VALUES}, Y)
    assert clf.score({"ids": IDS, "values": VALUES}, Y) > 0.9


def test_several_inputs_are_held_out_weighted_and_regressed():
    weight = np.arange(300) % 2
    reg = TorchRegressor(TwoInputs, net__n_outputs=1, max_epochs=2, early_stopping=True)
    reg.fit((IDS, VALUES), VALUES[:, 1], weight)
    assert reg.predict((IDS, VALUES)).shape == (300,)
    assert "val_loss" in reg.history_


def test_inputs_that_do_not_fit_are_named():
    clf = TorchClassifier(TwoInputs, max_epochs=1)
    with pytest.raises(ValueError, match=r"ids.*has 299.*values.*has 300|ids'\] has 299"):
        clf.fit({"ids": IDS[1:], "values": VALUES}, Y)
    with pytest.raises(ValueError, match=r"forward of TwoInputs failed.*idz"):
        clf.fit({"idz": IDS, "values": VALUES}, Y)
    clf.fit({"ids": IDS, "values": VALUES}, Y)
    with pytest.raises(ValueError, match=r"X must hold the inputs ids, values, as in fit, got 2"):
        clf.predict((IDS, VALUES))
    with pytest.raises(ValueError, match=r"X must hold .*, got one array"):
        clf.predict(IDS)
    with pytest.raises(ValueError, match=r"X\['values'\] contains NaN"):
        clf.predict({"ids": IDS, "values": torch.full((300, 3), torch.nan)})
    with pytest.raises(ValueError, match=r'net="mlp" takes X of shape'):
        TorchClassifier().fit((IDS, VALUES), Y)


def test_images_as_bytes_are_cast_and_not_scaled():
    images = (load_digits().images[:N] * 15).astype(np.uint8)[:, None]
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    seen = []
    net[0].register_forward_pre_hook(lambda module, args: seen.append(args[0].max().item()))
    for X in (images, torch.from_numpy(images), DatasetSlice(Rows(images))):
        clf = TorchClassifier(net, max_epochs=1, lr=1e-5, early_stopping=False, random_state=0)
        clf.fit(X, LABELS)
        assert clf.predict(X).shape == (N,)
    assert max(seen) == images.max()


def test_tensors_on_the_device_are_not_copied():
    from sktorch.callbacks import Callback

    places = []

    class Look(Callback):
        def on_fit_begin(self, state):
            places.append(state.train.x.data_ptr())

    X, y = torch.from_numpy(DIGITS), torch.from_numpy(LABELS)
    clf = classifier(callbacks=[Look()]).fit(X, y)
    assert places == [X.data_ptr()]
    assert clf.n_features_in_ == 64
    with pytest.raises(ValueError, match=r"expecting 64 features"):
        clf.predict(X[:, :3])


def test_a_dataset_may_hold_weights():
    weight = np.arange(N) % 3 + 0.0
    plain = classifier(shuffle=True).fit(DIGITS, LABELS, weight)
    samples = [(DIGITS[i], LABELS[i], weight[i]) for i in range(N)]
    clf = classifier(shuffle=True).fit(DatasetSlice(samples))
    assert same_weights(clf.net_, plain.net_)
    ordered = classifier().fit(DIGITS, LABELS, weight + 1)
    samples = [(DIGITS[i], LABELS[i], weight[i] + 1) for i in range(N)]
    streamed = classifier().fit(DataLoader(samples, batch_size=50))
    np.testing.assert_allclose(
        streamed.history_["train_loss"], ordered.history_["train_loss"], rtol=1e-5
    )


@pytest.mark.parametrize("make", [Rows, Iterated], ids=["map-style", "iterable"])
def test_classes_spare_the_pass_over_a_dataset(make):
    reads = []

    class Counted(make):
        def __getitem__(self, i):
            reads.append(i)
            return super().__getitem__(i)

        def __iter__(self):
            for i in range(N):
                reads.append(i)
                yield self.X[i], self.y[i]

    data = Counted(y=np.array(list("abcdefghij"))[LABELS])
    clf = classifier(max_epochs=2, classes=list("abcdefghij")).fit(data)
    assert clf.classes_.tolist() == list("abcdefghij")
    spared = len(reads)
    reads.clear()
    other = classifier(max_epochs=2).fit(data)
    # Without them each sample is read once more.
    assert len(reads) - spared >= N - 512
    assert same_weights(clf.net_, other.net_)
    assert clf.predict(data)[0] in "abcdefghij"
    with pytest.raises(ValueError, match=r"labels that are not among the classes: .*'j'"):
        classifier(classes=list("abcdefghix")).fit(data)


def test_values_are_scaled_also_from_a_stream():
    y = DIGITS @ np.linspace(100, 200, 64)
    settings = {"shuffle": False, "batch_size": 50, "max_epochs": 3, "random_state": 0}
    plain = TorchRegressor(**settings).fit(DIGITS, y)
    for data in (Rows(y=y), Iterated(y=y), DataLoader(Rows(y=y), batch_size=50)):
        reg = TorchRegressor(**settings).fit(data)
        np.testing.assert_allclose(reg.predict(DIGITS), plain.predict(DIGITS), rtol=1e-5)
        assert reg.score(data) == pytest.approx(plain.score(DIGITS, y))


def test_partial_fit_takes_a_stream_of_parts():
    loader = DataLoader(Rows(), batch_size=50)
    clf = classifier().partial_fit(loader, None, classes=range(10))
    clf.partial_fit(loader)
    plain = classifier().partial_fit(DIGITS, LABELS, classes=range(10)).partial_fit(DIGITS, LABELS)
    assert same_weights(clf.net_, plain.net_)


def test_callbacks_of_skorch_see_a_dataset():
    from skorch.callbacks import EpochScoring

    scoring = EpochScoring("accuracy", name="seen", on_train=True)
    clf = classifier(callbacks=[scoring]).fit(Rows())
    plain = classifier(callbacks=[scoring]).fit(DIGITS, LABELS)
    assert clf.history_["seen"].equals(plain.history_["seen"])
    with pytest.raises(ValueError, match=r"callbacks: those of skorch need X and y side by side"):
        classifier(callbacks=[scoring]).fit(Iterated())


@pytest.mark.parametrize(
    ("free", "kind", "words"),
    [
        (10**12, "resident", r"X takes 0.31 MB on cpu, of 1,000,000 MB free"),
        (10**5, "streamed", r"X takes 0.31 MB on cpu, of 0.1 MB free"),
        (None, "resident", r"cpu does not tell how much memory is free"),
    ],
)
def test_where_data_lies_goes_by_the_memory_that_is_free(free, kind, words, monkeypatch):
    monkeypatch.setattr("sktorch.engine.source.available_bytes", lambda device: free)
    X = DIGITS.astype(np.float64)
    clf = TorchClassifier(
        dtype="float64", early_stopping=False, max_epochs=2, random_state=0, batch_size=50
    )
    assert clf.fit(X, LABELS).data_source_ == (
        "resident",
        "X lies in the memory of cpu as the net takes it",
    )
    plain = clf.predict_proba(X)
    clf.fit(X.astype(np.float32), LABELS)
    assert clf.data_source_.kind == kind
    assert re.fullmatch(words, clf.data_source_.reason)
    np.testing.assert_allclose(clf.predict_proba(X), plain, rtol=1e-4)


NUMBERS = np.arange(12.0).reshape(6, 2)

JUDGED = {
    "float64": NUMBERS,
    "float32": NUMBERS.astype(np.float32),
    "integers": NUMBERS.astype(int),
    "bools": NUMBERS > 3,
    "another byte order": NUMBERS.astype(">f8"),
    "every other row": NUMBERS[::2],
    "images": NUMBERS.reshape(3, 2, 2),
    "a sum that overflows": np.full((4, 2), 3e38, np.float32),
    "NaN": np.where(NUMBERS == 3, np.nan, NUMBERS),
    "both infinities": np.where(NUMBERS == 3, np.inf, np.where(NUMBERS == 4, -np.inf, 1)),
    "complex": NUMBERS * 1j,
    "objects": NUMBERS.astype(object),
    "strings": NUMBERS.astype(str),
    "no rows": NUMBERS[:0],
    "no columns": NUMBERS[:, :0],
    "one axis": NUMBERS[0],
    "masked": np.ma.masked_array(NUMBERS),
}


@pytest.mark.parametrize("kind", JUDGED)
@pytest.mark.parametrize("names", [None, ["a", "b"]])
def test_arrays_are_judged_as_scikit_learn_does(kind, names):
    def judge(check, estimator):
        try:
            with warnings.catch_warnings(record=True) as told:
                warnings.simplefilter("always")
                X = check(estimator)
            return np.asarray(X).tolist(), X.dtype, vars(estimator), [str(w.message) for w in told]
        except (ValueError, TypeError) as error:
            return type(error), str(error)

    def ours(estimator):
        return check_X(estimator, X, reset=names is None).values

    def theirs(estimator):
        return validate_data(estimator, X, reset=names is None, accept_sparse="csr", allow_nd=True)

    X = JUDGED[kind]
    estimators = [TorchClassifier(), TorchClassifier()]
    for estimator in estimators if names else ():
        validate_data(estimator, pd.DataFrame(NUMBERS, columns=names))
    found, expected = map(judge, (ours, theirs), estimators)
    if kind == "strings":
        assert found[0] == expected[0]
    else:
        assert repr(found) == repr(expected)
