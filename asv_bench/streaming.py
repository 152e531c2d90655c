"""Training on a file larger than memory: ``python -m asv_bench.streaming --gigabytes 8``."""

import argparse
import tempfile
from pathlib import Path

import numpy as np

from asv_bench.benchmarks.streaming import LOOPS, grown, write


def main():
    """Print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gigabytes", type=float, default=8.0)
    parser.add_argument("--features", type=int, default=256)
    parser.add_argument("--loops", nargs="+", default=[*LOOPS], choices=[*LOOPS])
    parser.add_argument("--folder", help="where to write the file; by default that of temporaries")
    parser.add_argument("--rounds", type=int, default=1)
    options = parser.parse_args()
    n_rows = int(options.gigabytes * 2**30 // (4 * options.features))
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        X, y = write(Path(folder) / "X.npy", n_rows, options.features)
        for loop in options.loops:
            LOOPS[loop](X[:4096], y[:4096], True)
        print(f"{n_rows:,} rows of {options.features} float32")
        print("| loop | shuffled | rows/s | grown, MB |")
        print("|---|---|---|---|")
        for shuffle in (False, True):
            for loop in options.loops:
                rounds = [
                    grown(lambda loop=loop, shuffle=shuffle: LOOPS[loop](X, y, shuffle))
                    for _ in range(options.rounds)
                ]
                seconds, n_bytes = np.median(rounds, axis=0)
                print(f"| {loop} | {shuffle} | {n_rows / seconds:,.0f} | {n_bytes / 1e6:,.0f} |")


if __name__ == "__main__":
    main()
