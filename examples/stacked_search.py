"""The same search one by one and as one program: equal results, and how long each takes.

Run it with ``--compile`` to compile the step of the stack too, and with ``--processes 2`` to share
the fits among two processes; both take some seconds once.
"""

import argparse
import time

import joblib
import numpy as np
from sklearn.datasets import make_classification
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sktorch import TorchClassifier


def build_search(max_epochs):
    """Return a search over 20 learning rates, with 5 folds."""
    net = TorchClassifier(batch_size=64, max_epochs=max_epochs, dtype="float32", random_state=0)
    grid = {"torchclassifier__lr": np.geomspace(1e-4, 1e-2, 20)}
    return GridSearchCV(make_pipeline(StandardScaler(), net), grid, cv=5)


def timed(search, X, y):
    """Return the seconds of a search."""
    started = time.perf_counter()
    search.fit(X, y)
    return time.perf_counter() - started


def main(n_samples=5000, max_epochs=5, compile=False, n_processes=1):
    """Print both times and whether the results are the same; return the ratio of times."""
    X, y = make_classification(n_samples, 20, n_informative=8, random_state=0)
    plain, stacked = build_search(max_epochs), build_search(max_epochs)
    seconds = timed(plain, X, y)
    print(f"one by one   {seconds:6.2f} s  best {plain.best_params_}")
    with joblib.parallel_config(backend="sktorch", n_processes=n_processes):
        if n_processes > 1:
            print(f"starting     {timed(stacked, X, y):6.2f} s")
        stacked_seconds = timed(stacked, X, y)
        print(f"as one       {stacked_seconds:6.2f} s  best {stacked.best_params_}")
        if compile:
            stacked.set_params(estimator__torchclassifier__compile=True)
            print(f"compiling    {timed(stacked, X, y):6.2f} s")
            print(f"compiled     {timed(stacked, X, y):6.2f} s")
    scores = [search.cv_results_["mean_test_score"] for search in (plain, stacked)]
    print(f"largest difference of a score: {np.abs(np.subtract(*scores)).max():.4f}")
    return seconds / stacked_seconds


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    ratio = main(compile=options.compile, n_processes=options.processes)
    print(f"{ratio:.1f} times as fast")
