"""Ratios of the loops, measured side by side: ``python -m asv_bench.report``.

Times of a shared machine drift; the ratio of two loops run in turn does not. Each figure is the
median over rounds in which every loop ran once. What is not installed is left out.
"""

import argparse
import subprocess
import sys
import time
from contextlib import contextmanager
from functools import partial

import numpy as np
import torch
from threadpoolctl import threadpool_limits

from asv_bench.benchmarks import fit, imports, memory, search
from asv_bench.benchmarks.peers import DENSE_ONLY, PEERS
from asv_bench.benchmarks.workloads import LOOPS, TINY, WORKLOADS, require_package, sktorch

# The ratios that are asked of a step: a name, what is divided by what.
STEP_RATIOS = {
    "sktorch / raw": ("sktorch", "raw"),
    "compiled / raw": ("sktorch, compiled", "raw"),
    "skorch / sktorch": ("skorch", "sktorch"),
    "skorch / compiled": ("skorch", "sktorch, compiled"),
    "scikit-learn / sktorch": ("scikit-learn", "sktorch"),
}


def side_by_side(functions, rounds):
    """Return seconds of each function that runs here, an array of shape (n_rounds,) each."""
    seconds = {}
    for name, function in functions.items():
        try:
            function()
        except (NotImplementedError, ImportError) as reason:
            print(f"{name} is left out: {reason}", file=sys.stderr)
        else:
            seconds[name] = []
    for _ in range(rounds):
        for name, times in seconds.items():
            started = time.perf_counter()
            functions[name]()
            times.append(time.perf_counter() - started)
    return {name: np.array(times) for name, times in seconds.items()}


def ratios(seconds, over, under):
    """Return the ratio in each round, or None where one of the two did not run."""
    return seconds[over] / seconds[under] if {over, under} <= seconds.keys() else None


def row(*cells):
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def header(*names):
    row(*names)
    print("|" + "---|" * len(names))


@contextmanager
def threads(n_threads):
    """Let torch and the libraries behind numpy compute with so many threads."""
    before = torch.get_num_threads()
    with threadpool_limits(n_threads):
        torch.set_num_threads(n_threads)
        try:
            yield
        finally:
            torch.set_num_threads(before)


def loops_for(work):
    """Return the loops that can train this work."""
    loops = {**LOOPS, **{name: PEERS[name][0] for name in ("skorch", "scikit-learn")}}
    left_out = {*DENSE_ONLY, "sktorch, compiled"} if work.has_images else set()
    return {name: loop for name, loop in loops.items() if name not in left_out}


def steps_table(options):
    """Print what an update takes, and the ratios asked of it: the median, and the worst round."""
    names = [*LOOPS, "skorch", "scikit-learn"]
    header("net", "threads", "us a step: raw", *names[1:], *STEP_RATIOS)
    for n_threads in options.threads:
        for net, work in WORKLOADS.items():
            epochs = max(1, round(options.steps / work.steps(1)))
            functions = {
                name: partial(loop, work, epochs) for name, loop in loops_for(work).items()
            }
            with threads(n_threads):
                seconds = side_by_side(functions, options.rounds)
            times = [
                f"{np.median(seconds[name]) / work.steps(epochs) * 1e6:.0f}"
                if name in seconds
                else ""
                for name in names
            ]
            row(net, n_threads, *times, *(words(seconds, *pair) for pair in STEP_RATIOS.values()))


def words(seconds, over, under):
    """Return the median ratio and the worst: the largest to the raw loop, else the smallest."""
    found = ratios(seconds, over, under)
    if found is None:
        return ""
    worst = max if under == "raw" else min
    return f"{np.median(found):.2f} ({worst(found):.2f})"


def fits_table(options):
    """Print what a fit costs beside its steps, and predictions, imports and memory."""
    header("what", "ratio", "at most")
    with threads(1):
        for epochs in (1, 10):
            functions = {
                name: partial(loop, fit.SMALL, epochs) for name, loop in fit.SMALL_FITS.items()
            }
            seconds = side_by_side(functions, 5 * options.rounds)
            what = f"a fit on 150 rows, {epochs} epoch{'s' if epochs > 1 else ''}: sktorch / "
            for other, limit in (("skorch", 1), ("scikit-learn", 3)):
                found = ratios(seconds, "sktorch", other)
                if found is not None:
                    row(what + other, f"{np.median(found):.2f}", limit)
        for net, work in WORKLOADS.items():
            row(f"{net}: predict / bare forward", f"{predict_ratio(work, options):.2f}", 1.11)
    row("import sktorch / what it depends on", f"{import_ratio(options):.2f}", 1.15)
    for way in memory.WAYS if sys.platform == "linux" else ():
        row(f"memory of a fit / its data ({way})", f"{memory_ratio(way):.2f}", 0.6)


def predict_ratio(work, options):
    n_rows = 5_000 if work.has_images else 100_000
    est = sktorch(work, epochs=1).__self__
    X = np.random.default_rng(0).normal(size=(n_rows, *work.shape)).astype(np.float32)

    @torch.inference_mode()
    def forward():
        est.net_(torch.from_numpy(X)).numpy()

    seconds = side_by_side({"predict": partial(est.predict, X), "bare": forward}, options.rounds)
    return np.median(ratios(seconds, "predict", "bare"))


def import_ratio(options):
    def process(code):
        return lambda: subprocess.run([sys.executable, "-c", code], check=True)

    functions = {"sktorch": imports.timeraw_sktorch(), "others": imports.DEPENDENCIES}
    functions = {name: process(code) for name, code in functions.items()}
    return np.median(ratios(side_by_side(functions, options.rounds), "sktorch", "others"))


MEMORY_OF_A_FIT = """
from asv_bench.benchmarks import memory
def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
X, y = memory.make_data(256)
memory.fit(X[:20_000], y[:20_000], "{way}")
before = peak()
memory.fit(X, y, "{way}")
print((peak() - before) / X.nbytes)
"""


def memory_ratio(way):
    code = MEMORY_OF_A_FIT.format(way=way)
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    return float(done.stdout)


def peers_table(options):
    """Print what others take for a step of the small net, and what they have learned then."""
    work = WORKLOADS[TINY]
    epochs = max(1, round(options.steps / work.steps(1)))
    scores, functions = {}, {}

    def trained(name, loop, package):
        require_package(package)
        scores[name] = work.quality(loop(work, epochs))

    loops = {**{name: (loop, None) for name, loop in LOOPS.items()}, **PEERS}
    functions = {name: partial(trained, name, *found) for name, found in loops.items()}
    with threads(1):
        seconds = side_by_side(functions, options.rounds)
    header("trainer", "us a step", "/ sktorch", f"accuracy after {epochs} epochs")
    for name, times in sorted(seconds.items(), key=lambda item: np.median(item[1])):
        relative = np.median(ratios(seconds, name, "sktorch"))
        micros = np.median(times) / work.steps(epochs) * 1e6
        row(name, f"{micros:.0f}", f"{relative:.2f}", f"{scores[name]:.3f}")


def search_table(options):
    """Print what a search of 20 candidates in 5 folds takes on two cores, and the best score.

    The compiled ones are also stacked.
    """
    scores = {}
    data, rates = search.data(5_000), np.geomspace(1e-4, 1e-2, 20).tolist()

    def searched(name):
        found = search.search(name, rates, 5, *data, epochs=5, n_jobs=2)
        scores[name] = found.best_score_

    functions = {name: partial(searched, name) for name in (*search.SEARCHES, *search.COMPILED)}
    with threads(2):
        seconds = side_by_side(functions, options.rounds)
    ways = [name for name in functions if "stacked" in name or "compiled" in name]
    header("search", "seconds", *(f"/ {way.removeprefix('sktorch, ')}" for way in ways), "score")
    for name, times in seconds.items():
        relative = [ratios(seconds, name, way) for way in ways]
        relative = ["" if each is None else f"{np.median(each):.1f}" for each in relative]
        row(name, f"{np.median(times):.2f}", *relative, f"{scores[name]:.3f}")


TABLES = {
    "steps": steps_table,
    "fits": fits_table,
    "peers": peers_table,
    "search": search_table,
}


def main():
    """Print tables in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=[*TABLES], help=f"of {', '.join(TABLES)}")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=1000, help="updates in a round, about")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    for name in options.tables:
        print(f"\n{TABLES[name].__doc__}\n", flush=True)
        TABLES[name](options)


if __name__ == "__main__":
    main()
