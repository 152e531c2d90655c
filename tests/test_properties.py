"""What holds whatever the shapes, dtypes, labels, weights and batch sizes are."""

import warnings

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from sktorch import TorchClassifier, TorchRegressor

QUICK = settings(
    max_examples=40,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.too_slow],
)

DTYPES = st.sampled_from([np.float64, np.float32, np.float16, np.int64, np.int16, np.uint8, bool])
LABELS = st.sampled_from(
    [
        ("no", "yes"),
        (False, True),
        (-1, 1),
        (1.0, 2.0),
        (0, 2, -100),
        ("b", "a", "ü", "d"),
        (10**12, 3),
        (5, 6, 7),
    ]
)
BATCH_SIZES = st.one_of(st.just("auto"), st.integers(1, 40))


@st.composite
def tables(draw, least=4):
    """Draw X of any dtype."""
    n = draw(st.integers(least, 30))
    n_features = draw(st.integers(1, 6))
    dtype = np.dtype(draw(DTYPES))
    if dtype.kind == "f":
        elements = st.floats(-100, 100, width=16)
    elif dtype.kind == "b":
        elements = st.booleans()
    else:
        low = 0 if dtype.kind == "u" else -100
        elements = st.integers(low, 100)
    return draw(arrays(dtype, (n, n_features), elements=elements))


@st.composite
def problems(draw):
    """Draw X and labels of at least two classes."""
    X = draw(tables())
    labels = draw(LABELS)
    chosen = draw(
        st.lists(st.integers(0, len(labels) - 1), min_size=len(X), max_size=len(X)).filter(
            lambda drawn: len(set(drawn)) > 1
        )
    )
    return X, np.array(labels)[chosen]


def weights_for(X, data):
    """Draw weights, some of them zero."""
    choices = st.sampled_from([0.0, 0.5, 1.0, 3.0, 1e-6])
    drawn = data.draw(st.lists(choices, min_size=len(X), max_size=len(X)))
    drawn[0] = 1.0
    return np.array(drawn)


def small(estimator, **parameters):
    return estimator(max_epochs=2, random_state=0, net__hidden_layer_sizes=4, **parameters)


@QUICK
@given(problem=problems(), batch_size=BATCH_SIZES, shuffle=st.booleans())
def test_probabilities_are_finite_and_sum_to_one(problem, batch_size, shuffle):
    X, y = problem
    clf = small(TorchClassifier, batch_size=batch_size, shuffle=shuffle).fit(X, y)
    p = clf.predict_proba(X)
    assert p.shape == (len(X), len(np.unique(y)))
    assert ((p >= 0) & (p <= 1)).all()
    np.testing.assert_allclose(p.sum(axis=1), 1)
    assert clf.classes_.tolist() == np.unique(y).tolist()
    chosen = np.searchsorted(clf.classes_, clf.predict(X))
    np.testing.assert_allclose(p[np.arange(len(X)), chosen], p.max(axis=1))


@QUICK
@given(problem=problems(), batch_size=BATCH_SIZES, data=st.data())
def test_weights_leave_predictions_finite(problem, batch_size, data):
    X, y = problem
    weight = weights_for(X, data)
    weight[np.unique(y, return_index=True)[1]] = 1.0
    clf = small(TorchClassifier, batch_size=batch_size).fit(X, y, weight)
    assert np.isfinite(clf.predict_proba(X)).all()
    assert np.isfinite(clf.history_.to_numpy()).all()


@QUICK
@given(X=tables(), n_columns=st.sampled_from([None, 1, 3]), batch_size=BATCH_SIZES, data=st.data())
def test_predicted_values_are_finite_and_of_the_shape_of_y(X, n_columns, batch_size, data):
    shape = (len(X),) if n_columns is None else (len(X), n_columns)
    scale = data.draw(st.sampled_from([1e-8, 1.0, 1e6]))
    y = data.draw(arrays(float, shape, elements=st.floats(-10, 10))) * scale
    reg = small(TorchRegressor, batch_size=batch_size)
    predicted = reg.fit(X, y, weights_for(X, data)).predict(X)
    assert predicted.shape == shape
    assert predicted.dtype == np.float64
    assert np.isfinite(predicted).all()


@QUICK
@given(problem=problems(), data=st.data())
def test_a_weight_of_k_is_a_row_given_k_times(problem, data):
    X, y = problem[0].astype(float), problem[1]
    k = np.array(data.draw(st.lists(st.integers(0, 3), min_size=len(X), max_size=len(X))))
    k[np.unique(y, return_index=True)[1]] = 1
    weighted = small(TorchClassifier, batch_size=200).fit(X, y, k.astype(float))
    copied = small(TorchClassifier, batch_size=200).fit(np.repeat(X, k, 0), np.repeat(y, k))
    for a, b in (
        (weighted.predict_proba(X), copied.predict_proba(X)),
        (weighted.history_["train_loss"], copied.history_["train_loss"]),
    ):
        np.testing.assert_allclose(a, b, rtol=1e-7, atol=1e-12)
    values = X.sum(axis=1)
    weighted = small(TorchRegressor, batch_size=200).fit(X, values, k.astype(float))
    copied = small(TorchRegressor, batch_size=200).fit(np.repeat(X, k, 0), np.repeat(values, k))
    scale = np.abs(values).max() + 1
    np.testing.assert_allclose(
        weighted.predict(X) / scale, copied.predict(X) / scale, rtol=1e-7, atol=1e-10
    )


@QUICK
@given(problem=problems(), data=st.data())
def test_the_order_of_rows_does_not_matter_to_predict(problem, data):
    X, y = problem
    clf = small(TorchClassifier).fit(X, y)
    order = np.array(data.draw(st.permutations(range(len(X)))))
    tolerance = 1e-5 if X.dtype == np.float32 else 1e-9
    whole = clf.predict_proba(X)
    np.testing.assert_allclose(clf.predict_proba(X[order]), whole[order], atol=tolerance)
    some = order[: data.draw(st.integers(1, len(X)))]
    np.testing.assert_allclose(clf.predict_proba(X[some]), whole[some], atol=tolerance)


@QUICK
@given(problem=problems(), batch_size=BATCH_SIZES)
def test_a_model_comes_back_from_a_file_as_it_was(problem, batch_size, tmp_path_factory):
    X, y = problem
    clf = small(TorchClassifier, batch_size=batch_size).fit(X, y)
    path = tmp_path_factory.mktemp("model") / "model"
    clf.save(path)
    again = TorchClassifier.load(path)
    assert np.array_equal(again.predict_proba(X), clf.predict_proba(X))
    assert np.array_equal(again.predict(X), clf.predict(X))
    assert again.classes_.dtype == clf.classes_.dtype


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-2, 3),
    st.sampled_from([float("nan"), float("inf"), -0.5, 0.5, "auto", "x", "", (), (1,), [], {}]),
    st.sampled_from([np.ones(2), object(), len]),
)
# Compiling takes many seconds.
NAMES = st.sampled_from(sorted(TorchClassifier().get_params().keys() - {"compile"}))


@settings(QUICK, max_examples=150)
@given(names=st.lists(NAMES, min_size=1, max_size=2, unique=True), data=st.data())
def test_any_parameter_of_any_value_works_or_is_refused_by_name(names, data):
    X = np.random.default_rng(0).normal(size=(20, 3))
    y = np.arange(20) % 2
    clf = TorchClassifier(max_epochs=2, random_state=0)
    clf.set_params(**{name: data.draw(JUNK) for name in names})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            clf.fit(X, y)
        except (ValueError, TypeError) as error:
            text = str(error)
            assert any(name in text for name in names) or "batch_size" in text, text
            return
    assert np.isfinite(clf.predict_proba(X)).all()
