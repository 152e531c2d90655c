"""A running fit as the ``net`` and the ``history`` that a callback of skorch expects."""

import functools

import torch
from skorch.dataset import Dataset
from skorch.history import History
from torch import nn

from sktorch.data.checks import check_X
from sktorch.data.tensors import as_tensors
from sktorch.engine.inference import chunks
from sktorch.fields import caller

__all__ = ["Row", "RunningNet"]

_PREDICTING = ("predict", "predict_proba", "predict_log_proba", "decision_function", "score")
# Set anew by each optimizer that is built; a file may come from another kind.
_OWN_OF_GROUP = ("names", "rule", "fused", "foreach")


class Row(dict):
    """Values of an epoch or a batch; ``val_loss`` and ``valid_loss`` name the same one."""

    def _stored(self, key):
        if not dict.__contains__(self, key) and isinstance(key, str):
            for start, other in (("val_", "valid_"), ("valid_", "val_")):
                alias = other + key.removeprefix(start)
                if key.startswith(start) and dict.__contains__(self, alias):
                    return alias
        return key

    def __contains__(self, key):
        return dict.__contains__(self, self._stored(key))

    def __missing__(self, key):
        stored = self._stored(key)
        if stored == key:
            raise KeyError(key)
        return self[stored]

    def get(self, key, default=None):
        """Return a value by either name."""
        return dict.get(self, self._stored(key), default)


class Rows(History):
    """A history that does not copy itself to record a value, and knows what was recorded.

    Parameters
    ----------
    rows : iterable of dict

    Attributes
    ----------
    recorded : set of str
        What callbacks recorded of the latest epoch.
    """

    def __init__(self, rows=()):
        super().__init__(Row(row) for row in rows)
        self.recorded = set()

    @property
    def last(self):
        """The row of the latest epoch."""
        return list.__getitem__(self, -1)

    def new_epoch(self):
        """Begin the row of an epoch."""
        self.append(Row(batches=[], epoch=len(self) + 1))
        self.recorded = set()

    def record(self, attr, value):
        """Set a value of the latest epoch."""
        self.last[attr] = value
        self.recorded.add(attr)

    def record_batch(self, attr, value):
        """Set a value of the latest batch."""
        self.last["batches"][-1][attr] = value


class Forward(nn.Module):
    """The running net in eval mode, or the predictions that a callback has put in its place.

    Parameters
    ----------
    running : RunningNet
    """

    def __init__(self, running):
        super().__init__()
        self.module = running.module_
        self.running = running
        self._start = 0

    def forward(self, *args, **inputs):
        """Return predictions for inputs, or the next ones of those that were put in place."""
        stored = vars(self.running).get("forward_iter")
        if stored is not None:
            # It can be gone through once, but a score may predict twice.
            if not hasattr(stored, "y_pred"):
                stored.y_pred = torch.cat([*stored()])
            n_rows = len([*args, *inputs.values()][0])
            y_pred = stored.y_pred[self._start : self._start + n_rows]
            self._start = (self._start + n_rows) % len(stored.y_pred)
            return y_pred
        was_training = self.module.training
        self.module.eval()
        try:
            return self.module(*args, **inputs)
        finally:
            self.module.train(was_training)


class RunningNet:
    """What a callback of skorch gets as ``net``.

    It predicts by the rules of the estimator that is being fitted, with the weights of the moment.
    What it does not have itself is looked up there.

    Parameters
    ----------
    state : FitState
    estimator : TorchEstimator
        With the parameters of the fit.
    fitted : callable
        Returns the fitted attributes as of now, in a dict.
    """

    use_caching = "auto"
    initialized_ = True
    # Whoever lists a callback that prints wants it printed; its ``sink`` turns it off.
    verbose = 1

    def __init__(self, state, estimator, fitted):
        self._state = state
        self._estimator = estimator
        self._fitted = fitted
        self._predicts_with = None
        self.history = Rows()
        self.device = state.device
        self.module_ = state.net
        self.optimizer_ = state.optimizer
        module = state.objective.module
        self.criterion_ = nn.Identity() if module is None else module
        self.batch_size = state.train.sizes[0]

    def __getattr__(self, name):
        if name in ("_state", "_estimator", "_fitted", "_predicts_with"):
            raise AttributeError(name)
        found = getattr(self._predictor(), name)
        if name not in _PREDICTING:
            return found

        # Its name is what a scorer of scikit-learn goes by.
        @functools.wraps(found)
        def predict(X, *args, **kwargs):
            return found(_as_array(X), *args, **kwargs)

        return predict

    def __reduce__(self):
        """Pickle as the estimator that the fit has made so far."""
        return _same, (self._twin(self._fitted()),)

    def _predictor(self):
        """Return an estimator that predicts with the weights of the moment."""
        if self._predicts_with is None:
            fitted = self._fitted()
            # Rows come back as arrays, which have no names to compare.
            fitted.pop("feature_names_in_", None)
            self._predicts_with = fitted
        return self._twin({**self._predicts_with, "net_": Forward(self)})

    def _twin(self, fitted):
        twin = type(self._estimator).__new__(type(self._estimator))
        vars(twin).update({**self._estimator.get_params(deep=False), **fitted})
        return twin

    def forward_iter(self, X, device="cpu"):
        """Yield what the net gives for X, in eval mode, some thousand rows at a time."""
        predictor = self._predictor()
        dtype = predictor._signature.input_dtype
        for x, _, _ in chunks(check_X(predictor, _as_array(X), reset=False)):
            x = as_tensors(x, dtype, self.device, copy=True)
            with torch.inference_mode():
                yield caller(predictor.net_, x)(x).to(device)

    def get_params(self, deep=True):
        """Return the estimator's parameters, and the sizes of batches as numbers."""
        sizes = {"batch_size": self.batch_size}
        if self._state.valid is not None:
            sizes["iterator_valid__batch_size"] = self._state.valid.sizes[0]
        return {**self._estimator.get_params(deep=False), **sizes}

    def get_all_learnable_params(self):
        """Return (name, parameter) of the net, and of a loss that has any."""
        named = [*self.module_.named_parameters(), *self._state.objective.named_parameters()]
        return list({id(parameter): (name, parameter) for name, parameter in named}.values())

    # Files ------------------------------------------------------------------------------------

    def save_params(self, *, use_safetensors=False, f_history=None, **files):
        """Write the state of the module, the optimizer, the criterion; the history as JSON.

        Parameters
        ----------
        use_safetensors : bool
        f_history : str, path or file
        **files : str, path or file
            Called ``f_module`` (or ``f_params``), ``f_optimizer``, ``f_criterion``.
        """
        if f_history is not None:
            self.history.to_file(f_history)
        for part, file in self._parts(files):
            if not use_safetensors:
                torch.save(part.state_dict(), file)
                continue
            from safetensors.torch import save

            content = save(part.state_dict())
            if hasattr(file, "write"):
                file.write(content)
            else:
                with open(file, "wb") as opened:
                    opened.write(content)

    def load_params(self, *, checkpoint=None, use_safetensors=False, f_history=None, **files):
        """Read what ``save_params`` wrote.

        A history is read before the first epoch only: the fit then goes on from it.

        Parameters
        ----------
        checkpoint : skorch.callbacks.Checkpoint, optional
            Says which files.
        use_safetensors, f_history, **files
            As for ``save_params``.
        """
        if checkpoint is not None and f_history is None:
            f_history = checkpoint.f_history_
        if f_history is not None and not self._state.history.rows:
            self._go_on_from(Rows.from_file(f_history))
        if checkpoint is not None:
            files = {**checkpoint.get_formatted_files(self), **files}
        for name in ("f_history", "f_pickle"):
            files.pop(name, None)
        for part, file in self._parts(files):
            stored = self._read(file, use_safetensors)
            if part is self.optimizer_:
                own = [
                    {name: group[name] for name in _OWN_OF_GROUP if name in group}
                    for group in part.param_groups
                ]
                groups = zip(stored["param_groups"], own, strict=True)
                stored["param_groups"] = [{**group, **ours} for group, ours in groups]
            part.load_state_dict(stored)

    def _parts(self, files):
        """Yield what each of ``files`` is to hold, and the file."""
        parts = {
            "f_module": self.module_,
            "f_params": self.module_,
            "f_optimizer": self.optimizer_,
            "f_criterion": self.criterion_,
        }
        for name, file in files.items():
            if name not in parts:
                raise ValueError(
                    f"callbacks: {name} is not a part of a net that can be stored. "
                    f"Parts: {', '.join(parts)}, f_history."
                )
            if file is not None:
                yield parts[name], file

    def _read(self, file, use_safetensors):
        if not use_safetensors:
            return torch.load(file, map_location=self.device, weights_only=True)
        from safetensors.torch import load

        if hasattr(file, "read"):
            return load(file.read())
        with open(file, "rb") as opened:
            return load(opened.read())

    def _go_on_from(self, history):
        """Make the rows of an earlier fit those that this one adds to."""
        self.history = history
        rows = self._state.history.rows
        for row in history.to_list():
            ours = {("val_loss" if k == "valid_loss" else k): v for k, v in row.items()}
            rows.append({k: v for k, v in ours.items() if k not in NOT_COLUMNS})
        self._state.epoch = len(rows)


# What the history of skorch has beside what callbacks record and ours has too.
NOT_COLUMNS = (
    "batches",
    "train_batch_count",
    "valid_batch_count",
    "train_loss_best",
    "valid_loss_best",
)


def _as_array(X):
    if isinstance(X, Dataset):
        return X.X
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        return (X.float() if X.dtype is torch.bfloat16 else X).numpy()
    return X


def _same(value):
    return value
