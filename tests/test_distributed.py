"""Several processes train one net; several machines search."""

import os
import subprocess
import sys
import warnings

import fits_of_ranks
import joblib
import numpy as np
import pytest
from sklearn.model_selection import GridSearchCV
from test_inputs import DIGITS, LABELS, Rows, classifier

from sktorch import TorchClassifier
from sktorch.data import DatasetSlice

LAUNCHERS = {
    "torchrun": ["torch.distributed.run", "--nproc-per-node=2", "--standalone"],
    "accelerate launch": [
        "accelerate.commands.launch",
        *("--multi_gpu", "--num_processes=2", "--num_machines=1", "--mixed_precision=no"),
        "--dynamo_backend=no",
    ],
}


@pytest.fixture(scope="module", params=["torchrun"])
def ranks(request, tmp_path_factory):
    """Return what each of two processes ended with, and their folder."""
    folder = tmp_path_factory.mktemp("ranks")
    return launched(request.param, folder), folder


def launched(launcher, folder):
    command = [sys.executable, "-m", *LAUNCHERS[launcher], fits_of_ranks.__file__, str(folder)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.run(command, capture_output=True, text=True, env=env, timeout=300)
    assert run.returncode == 0, run.stdout + run.stderr
    return [joblib.load(folder / f"rank-{rank}.joblib") for rank in range(2)]


@pytest.fixture(scope="module")
def alone():
    return fits_of_ranks.fits(None, 64)


NAMES = [
    *("plain", "weighted", "streamed", "Dataset", "DataLoader", "accumulated", "scored"),
    *("validated", "averaged", "loss with weights", "in parts", "values", "unseeded, normed"),
]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_all_processes_end_with_the_same_weights(ranks, name):
    (first, second), _ = ranks
    for key, value in first[name]["weights"].items():
        assert np.array_equal(value, second[name]["weights"][key]), key
    assert first[name]["history"].equals(second[name]["history"])
    assert np.array_equal(first[name]["predictions"], second[name]["predictions"])
    assert first[name]["class"] == "Sequential"


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES[:-1])
def test_two_processes_end_where_one_with_twice_the_batch_ends(ranks, alone, name):
    (first, _), _ = ranks
    one = alone[name]
    for key, value in one.net_.state_dict().items():
        np.testing.assert_allclose(first[name]["weights"][key], value.numpy(), rtol=0, atol=1e-6)
    history = one.history_.drop(columns="epoch_time")
    assert first[name]["history"].columns.equals(history.columns)
    np.testing.assert_allclose(first[name]["history"], history, atol=1e-6)


@pytest.mark.slow
def test_the_first_process_alone_writes_and_shows(ranks):
    (first, second), folder = ranks
    (shown, n_first), (silent, n_second) = first["shown"], second["shown"]
    assert "train_loss" in shown
    assert silent == ""
    # A callback that asks to stop in one process stops all.
    assert n_first == n_second == 2
    assert "the second process has had enough" in shown
    assert (folder / "of-0" / "epoch-0002.pt").exists()
    assert (folder / "0.csv").exists()
    assert not (folder / "of-1").exists()
    assert not (folder / "1.csv").exists()


@pytest.mark.slow
def test_what_processes_cannot_do_together_is_refused(ranks):
    for lbfgs, few in (part["refused"] for part in ranks[0]):
        assert "optimizer='lbfgs' evaluates the loss as often as it likes" in lbfgs
        assert "X has 1 rows for 2 processes" in few


@pytest.mark.slow
def test_accelerate_launches_the_same(tmp_path, monkeypatch, alone):
    monkeypatch.setenv("GIVEN", "an Accelerator of the user's")
    first, second = launched("accelerate launch", tmp_path)
    for key, value in alone["plain"].net_.state_dict().items():
        np.testing.assert_allclose(first["plain"]["weights"][key], value.numpy(), atol=1e-6)
        assert np.array_equal(first["plain"]["weights"][key], second["plain"]["weights"][key])


def test_one_process_alone_is_a_fit_like_any_other():
    clf = classifier(accelerator="auto").fit(DIGITS, LABELS)
    plain = classifier().fit(DIGITS, LABELS)
    assert np.array_equal(clf.predict_proba(DIGITS), plain.predict_proba(DIGITS))
    with pytest.raises(ValueError, match=r"'accelerator' parameter of TorchClassifier must be"):
        TorchClassifier(accelerator="gpu").fit(DIGITS, LABELS)


def test_without_accelerate_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ImportError, match=r"accelerator needs .*sktorch\[distributed\]"):
        TorchClassifier(accelerator="auto").fit(DIGITS, LABELS)


@pytest.mark.slow
def test_a_search_over_machines_by_dask():
    from dask.distributed import Client, LocalCluster

    search = GridSearchCV(classifier(), {"lr": [1e-4, 1e-2]}, cv=3)
    here = search.fit(DIGITS, LABELS).cv_results_["mean_test_score"]
    options = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with warnings.catch_warnings():
        # Of dask and tornado as they start and stop.
        warnings.simplefilter("ignore")
        with (
            LocalCluster(**options) as cluster,
            Client(cluster),
            joblib.parallel_config(backend="dask"),
        ):
            for X in (DIGITS, DatasetSlice(Rows())):
                there = search.fit(X, LABELS).cv_results_["mean_test_score"]
                assert np.array_equal(there, here)
