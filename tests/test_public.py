"""The face of the package: names, signatures, docstrings."""

import inspect
import subprocess
import sys

import numpy as np
import pytest
from sklearn.utils._param_validation import validate_parameter_constraints

import sktorch
from sktorch import TorchClassifier, TorchRegressor

ESTIMATORS = [TorchClassifier, TorchRegressor]


def test_every_public_name_exists():
    assert all(hasattr(sktorch, name) for name in sktorch.__all__)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_signature_names_every_parameter_and_only_net_is_positional(estimator):
    parameters = inspect.signature(estimator).parameters
    kinds = {name: p.kind for name, p in parameters.items()}
    assert kinds.pop("net") is inspect.Parameter.POSITIONAL_OR_KEYWORD
    assert set(kinds.values()) == {inspect.Parameter.KEYWORD_ONLY}
    assert set(parameters) == set(estimator().get_params())
    assert set(parameters) == set(estimator._parameter_constraints)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_docstring_describes_every_parameter_with_its_default(estimator):
    doc = inspect.getdoc(estimator)
    for name, parameter in inspect.signature(estimator).parameters.items():
        default = repr(parameter.default).replace("'", '"').replace("0.001", "1e-3")
        assert f"\n{name} : " in doc
        line = doc.split(f"\n{name} : ")[1].split("\n")[0]
        assert f"default={default}" in line, line


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_the_docstring_describes_every_fitted_attribute(estimator):
    X = np.random.default_rng(0).normal(size=(20, 3))
    fitted = estimator(max_epochs=1).fit(X, np.arange(20) % 2)
    public = {name for name in vars(fitted) if name.endswith("_")} | {"history_"}
    doc = inspect.getdoc(estimator).split("Attributes\n")[1]
    assert [name for name in public if f"\n{name} : " not in doc] == []


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_public_method_has_a_docstring(estimator):
    for name, method in inspect.getmembers(estimator, callable):
        if not name.startswith("_"):
            assert inspect.getdoc(method), name


def test_a_subclass_with_its_own_parameter_is_an_estimator_too():
    class Wide(TorchClassifier):
        """A classifier with a parameter more."""

        def __init__(self, net="mlp", *, width=7, **parameters):
            self.width = width
            super().__init__(net, **parameters)

    clf = Wide(width=3, lr=0.1, net__dropout=0.5)
    assert {"width", "lr", "class_weight", "net__dropout"} <= set(clf.get_params())
    assert "width=3" in repr(clf)


def test_skorch_is_not_imported_unless_used():
    code = "import sys, sktorch; sys.exit('skorch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_touches_no_accelerator():
    code = "import sktorch, torch; assert not torch.cuda.is_initialized()"
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_every_default_is_valid(estimator):
    names = estimator._parameter_constraints
    defaults = estimator().get_params()
    validate_parameter_constraints(names, defaults, caller_name=estimator.__name__)
    estimator()._validate_params()


@pytest.mark.parametrize(("lr", "words"), [(-1.0, "'lr' parameter of Odd must"), (True, "'lr'")])
def test_an_invalid_default_of_a_subclass_is_refused(lr, words):
    class Odd(TorchClassifier):
        """A classifier whose default is none."""

        def __init__(self, net="mlp", *, lr=lr, **parameters):
            super().__init__(net, lr=lr, **parameters)

    with pytest.raises(ValueError, match=words):
        Odd().fit(np.ones((4, 2)), [0, 1, 0, 1])
    Odd(lr=0.1, max_epochs=1).fit(np.ones((4, 2)), [0, 1, 0, 1])
