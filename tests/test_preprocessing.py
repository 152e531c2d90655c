"""Texts, series and images on their way to a net."""

import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import SkipTestWarning
from sklearn.model_selection import GridSearchCV, TimeSeriesSplit, cross_val_score
from sklearn.pipeline import Pipeline
from sklearn.utils import estimator_checks
from sklearn.utils.estimator_checks import check_estimator
from torch import nn

from sktorch import TorchClassifier, TorchRegressor
from sktorch.data import DatasetSlice
from sktorch.preprocessing import ImageFolder, SequenceVectorizer, make_windows

TEXTS = ["The film was GOOD, good!", "a bad film", "", "good good the unseen"]


def test_words_are_numbered_by_how_common_they_are():
    vectorizer = SequenceVectorizer(max_len=4).fit(TEXTS)
    assert vectorizer.vocabulary_ == {
        **{"<unk>": 0, "<pad>": 1, "good": 2, "film": 3, "the": 4},
        **{"bad": 5, "unseen": 6, "was": 7},
    }
    ids = vectorizer.transform(TEXTS)
    assert ids.dtype == np.int64
    assert ids.tolist() == [[4, 3, 7, 2], [5, 3, 1, 1], [1, 1, 1, 1], [2, 2, 4, 6]]
    small = SequenceVectorizer(max_features=4, max_len=3).fit(TEXTS)
    assert small.vocabulary_ == {"<unk>": 0, "<pad>": 1, "good": 2, "film": 3}
    assert small.transform(pd.Series(["the good film"])).tolist() == [[0, 2, 3]]
    assert SequenceVectorizer(max_features=None).fit(TEXTS).vocabulary_ == vectorizer.vocabulary_


def test_words_are_found_as_scikit_learn_finds_them():
    texts = ["Don't panic: x is 42", "ÉTÉ été"]
    words = SequenceVectorizer(strip_accents="unicode", stop_words=["is"]).fit(texts).vocabulary_
    assert [*words] == ["<unk>", "<pad>", "ete", "42", "don", "panic"]
    letters = SequenceVectorizer(tokenizer=list, token_pattern=None).fit(["aab"])
    assert [*letters.vocabulary_] == ["<unk>", "<pad>", "a", "b"]


def test_the_vectorizer_is_a_transformer_of_scikit_learn():
    with warnings.catch_warnings():
        # The suite has few checks for what takes texts, and says so.
        warnings.simplefilter("ignore", SkipTestWarning)
        check_estimator(SequenceVectorizer())
    for check in (
        estimator_checks.check_no_attributes_set_in_init,
        estimator_checks.check_parameters_default_constructible,
        estimator_checks.check_get_params_invariance,
        estimator_checks.check_set_params,
        estimator_checks.check_estimator_repr,
        estimator_checks.check_mixin_order,
        estimator_checks.check_estimator_tags_renamed,
    ):
        check("SequenceVectorizer", SequenceVectorizer())
    vectorizer = SequenceVectorizer(max_len=3).fit(TEXTS)
    assert vectorizer.get_feature_names_out().tolist() == ["word0", "word1", "word2"]
    frame = clone(vectorizer).set_output(transform="pandas").fit_transform(TEXTS)
    assert frame.columns.tolist() == ["word0", "word1", "word2"]
    assert not hasattr(clone(vectorizer), "vocabulary_")


@pytest.mark.parametrize(
    ("X", "message"),
    [
        ("one text", "X must be an iterable of texts"),
        ([1.0, "a"], "X must hold texts, got a float at 0: 1.0"),
        (["good", None], "got a NoneType at 1"),
        (["a", "!"], "X has no words.*token_pattern"),
    ],
)
def test_texts_that_are_none_are_refused(X, message):
    with pytest.raises(ValueError, match=message):
        SequenceVectorizer().fit(X)


@pytest.mark.parametrize("settings", [{"max_features": 2}, {"max_len": 0}, {"token_pattern": 3}])
def test_settings_that_mean_nothing_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        SequenceVectorizer(**settings).fit(TEXTS)


class TextNet(nn.Module):
    def __init__(self, n_outputs, n_words=50):
        super().__init__()
        self.embedding = nn.Embedding(n_words, 8, padding_idx=1)
        self.head = nn.Linear(8, n_outputs)

    def forward(self, ids):
        assert ids.dtype is torch.int64
        return self.head(self.embedding(ids).mean(1))


def test_a_pipeline_learns_from_texts_and_is_searched():
    rng = np.random.default_rng(0)
    words = np.array([f"word{i}" for i in range(30)])
    numbers = rng.integers(0, 30, size=(300, 12))
    texts = [" ".join(row) for row in words[numbers]]
    y = np.where((numbers < 10).sum(1) > 4, "low", "high")
    pipe = Pipeline(
        [
            ("ids", SequenceVectorizer(max_features=50, max_len=12)),
            ("clf", TorchClassifier(TextNet, lr=0.02, max_epochs=40, random_state=0)),
        ]
    )
    search = GridSearchCV(pipe, {"ids__max_len": [2, 12]}, cv=3).fit(texts, y)
    assert search.best_params_ == {"ids__max_len": 12}
    assert search.best_score_ > 0.9


# Series ---------------------------------------------------------------------------------------


def test_windows_hold_what_was_and_targets_what_comes():
    series = np.arange(20.0)
    X, y = make_windows(series, 8)
    assert X.shape == (12, 8)
    assert np.array_equal(X[3], series[3:11])
    assert np.array_equal(y, series[8:])
    X, y = make_windows(series, 5, horizon=3)
    assert np.array_equal(y, X[:, -1] + 3)
    assert len(X) == 20 - 5 - 3 + 1


def test_windows_of_several_series_keep_time_before_features():
    frame = pd.DataFrame({"a": np.arange(10.0), "b": -np.arange(10.0)})
    X, y = make_windows(frame, 4)
    assert X.shape == (6, 4, 2)
    assert np.array_equal(X[2], frame.to_numpy()[2:6])
    assert np.array_equal(y, frame.to_numpy()[4:])
    X, y = make_windows(frame, 4, target=frame["b"])
    assert np.array_equal(y, -np.arange(4.0, 10))


@pytest.mark.parametrize("test_size", [0.25, 3])
def test_windows_are_split_in_the_order_of_time(test_size):
    X_train, X_test, y_train, y_test = make_windows(range(20), 8, test_size=test_size)
    assert len(X_train) == 9
    assert len(X_test) == 3
    assert max(X_train.max(), y_train.max()) < y_test.min()
    X, y = make_windows(range(20), 8)
    assert np.array_equal(np.r_[X_train, X_test], X)
    assert np.array_equal(np.r_[y_train, y_test], y)


def test_a_net_learns_from_windows_and_is_validated_in_the_order_of_time():
    series = np.sin(np.arange(400) / 5)
    X, y = make_windows(series, 8)
    reg = TorchRegressor(lr=0.01, random_state=0, max_epochs=40)
    assert cross_val_score(reg, X, y, cv=TimeSeriesSplit(3)).min() > 0.95


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((range(5), 5), "series has 5 steps, and window=5 with horizon=1 needs 6"),
        ((range(5), 0), "window must be an integer of at least 1"),
        ((range(5), 2, 0.5), "horizon must be"),
        ((["a", "b", "c"], 1), "series must hold numbers"),
        ((np.zeros((2, 2, 2)), 1), "series must have shape"),
    ],
)
def test_windows_that_cannot_be_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        make_windows(*arguments)
    for test_size in (0, 1.0, 4, True):
        with pytest.raises(ValueError, match=r"test_size must be a share"):
            make_windows(range(5), 1, test_size=test_size)
    with pytest.raises(ValueError, match=r"target must have a row for each of the 5"):
        make_windows(range(5), 1, target=range(4))


# Images ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Sixty small pictures: bright at the top, or at the bottom."""
    root = tmp_path_factory.mktemp("images")
    rng = np.random.default_rng(0)
    for name, half in (("sky", slice(0, 6)), ("sea", slice(6, 12))):
        (root / name).mkdir()
        for number in range(30):
            pixels = rng.integers(0, 100, size=(12, 10, 3), dtype=np.uint8)
            pixels[half] += 120
            suffix = ("png", "PNG", "bmp")[number % 3]
            Image.fromarray(pixels).save(root / name / f"{number}.{suffix}")
    (root / "sky" / "notes.txt").write_text("not an image")
    return root


def image_net():
    torch.manual_seed(0)
    return nn.Sequential(nn.AvgPool2d(2), nn.Flatten(), nn.Linear(3 * 16, 1))


def test_a_folder_of_images_is_learned_by_name(folder):
    data = ImageFolder(folder, size=8, scale=True)
    assert data.classes == ["sea", "sky"]
    assert len(data) == 60
    image, name = data[59]
    assert image.shape == (3, 8, 8)
    assert image.dtype is torch.float32
    assert name == "sky"
    clf = TorchClassifier(image_net(), lr=0.05, max_epochs=20, early_stopping=True, random_state=0)
    assert clf.fit(data).score(data) == 1
    assert clf.classes_.tolist() == ["sea", "sky"]
    assert {*clf.predict(data)} == {"sea", "sky"}
    sliced = DatasetSlice(data)
    assert cross_val_score(clf, sliced, sliced.y, cv=3).mean() == 1


def test_images_are_bytes_unless_asked(folder):
    image, _ = ImageFolder(folder)[0]
    assert image.dtype is torch.uint8
    assert image.shape == (3, 12, 10)
    assert np.array_equal(
        image.numpy().transpose(1, 2, 0), np.array(Image.open(ImageFolder(folder).paths[0]))
    )
    assert ImageFolder(folder, (6, 4), mode="L")[0][0].shape == (1, 6, 4)
    flipped = ImageFolder(folder, transform=lambda image: np.array(image)[::-1].copy())[0][0]
    assert flipped.shape == (12, 10, 3)


def test_only_what_is_trained_on_is_augmented(folder):
    augmented = []

    def augment(image):
        augmented.append(image)
        return image

    data = ImageFolder(folder, size=8, scale=True, augment=augment)
    clf = TorchClassifier(image_net(), max_epochs=3, early_stopping=True, validation_fraction=0.5)
    clf.set_params(lr=1e-4, classes=["sea", "sky"]).fit(data)
    per_epoch = [len(augmented)]
    clf.set_params(max_epochs=4).fit(data)
    # An epoch more is thirty images more, those of training.
    assert len(augmented) - 2 * per_epoch[0] == 30
    augmented.clear()
    clf.predict(data)
    clf.score(data)
    clf.evaluate(DatasetSlice(data))
    assert augmented == []


def test_folders_that_hold_no_images_are_refused(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"is no folder"):
        ImageFolder(tmp_path / "nowhere")
    (tmp_path / "cat").mkdir()
    with pytest.raises(ValueError, match=r"no folder of .* has an image.*\['cat'\]"):
        ImageFolder(tmp_path)
    (tmp_path / "cat" / "1.png").write_text("this is text")
    with pytest.raises(ValueError, match=r"1.png cannot be read as an image"):
        ImageFolder(tmp_path)[0]
    for size in (0, (3,), "big", True, 1.5):
        with pytest.raises(ValueError, match=r"size must be a positive int"):
            ImageFolder(folder, size)
    Image.new("RGB", (9, 9)).save(folder / "sky" / "odd.png")
    try:
        with pytest.raises(ValueError, match=r"\(3, 12, 10\).*\(3, 9, 9\).*ImageFolder\(size"):
            TorchClassifier(nn.Sequential(nn.Flatten(), nn.LazyLinear(1)), max_epochs=1).fit(
                ImageFolder(folder)
            )
    finally:
        (folder / "sky" / "odd.png").unlink()
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    with pytest.raises(ImportError, match=r"Pillow: pip install \"sktorch\[images\]\""):
        ImageFolder(folder)
