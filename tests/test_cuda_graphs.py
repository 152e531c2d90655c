"""A compiled step on a GPU is recorded once and replayed: with the results of the plain step.

Where there is no GPU a stand-in replays, which like a CUDA graph computes nothing while it records,
reads and writes the tensors it was given then, and overwrites its results each time.
"""

import numpy as np
import pytest
import torch
from compiling import CASES, FOR_A_NET, SETTINGS, Normed, X, Y, assert_same_fit, both
from stacking import assert_same_fits, make_rows, search, small, stacked
from torch import nn

from sktorch import TorchClassifier
from sktorch.callbacks import Callback
from sktorch.engine import compiled, recording, stack
from sktorch.engine.recording import Recorded

DEVICES = ["stand-in", *(["cuda"] if torch.cuda.is_available() else [])]


class StandIn:
    """Counts recordings and replays."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def record(self, function, device):
        self.recorded += 1
        results = []

        def replay():
            self.replayed += 1
            for place, result in zip(results, new := function(), strict=bool(results)):
                place.copy_(result)
            results[:] = results or new
            return tuple(results)

        return replay


@pytest.fixture(params=DEVICES)
def graphs(request, monkeypatch):
    """Record steps; return what counts, which has a device to compute on."""
    graphs = StandIn()
    graphs.device = "cpu" if request.param == "stand-in" else request.param
    if request.param == "stand-in":
        monkeypatch.setattr(recording, "record", graphs.record)
        monkeypatch.setattr(compiled, "bind", Recorded)
        monkeypatch.setattr(stack, "bind", Recorded)
    else:
        genuine = recording.record

        def record(*args):
            replay = genuine(*args)
            return graphs.record(replay, None)

        monkeypatch.setattr(recording, "record", record)
    return graphs


@pytest.mark.parametrize("case", CASES)
def test_a_recorded_step_ends_where_the_plain_one_ends(graphs, case):
    assert_same_fit(*both(TorchClassifier(device=graphs.device, **SETTINGS, **CASES[case]), X, Y))
    n_epochs, n_full_batches = SETTINGS["max_epochs"], len(X) // SETTINGS["batch_size"]
    assert graphs.recorded == 1
    # The first step of a fit is computed as it is.
    assert graphs.replayed <= n_epochs * n_full_batches - 1


def test_dropout_draws_anew_in_each_replay(graphs):
    torch.manual_seed(0)
    assert_same_fit(*both(TorchClassifier(Normed, device=graphs.device, **FOR_A_NET), X, Y))
    assert graphs.replayed


class Parted(nn.Module):
    """Uses parts of what it draws, which are not dense, and one number for many."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x):
        if self.training:
            one, other = torch.rand(len(x), 12, dtype=x.dtype, device=x.device).chunk(2, dim=1)
            rows = torch.rand(len(x), 1, dtype=x.dtype, device=x.device).expand(-1, 6)
            x = x * one + other.T.flip(0).T * rows
        return self.layer(x)


def test_parts_of_what_is_drawn_lie_as_the_program_takes_them(graphs):
    assert_same_fit(*both(TorchClassifier(Parted, device=graphs.device, **FOR_A_NET), X, Y))
    assert graphs.replayed


class Keeper(Callback):
    """Keeps what each step returned, and what that was then."""

    kept = []

    def on_batch_end(self, state, batch, loss, y_pred):
        Keeper.kept += [(part, part.clone()) for part in (loss, y_pred)]


def test_what_a_callback_keeps_is_not_overwritten(graphs):
    clf = TorchClassifier(compile=True, callbacks=[Keeper()], device=graphs.device, **SETTINGS)
    Keeper.kept.clear()
    clf.fit(X, Y)
    assert graphs.replayed
    assert all(torch.equal(part, then) for part, then in Keeper.kept)


def test_fits_of_one_program_are_recorded_each(graphs):
    clf = TorchClassifier(compile=True, device=graphs.device, **SETTINGS)
    one, again = clf.fit(X, Y).predict_proba(X), clf.fit(X, Y).predict_proba(X)
    assert graphs.recorded == 2
    assert (one == again).all()


def test_members_of_a_stack_are_recorded_as_one(graphs):
    estimator = small(compile=True, early_stopping=True, max_epochs=6, device=graphs.device)
    grid = {"lr": [1e-4, 0.02, 0.5], "patience": [1, 4]}
    rows, labels = make_rows()
    with stacked():
        result = search(estimator, grid).fit(rows, labels)
    assert graphs.recorded
    assert graphs.replayed > graphs.recorded
    plain = search(estimator.set_params(compile=False), grid).fit(rows, labels)
    assert_same_fits(plain, result)


def test_what_cannot_be_recorded_runs_as_it_is_with_one_warning(graphs, monkeypatch):
    def refuse(function, device):
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(recording, "record", refuse)
    clf = TorchClassifier(device=graphs.device, **SETTINGS)
    plain = clf.fit(X, Y).predict_proba(X)
    with pytest.warns(UserWarning, match=r"CUDA graph \(operation not .* capturing\)") as caught:
        fast = clf.set_params(compile=True).fit(X, Y).predict_proba(X)
    assert len(caught) == 1
    np.testing.assert_allclose(fast, plain, rtol=0, atol=1e-9)
