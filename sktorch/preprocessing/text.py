"""Texts to rows of word numbers."""

from collections import Counter
from numbers import Integral

import numpy as np
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import check_is_fitted

__all__ = ["SequenceVectorizer"]

UNKNOWN, PADDING = "<unk>", "<pad>"


class SequenceVectorizer(TransformerMixin, BaseEstimator):
    """Turn texts into rows of word numbers of one length, for nets that begin with an embedding.

    Words are found as by scikit-learn's ``CountVectorizer``. Number 0 is ``<unk>``, any word that
    is not among the commonest; 1 is ``<pad>``, which fills short texts up; 2 is the commonest word.

    Parameters
    ----------
    max_features : int or None, default=10_000
        Numbers in all, the two special ones among them: the rows that an embedding needs. None
        keeps every word.
    max_len : int, default=200
        Length of each row. Longer texts lose their end.
    lowercase, strip_accents, preprocessor, tokenizer, stop_words, token_pattern
        As in ``sklearn.feature_extraction.text.CountVectorizer``.

    Attributes
    ----------
    vocabulary_ : dict of str to int
        The number of each word, by rising number.

    Examples
    --------
    >>> from sktorch.preprocessing import SequenceVectorizer
    >>> texts = ["the film was good", "the film, the film!"]
    >>> vectorizer = SequenceVectorizer(max_features=4, max_len=5).fit(texts)
    >>> vectorizer.vocabulary_
    {'<unk>': 0, '<pad>': 1, 'film': 2, 'the': 3}
    >>> vectorizer.transform(texts)
    array([[3, 2, 0, 0, 1],
           [3, 2, 3, 2, 1]])
    """

    _parameter_constraints = {
        "max_features": [Interval(Integral, 3, None, closed="left"), None],
        "max_len": [Interval(Integral, 1, None, closed="left")],
        "lowercase": ["boolean"],
        "strip_accents": [StrOptions({"ascii", "unicode"}), None, callable],
        "preprocessor": [callable, None],
        "tokenizer": [callable, None],
        "stop_words": [StrOptions({"english"}), list, None],
        "token_pattern": [str, None],
    }

    def __init__(
        self,
        max_features=10_000,
        max_len=200,
        *,
        lowercase=True,
        strip_accents=None,
        preprocessor=None,
        tokenizer=None,
        stop_words=None,
        token_pattern=r"(?u)\b\w\w+\b",
    ):
        self.max_features = max_features
        self.max_len = max_len
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        self.preprocessor = preprocessor
        self.tokenizer = tokenizer
        self.stop_words = stop_words
        self.token_pattern = token_pattern

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        return tags

    def fit(self, X, y=None):
        """Count the words of ``X``.

        Parameters
        ----------
        X : iterable of str
        y : ignored

        Returns
        -------
        self : SequenceVectorizer
        """
        self._validate_params()
        counts = Counter(word for words in self._words(X) for word in words)
        if not counts:
            raise ValueError(
                "X has no words. Check token_pattern, which leaves out words of one letter by "
                "default, and stop_words."
            )
        # Words that are as common as each other come in the order of the alphabet.
        ranked = sorted(counts, key=lambda word: (-counts[word], word))
        words = [UNKNOWN, PADDING, *ranked][: self.max_features]
        self.vocabulary_ = {word: number for number, word in enumerate(words)}
        return self

    def transform(self, X):
        """Return the numbers of the words of each text.

        Parameters
        ----------
        X : iterable of str

        Returns
        -------
        ids : ndarray of shape (n_samples, max_len), int64
        """
        check_is_fitted(self)
        rows = [
            [self.vocabulary_.get(word, 0) for word in words[: self.max_len]]
            for words in self._words(X)
        ]
        ids = np.full((len(rows), self.max_len), self.vocabulary_[PADDING], dtype=np.int64)
        for row, found in zip(ids, rows, strict=True):
            row[: len(found)] = found
        return ids

    def get_feature_names_out(self, input_features=None):
        """Return a name for each column: ``word0``, ``word1``, ...

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        names : ndarray of str of shape (max_len,)
        """
        check_is_fitted(self)
        return np.array([f"word{number}" for number in range(self.max_len)], dtype=object)

    def _words(self, X):
        """Yield the words of each text."""
        if isinstance(X, str):
            raise ValueError("X must be an iterable of texts, got one text. Pass a list of it.")
        analyze = CountVectorizer(
            lowercase=self.lowercase,
            strip_accents=self.strip_accents,
            preprocessor=self.preprocessor,
            tokenizer=self.tokenizer,
            stop_words=self.stop_words,
            token_pattern=self.token_pattern,
        ).build_analyzer()
        for number, text in enumerate(X):
            if not isinstance(text, str | bytes):
                raise ValueError(
                    f"X must hold texts, got a {type(text).__name__} at {number}: {text!r}. Fill "
                    'in what is missing, such as with "".'
                )
            yield analyze(text)
