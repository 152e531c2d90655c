"""Rows a second from data that is resident, streamed, or read by a DataLoader; and what it takes.

``python -m asv_bench.streaming`` prints the same for a file of any size.
"""

import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

from sktorch import TorchClassifier

BATCH_ROWS = 512


def write(path, n_rows, n_features):
    """Write rows of float32 to ``path`` and return them as a map, with labels."""
    rng = np.random.default_rng(0)
    block = rng.normal(size=(2**14, n_features)).astype(np.float32)
    X = np.lib.format.open_memmap(path, "w+", np.float32, (n_rows, n_features))
    for start in range(0, n_rows, len(block)):
        X[start : start + len(block)] = block[: n_rows - start]
    X.flush()
    y = np.resize((block[:, 0] > 0).astype(np.int64), n_rows)
    # Not "r": torch warns of each array that it must not write to.
    return np.load(path, mmap_mode="r+"), y


def new_net(n_features):
    """Return a net that is no more work than reading its rows."""
    return nn.Sequential(nn.Linear(n_features, 32), nn.ReLU(), nn.Linear(32, 2))


class Rows(Dataset):
    """Samples of arrays, one at a time."""

    def __init__(self, X, y):
        self.X, self.y = X, y

    def __len__(self):
        return len(self.X)

    def __getitem__(self, i):
        return self.X[i], self.y[i]


def estimator(X, y, shuffle, **settings):
    """Train an epoch with TorchClassifier; y is None where X is a Dataset."""
    n_features = X.shape[1] if hasattr(X, "shape") else X.X.shape[1]
    TorchClassifier(
        new_net(n_features),
        batch_size=BATCH_ROWS,
        max_epochs=1,
        early_stopping=False,
        shuffle=shuffle,
        device="cpu",
        **settings,
    ).fit(X, y)


def loader(X, y, shuffle, **settings):
    """Train an epoch with a DataLoader over samples, the loop being written by hand."""
    net = new_net(X.shape[1])
    optimizer = torch.optim.Adam(net.parameters(), fused=True)
    loss = nn.CrossEntropyLoss()
    for x, target in DataLoader(Rows(X, y), batch_size=BATCH_ROWS, shuffle=shuffle):
        optimizer.zero_grad()
        loss(net(x), target).backward()
        optimizer.step()


LOOPS = {
    "resident": lambda X, y, shuffle: estimator(np.array(X), y, shuffle, data_source="resident"),
    "streamed": lambda X, y, shuffle: estimator(X, y, shuffle, data_source="streamed"),
    "Dataset": lambda X, y, shuffle: estimator(Rows(X, y), None, shuffle, classes=[0, 1]),
    "DataLoader": loader,
}


def grown(work):
    """Return seconds that ``work()`` takes, and bytes by which the process grew at most."""
    process, peak, done = psutil.Process(), [0], threading.Event()

    def watch():
        while not done.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss)

    before = process.memory_info().rss
    thread = threading.Thread(target=watch)
    thread.start()
    started = time.perf_counter()
    work()
    seconds = time.perf_counter() - started
    done.set()
    thread.join()
    return seconds, max(0, peak[0] - before)


class Streaming:
    """An epoch over a file of 64 MB, by the way its rows are read."""

    param_names = ("loop", "shuffle", "n_features")
    params = ([*LOOPS], [False, True], [20, 256])
    timeout = 300

    def setup(self, loop, shuffle, n_features):
        self.folder = tempfile.TemporaryDirectory()
        n_rows = 2**26 // (4 * n_features)
        self.X, self.y = write(Path(self.folder.name) / "X.npy", n_rows, n_features)

    def teardown(self, loop, shuffle, n_features):
        del self.X
        self.folder.cleanup()

    def track_rows_per_second(self, loop, shuffle, n_features):
        return len(self.y) / grown(lambda: LOOPS[loop](self.X, self.y, shuffle))[0]

    def track_bytes_grown(self, loop, shuffle, n_features):
        return grown(lambda: LOOPS[loop](self.X, self.y, shuffle))[1]
