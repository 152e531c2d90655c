"""Ratios of the loops, measured side by side: ``python -m asv_bench.report``.

Times of a shared machine drift; the ratio of two loops run in turn does not. Each figure is the
median over rounds in which every loop ran once.
"""

import argparse
import time

import numpy as np
import torch

from asv_bench.benchmarks.workloads import LOOPS, WORKLOADS


def measure(work, rounds, epochs):
    """Return microseconds a step of each loop, an array of shape (n_rounds,) each."""
    seconds = {name: [] for name in LOOPS}
    for loop in LOOPS.values():
        loop(work, 1)
    for _ in range(rounds):
        for name, loop in LOOPS.items():
            started = time.perf_counter()
            loop(work, epochs)
            seconds[name].append(time.perf_counter() - started)
    return {name: np.array(s) / work.steps(epochs) * 1e6 for name, s in seconds.items()}


def main():
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    print(
        "| net | threads | us a step: "
        + " | ".join(LOOPS)
        + " | sktorch / raw | skorch / sktorch |"
    )
    print("|---|---|" + "---|" * (len(LOOPS) + 2))
    threads = torch.get_num_threads()
    for n_threads in sorted({1, threads}):
        torch.set_num_threads(n_threads)
        for name, work in WORKLOADS.items():
            steps = measure(work, options.rounds, options.epochs)
            medians = " | ".join(f"{np.median(steps[loop]):.0f}" for loop in LOOPS)
            to_raw = np.median(steps["sktorch"] / steps["raw"])
            to_skorch = np.median(steps["skorch"] / steps["sktorch"])
            print(f"| {name} | {n_threads} | {medians} | {to_raw:.2f} | {to_skorch:.1f} |")
    torch.set_num_threads(threads)


if __name__ == "__main__":
    main()
