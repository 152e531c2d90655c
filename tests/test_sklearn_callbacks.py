"""scikit-learn's own callbacks see each epoch, and the net as it then is."""

import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from nets import UserMLP
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.metrics import log_loss
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler

from sktorch import TorchClassifier, TorchRegressor
from sktorch.callbacks import Callback

callback = pytest.importorskip("sklearn.callback", reason="scikit-learn has it from 1.9 on")


class Recorder:
    """Writes down what scikit-learn's protocol tells it."""

    def __init__(self, stop_after=None):
        self.stop_after = stop_after
        self.events = []
        self.nets = []

    def setup(self, estimator, context):
        self.events.append(("setup", context.task_name, context.max_subtasks))

    def teardown(self, estimator, context):
        self.events.append(("teardown", context.task_name, context.max_subtasks))

    def on_fit_task_begin(self, estimator, context):
        self.events.append(("begin", context.task_name, context.task_id))

    def on_fit_task_end(self, estimator, context, *, fitted_estimator=None):
        self.events.append(("end", context.task_name, context.task_id))
        self.nets.append(fitted_estimator.net_)
        return context.task_name == "epoch" and context.task_id + 1 == self.stop_after


class Propagated(Recorder):
    """The same, handed down by meta-estimators."""

    max_propagation_depth = None

    def on_fit_task_end(self, estimator, context):
        self.events.append(("end", context.task_name, context.estimator_name))


def make(**settings):
    settings = {"max_epochs": 4, "lr": 0.01, "random_state": 0, **settings}
    return TorchClassifier(UserMLP, **settings)


def scores(monitor, task, **select):
    log = monitor.get_logs(**select).data_as_pandas
    return log[log["task_name"] == task]


class Weights(Callback):
    """Keeps the weights of each epoch in a list that copies share."""

    kept = []

    def on_epoch_end(self, state):
        self.kept.append({k: v.clone() for k, v in state.net.state_dict().items()})


def test_a_monitor_logs_the_score_of_each_epoch(breast_cancer):
    X, y = breast_cancer
    monitor = callback.ScoringMonitor(scoring=["accuracy", "neg_log_loss"])
    Weights.kept.clear()
    clf = make(callbacks=[Weights()]).set_callbacks(monitor).fit(X, y)
    epochs = scores(monitor, "epoch")
    assert [*epochs["task_id"]] == [*range(clf.n_iter_)]
    final = clf.predict_proba(X)
    for row, weights in zip(epochs.itertuples(), Weights.kept, strict=True):
        clf.net_.load_state_dict(weights)
        assert row.accuracy == clf.score(X, y)
        assert row.neg_log_loss == pytest.approx(-log_loss(y, clf.predict_proba(X)), rel=1e-6)
    # As scikit-learn's own estimators do, the whole fit has a row too: what it ended with.
    (whole,) = scores(monitor, "fit").itertuples()
    assert whole.neg_log_loss == pytest.approx(-log_loss(y, final), rel=1e-6)


def test_a_monitor_of_a_regressor_scores_in_the_units_of_y_with_its_weights(diabetes):
    X, y = diabetes
    weight = np.linspace(0.1, 2, len(y))
    monitor = callback.ScoringMonitor(scoring="r2")
    reg = TorchRegressor(max_epochs=3, lr=0.1, early_stopping=False).set_callbacks(monitor)
    reg.fit(X, y, weight)
    log = scores(monitor, "epoch")
    assert len(log) == 3
    assert log["r2"].iloc[-1] == pytest.approx(reg.score(X, y, weight), rel=1e-6)


def test_tasks_begin_and_end_in_the_order_of_the_protocol(breast_cancer):
    recorder = Recorder()
    make(max_epochs=2).set_callbacks(recorder).fit(*breast_cancer)
    assert recorder.events == [
        ("setup", "fit", 2),
        ("begin", "fit", 0),
        ("begin", "epoch", 0),
        ("end", "epoch", 0),
        ("begin", "epoch", 1),
        ("end", "epoch", 1),
        ("end", "fit", 0),
        ("teardown", "fit", 2),
    ]


def test_the_net_of_an_epoch_stays_that_of_the_epoch(breast_cancer):
    recorder = Recorder()
    Weights.kept.clear()
    make(callbacks=[Weights()]).set_callbacks(recorder).fit(*breast_cancer)
    for net, weights in zip(recorder.nets, Weights.kept, strict=False):
        assert not net.training
        for name, value in net.state_dict().items():
            assert torch.equal(value, weights[name])


def test_callbacks_do_not_change_what_is_learned(breast_cancer):
    X, y = breast_cancer
    settings = {"early_stopping": True, "max_epochs": 6, "ema_decay": 0.9}
    plain = make(**settings).fit(X, y)
    watched = make(**settings).set_callbacks(Recorder()).fit(X, y)
    assert_array_equal(plain.predict_proba(X), watched.predict_proba(X))


def test_a_callback_can_stop_the_fit(breast_cancer):
    clf = make(max_epochs=10).set_callbacks(Recorder(stop_after=3)).fit(*breast_cancer)
    assert clf.n_iter_ == 3


def test_callbacks_are_torn_down_when_a_fit_fails(breast_cancer):
    X, y = breast_cancer
    recorder = Recorder()
    clf = make().fit(X, y).set_callbacks(recorder)
    before = clf.predict_proba(X)
    with pytest.raises(ValueError, match="became"):
        clf.set_params(lr=1e30).fit(X, y)
    assert recorder.events[-1][0] == "teardown"
    assert_array_equal(clf.predict_proba(X), before)
    assert not [name for name in vars(clf) if "callback_ctx" in name or "teardown" in name]


def test_callbacks_are_handed_to_clones_and_down_pipelines_and_searches(breast_cancer):
    X, y = breast_cancer
    monitor = callback.ScoringMonitor(scoring="accuracy")
    clf = make(max_epochs=2).set_callbacks(monitor)
    clone(clf).fit(X, y)
    assert len(scores(monitor, "epoch")) == 2

    recorder = Propagated()
    pipe = Pipeline([("scale", StandardScaler()), ("clf", clf)])
    search = GridSearchCV(pipe, {"clf__lr": [0.01, 0.1]}, cv=2).set_callbacks(recorder)
    search.fit(X, y)
    fits = 2 * 2 + 1
    epochs = [e for e in recorder.events if e == ("end", "epoch", "TorchClassifier")]
    assert len(epochs) == 2 * fits
    assert len(scores(monitor, "epoch")) == 2 * fits
    assert not hasattr(search.best_estimator_[-1], "_parent_callback_ctx")


def test_a_search_in_other_processes_reports_its_epochs(breast_cancer):
    X, y = breast_cancer
    monitor = callback.ScoringMonitor(scoring="accuracy")
    clf = make(max_epochs=2, net__width=4).set_callbacks(monitor)
    GridSearchCV(clf, {"lr": [0.01, 0.1]}, cv=2, n_jobs=2).fit(X, y)
    assert len(scores(monitor, "epoch")) == 2 * 5


def test_progress_is_shown(breast_cancer, capsys):
    pytest.importorskip("rich", reason="scikit-learn's ProgressBar draws with it")
    clf = make().set_callbacks(callback.ProgressBar()).fit(*breast_cancer)
    assert clf.n_iter_ == 4
    shown = capsys.readouterr().out
    assert "TorchClassifier - fit" in shown
    assert "100%" in shown


def test_what_is_no_callback_of_scikit_learn_is_refused():
    with pytest.raises(TypeError, match="FitCallback"):
        make().set_callbacks(Weights())


def test_without_that_module_everything_else_works():
    script = """
        import builtins

        find = builtins.__import__

        def refuse(name, globals=None, *rest):
            if name == "sklearn.callback" and (globals or {}).get("__name__", "")[:8] == "sktorch.":
                raise ImportError(name)
            return find(name, globals, *rest)

        builtins.__import__ = refuse
        from sklearn.datasets import load_iris
        from sklearn.model_selection import cross_val_score
        from sktorch import TorchClassifier

        X, y = load_iris(return_X_y=True)
        clf = TorchClassifier(max_epochs=20, lr=0.05, random_state=0)
        assert not hasattr(clf, "set_callbacks")
        assert cross_val_score(clf, X, y, cv=2).mean() > 0.7
    """
    subprocess.run([sys.executable, "-c", textwrap.dedent(script)], check=True, timeout=120)
