"""Parameters of an estimator, those of its net, loss and optimizer by prefix among them."""

import functools
import inspect

from sklearn.base import BaseEstimator

__all__ = ["ParametrizedEstimator"]


class ParametrizedEstimator(BaseEstimator):
    """An estimator whose parts have parameters of their own, called ``<prefix>__<name>``.

    A subclass lists the prefixes in ``_prefixes`` and writes a constructor with ``**parameters``,
    which it passes on. The signature that scikit-learn and users see has all named parameters of
    the class and its bases instead. Whether the part behind a prefix takes a parameter is known,
    and said, when the part is built.
    """

    _prefixes = ()

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "__init__" in vars(cls):
            cls.__init__ = _with_inherited_signature(cls)

    def __init__(self, **parameters):
        for name, value in parameters.items():
            if not self._is_prefixed(name):
                raise TypeError(
                    f"{type(self).__name__} has no parameter {name!r}. Valid parameters: "
                    f"{', '.join(self._get_param_names())}, and those that begin with "
                    f"{', '.join(f'{prefix}__' for prefix in self._prefixes)}."
                )
            setattr(self, name, value)

    @classmethod
    @functools.cache
    def _get_param_names(cls):
        # A search asks some hundred times, and reading a signature costs as much as a small epoch.
        return super()._get_param_names()

    def _is_prefixed(self, name):
        prefix, found, rest = name.partition("__")
        return bool(found and rest) and prefix in self._prefixes

    def arguments(self, prefix):
        """Return what was set with ``prefix``, without it."""
        start = f"{prefix}__"
        return {k[len(start) :]: v for k, v in vars(self).items() if k.startswith(start)}

    def get_params(self, deep=True):
        """Return the parameters by name, the prefixed ones that are set among them.

        Parameters
        ----------
        deep : bool, default=True
            Also those of contained estimators, as everywhere in scikit-learn.

        Returns
        -------
        params : dict
        """
        params = super().get_params(deep=deep)
        for name, value in vars(self).items():
            if "__" in name and self._is_prefixed(name):
                params[name] = value
        return params

    def set_params(self, **params):
        """Set parameters by name; ``net__hidden_layer_sizes`` and its like may be new.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self : estimator
        """
        prefixed = {name: params.pop(name) for name in list(params) if self._is_prefixed(name)}
        super().set_params(**params)
        for name, value in prefixed.items():
            setattr(self, name, value)
        return self


def _with_inherited_signature(cls):
    """Wrap the constructor of ``cls`` so that its signature names every parameter."""
    init = vars(cls)["__init__"]
    signature = inspect.signature(init)
    named = {n: p for n, p in signature.parameters.items() if p.kind is not p.VAR_KEYWORD}
    if len(named) < len(signature.parameters):
        inherited = inspect.signature(super(cls, cls).__init__).parameters
        named = {**named, **{n: p for n, p in inherited.items() if n not in named}}
    named = {n: p for n, p in named.items() if p.kind is not p.VAR_KEYWORD}

    @functools.wraps(init)
    def wrapper(self, *args, **kwargs):
        init(self, *args, **kwargs)

    wrapper.__signature__ = signature.replace(parameters=list(named.values()))
    return wrapper
