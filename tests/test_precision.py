"""precision: in what training computes."""

import threading

import numpy as np
import pytest
import torch
from sklearn.datasets import make_classification

from sktorch import TorchClassifier
from sktorch.engine.precision import PRECISIONS, TensorFloat

X, Y = make_classification(150, 6, n_informative=4, random_state=0)
SETTINGS = {"dtype": "float32", "max_epochs": 4, "random_state": 0}


def products():
    """Return in what CUDA multiplies."""
    return torch.backends.cuda.matmul.fp32_precision


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_fit_learns_the_same_to_the_precision_it_computes_in(precision):
    probabilities = [
        TorchClassifier(precision=p, **SETTINGS).fit(X, Y).predict_proba(X)
        for p in (None, precision)
    ]
    np.testing.assert_allclose(*probabilities, rtol=0, atol=0.02)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_net_of_another_dtype_is_refused(precision):
    settings = {**SETTINGS, "dtype": "float64"}
    with pytest.raises(ValueError, match=rf"precision='{precision}' is for a net of float32.*64"):
        TorchClassifier(precision=precision, **settings).fit(X, Y)


def test_tf32_changes_nothing_on_a_cpu():
    plain, fast = (
        TorchClassifier(precision=p, device="cpu", **SETTINGS).fit(X, Y) for p in (None, "tf32")
    )
    np.testing.assert_array_equal(plain.predict_proba(X), fast.predict_proba(X))


def fail_in_tf32(outer):
    with TensorFloat(torch.device("cuda")).in_use():
        assert products() == "tf32"
        if outer != "tf32":
            # Code of older times reads it by these.
            assert torch.backends.cuda.matmul.allow_tf32
            assert torch.get_float32_matmul_precision() == "high"
        raise KeyError


@pytest.mark.parametrize("outer", ["none", "ieee", "tf32"])
def test_tf32_holds_on_a_gpu_while_a_fit_lasts(outer):
    torch.backends.cuda.matmul.fp32_precision = outer
    try:
        with pytest.raises(KeyError):
            fail_in_tf32(outer)
        assert products() == outer
        with TensorFloat(torch.device("cpu")).in_use():
            assert products() == outer
    finally:
        torch.backends.cuda.matmul.fp32_precision = "none"


def test_a_setting_of_the_user_that_includes_tf32_is_left_alone():
    torch.set_float32_matmul_precision("medium")
    try:
        with TensorFloat(torch.device("cuda")).in_use():
            assert torch.get_float32_matmul_precision() == "medium"
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.backends.cuda.matmul.fp32_precision = "none"


def test_fits_in_threads_put_tf32_back_when_the_last_has_ended():
    outer = products()
    entered, left = threading.Event(), threading.Event()

    def fit():
        with TensorFloat(torch.device("cuda")).in_use():
            entered.set()
            left.wait(10)

    thread = threading.Thread(target=fit)
    with TensorFloat(torch.device("cuda")).in_use():
        thread.start()
        assert entered.wait(10)
    assert products() == "tf32"
    left.set()
    thread.join()
    assert products() == outer
