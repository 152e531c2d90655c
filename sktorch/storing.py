"""``save`` and ``load``, and what a pickle of an estimator holds."""

import torch
from sklearn.utils.validation import check_is_fitted

from sktorch.data.targets import Labels, Values
from sktorch.engine.loop import gradients
from sktorch.engine.parts import LAST_LAYERS
from sktorch.engine.rebuild import load_exactly, rebuild_net, tensors_of, trial_output
from sktorch.engine.source import DataSource
from sktorch.history import History
from sktorch.losses import find_loss
from sktorch.modelfile import read_model, write_model
from sktorch.nets import is_built_in
from sktorch.objective import Signature, build_objective
from sktorch.persistence import current_versions, freeze, thaw, warn_of_other_versions
from sktorch.plain import NotStored, from_plain, to_plain
from sktorch.specs import describe

__all__ = ["Storable"]

_RECORDS = (Labels, Values, Signature, History, DataSource)

# Fitted attributes that do not end in an underscore and are of plain values.
_PRIVATE = ("_target", "_signature", "_history", "_net_given", "_parameter_rules")
_MADE_ANEW = ("net_", "device_")


class Storable:
    """An estimator that goes into a file and comes out as it was."""

    def save(self, path):
        """Write the fitted estimator to one file, which ``load`` reads without running code.

        The weights are stored as safetensors, the rest as JSON, with a checksum of both. Parameters
        that have no words in JSON, such as a function of yours or a callback, are named only;
        what the optimizer knew is left out, so that ``partial_fit`` begins with a new one.

        Parameters
        ----------
        path : str or path-like
            Replaced if it exists, when the new file is complete.

        Examples
        --------
        >>> import tempfile
        >>> from sklearn.datasets import load_iris
        >>> from sktorch import TorchClassifier
        >>> X, y = load_iris(return_X_y=True)
        >>> clf = TorchClassifier(max_epochs=1).fit(X, y)
        >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
        >>> clf.save(path)
        >>> bool((TorchClassifier.load(path).predict(X) == clf.predict(X)).all())
        True
        """
        check_is_fitted(self)
        if self._net_given != self._describe_net():
            raise ValueError(
                f"save: net was set to {self._describe_net()} since fit, which trained "
                f"{self._net_given}. Set it back, or fit again."
            )
        tensors, extra = tensors_of(self.net_)
        signature = self._signature
        trial = trial_output(self.net_, signature.sample_shape, signature.input_dtype, self.device_)
        loss = self._stored_loss()
        document = {
            "estimator": type(self).__name__,
            "versions": current_versions(),
            "parameters": {
                name: _parameter(value) for name, value in self.get_params(deep=False).items()
            },
            "fitted": {name: _fitted(name, value) for name, value in self._plain_attributes()},
            "extra": _fitted("get_extra_state() of net", extra),
            "trainable": [name for name, p in self.net_.named_parameters() if p.requires_grad],
            "last": self._appended(),
            "has_loss": loss is not None,
        }
        write_model(
            path,
            document,
            {
                **{f"net/{name}": tensor for name, tensor in tensors.items()},
                **{f"loss/{name}": tensor for name, tensor in (loss or {}).items()},
                **({} if trial is None else {"trial": trial}),
            },
        )

    @classmethod
    def load(cls, path, net=None):
        """Read an estimator that ``save`` wrote; it predicts on the CPU.

        Parameters
        ----------
        path : str or path-like
        net : class, callable or nn.Module, optional
            What builds the net, unless that is a net of sktorch or torch: code is not in the file.
            A module is copied and gets the weights of the file.

        Returns
        -------
        estimator : TorchClassifier or TorchRegressor

        Raises
        ------
        DamagedModelError
            If the file is not as it was written.
        ValueError
            If it was saved by another class, or in a format of a later version; or if ``net`` is
            needed, does not fit the weights, or computes something else than what was saved.
        """
        # What is made in inference mode cannot be trained on.
        with gradients():
            return cls._read(path, net)

    @classmethod
    def _read(cls, path, net):
        document, tensors = read_model(path)
        if document["estimator"] != cls.__name__:
            raise ValueError(
                f"{str(path)!r} holds a {document['estimator']}. Load it with "
                f"{document['estimator']}.load."
            )
        warn_of_other_versions("model", document["versions"])
        parameters = {name: _full(value) for name, value in document["parameters"].items()}
        if net is not None:
            parameters["net"] = net
        if isinstance(parameters["net"], NotStored):
            raise ValueError(
                f"{str(path)!r} was saved with net={parameters['net'].text}, whose code is not in "
                f"the file. Pass what builds it: {cls.__name__}.load(path, net=...)."
            )
        if isinstance(net, torch.nn.Module):
            parameters = {k: v for k, v in parameters.items() if not k.startswith("net__")}
        estimator = cls(**parameters)
        fitted = {name: _full(value) for name, value in document["fitted"].items()}
        vars(estimator).update(fitted, device_=torch.device("cpu"), _progress=None)
        estimator._rebuild(document, tensors)
        return estimator

    def _rebuild(self, document, tensors):
        """Make the net and the loss of a loaded estimator."""
        self._require_stored("net", "net__")
        signature = self._signature
        known = (signature.sample_shape, signature.input_dtype, tensors.get("trial"))
        n_outputs = signature.width
        if not is_built_in(self.net) and not isinstance(self.loss, NotStored):
            loss = find_loss(self.loss, classification=self._classifies)
            n_outputs = self._target.n_outputs(loss)
        self.net_ = rebuild_net(
            self.net,
            self.arguments("net"),
            {"n_features_in": signature.widths_in(), "n_outputs": n_outputs},
            document["last"],
            _within(tensors, "net/"),
            _full(document["extra"]),
            known if "trial" in tensors else None,
        )
        for name, parameter in self.net_.named_parameters():
            parameter.requires_grad_(name in document["trainable"])
        self._net_given = self._describe_net()
        self._loss_module = None
        if document["has_loss"]:
            self._loss_module = self._rebuilt_loss(_within(tensors, "loss/"))

    def _plain_attributes(self):
        """Return the names and values of fitted attributes that are neither net nor loss."""
        parameters = self.get_params(deep=False)
        return [
            (name, value)
            for name, value in vars(self).items()
            if name in _PRIVATE
            or (name.endswith("_") and name not in _MADE_ANEW and name not in parameters)
        ]

    def _appended(self):
        """Return what the output of a built-in net means by a layer that was appended, or None."""
        layer = LAST_LAYERS.get(self._signature.meaning)
        if not is_built_in(self.net) or layer is None:
            return None
        return self._signature.meaning if type(self.net_[-1]) is type(layer()) else None

    def _stored_loss(self):
        """Return the tensors of a loss with trained weights, or None.

        Those of a user's loss are of no use without its code.
        """
        if self._loss_module is None:
            return None
        return tensors_of(self._loss_module)[0] if isinstance(self.loss, str) else {}

    def _rebuilt_loss(self, tensors):
        if not isinstance(self.loss, str):
            return NotStored(f"the trained weights of loss={describe(self.loss)}")
        n_classes = len(self._target.classes)
        sizes = {"n_features": self._signature.width, "n_outputs": n_classes}
        loss = find_loss(self.loss, classification=self._classifies)
        objective = build_objective(
            self.loss, self.arguments("loss"), loss, **sizes, counts=torch.ones(n_classes)
        )
        load_exactly(objective.module, tensors, {}, "loss")
        return objective.module.eval()

    def _require_stored(self, *beginnings):
        """Refuse to go on with parameters that a file could not hold."""
        if not any(isinstance(value, NotStored) for value in vars(self).values()):
            return
        for name, value in self.get_params(deep=False).items():
            if isinstance(value, NotStored) and name.startswith(beginnings):
                raise ValueError(
                    f"{name} was {value.text} when the model was saved, which its file does not "
                    f"hold. Set it again: set_params({name}=...)."
                )
        if isinstance(vars(self).get("_loss_module"), NotStored) and "loss" in beginnings:
            raise ValueError(
                f"{self._loss_module.text} are not in the file that the model was loaded from. "
                "Use joblib to store them, or fit again."
            )

    def _validate_params(self):
        self._require_stored("")
        super()._validate_params()

    def __getstate__(self):
        return freeze(super().__getstate__())

    def __setstate__(self, state):
        with gradients():
            state = thaw(state)
        if "net_" in state:
            state["device_"] = torch.device("cpu")
        super().__setstate__(state)


def _parameter(value):
    """Return a parameter as JSON has it, or the name of one that it cannot hold."""
    try:
        return to_plain(value, _RECORDS)
    except TypeError as error:
        return {"not stored": str(error)}


def _fitted(name, value):
    try:
        return to_plain(value, _RECORDS)
    except TypeError as error:
        raise ValueError(
            f"save: {name} holds {error}, which the file cannot. Use joblib.dump."
        ) from None


def _full(value):
    return from_plain(value, _RECORDS)


def _within(tensors, prefix):
    """Return the tensors whose names begin with ``prefix``, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
