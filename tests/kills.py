"""Kill a fit that writes checkpoints, at random moments, and see whether anything is lost.

``python tests/kills.py --kills 200`` prints what it found. Each fit runs in a process of its own,
forked from one that has imported everything, and gets SIGKILL; the next one resumes it, until it
ends.
"""

import argparse
import os
import signal
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from nets import DroppingMLP

from sktorch import TorchClassifier
from sktorch.callbacks import Checkpoint
from sktorch.callbacks.checkpoint import newest_checkpoint, numbered_files

RNG = np.random.default_rng(0)
X = RNG.normal(size=(200, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int) + (X[:, 1] > 1)


def fit(folder, result):
    """Fit, resuming what is in ``folder``, and write the bits of what came out to ``result``."""
    clf = TorchClassifier(
        DroppingMLP,
        lr=0.02,
        batch_size=25,
        max_epochs=25,
        early_stopping=True,
        patience=25,
        lr_scheduler="onecycle",
        ema_decay=0.9,
        random_state=0,
        callbacks=[Checkpoint(folder, keep_best=2)],
    )
    clf.fit(X, Y, resume_from=folder)
    history = clf.history_.drop(columns="epoch_time").to_numpy()
    Path(result).write_bytes(clf.predict_proba(X).tobytes() + history.tobytes())


def in_a_process(work, *arguments, seconds=None):
    """Run ``work`` in a forked process, killed after ``seconds``; return whether it was."""
    child = os.fork()
    if child == 0:
        try:
            work(*arguments)
            os._exit(0)
        except BaseException as error:
            print(repr(error), flush=True)
            os._exit(1)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if os.WIFSIGNALED(status):
        return True
    assert os.waitstatus_to_exitcode(status) == 0, "a fit failed"
    return False


def run(n_kills, seed=0):
    """Kill ``n_kills`` times; return what was found as numbers by name."""
    with tempfile.TemporaryDirectory() as root:
        root = Path(root)
        # In this process, which then has imported all that a fit needs; twice, to know how long.
        torch.set_num_threads(1)
        for name in ("first", "whole"):
            started = time.perf_counter()
            fit(root / name, root / "wanted")
            length = time.perf_counter() - started
        wanted = (root / "wanted").read_bytes()
        found = dict.fromkeys(("kills", "while writing", "unreadable", "resumed", "different"), 0)
        moments, fits = np.random.default_rng(seed), 0
        while found["kills"] < n_kills:
            fits += 1
            folder, result = root / f"fit-{fits}", root / f"result-{fits}"
            folder.mkdir()
            # As long as a fit lasts, so that some fits are killed more than once and some never.
            while in_a_process(fit, folder, result, seconds=moments.uniform(0, length)):
                found["kills"] += 1
                found["while writing"] += bool(list(folder.glob(".*")))
                found["unreadable"] += count_unreadable(folder)
                if found["kills"] == n_kills:
                    in_a_process(fit, folder, result)
                    break
            found["resumed"] += 1
            found["different"] += result.read_bytes() != wanted
        return found


def count_unreadable(folder):
    """Return how many of the files that a dead process left cannot be read."""
    count = 0
    for path in numbered_files(folder).values():
        alone = path.parent / "alone"
        alone.mkdir()
        os.link(path, alone / path.name)
        try:
            newest_checkpoint(alone)
        except ValueError:
            count += 1
        (alone / path.name).unlink()
        alone.rmdir()
    return count


def main():
    """Print what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    for name, count in run(options.kills, options.seed).items():
        print(f"{name:14} {count}")


if __name__ == "__main__":
    main()
