"""Run the corpus on sktorch, skorch and scikit-learn's MLP, side by side.

``python -m corpus.compare``, in the directory ``tests``, prints a table in Markdown, and with
``--cases`` the outcome of each case.
"""

import argparse
import contextlib
import io
from collections import Counter

from corpus.libraries import LIBRARIES
from corpus.outcomes import GOOD, outcome
from corpus.table import CASES

WORDS = ("works", "told", "warned", "raw", "silent", "-")
HEADS = {
    "works": "works",
    "told": "refused, with the reason",
    "warned": "warned about",
    "raw": "fails otherwise",
    "silent": "silently wrong",
    "-": "has no such thing",
}


def outcomes(library):
    """Return the word for each case."""
    with contextlib.redirect_stdout(io.StringIO()):
        return [outcome(case, library) for case in CASES]


def main():
    """Print what comes of each case."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", action="store_true")
    options = parser.parse_args()
    found = {library.name: outcomes(library()) for library in LIBRARIES}
    print("| | of", *HEADS.values(), "good |", sep=" | ")
    print("|---" * (len(HEADS) + 3) + "|")
    for name, words in found.items():
        counts = Counter(word for word, _ in words)
        asked = len(words) - counts["-"]
        good = sum(counts[word] for word in GOOD) / asked
        print(f"| {name} | {asked} |", *(f"{counts[w]} |" for w in WORDS), f"{good:.1%} |")
    if options.cases:
        for place, case in enumerate(CASES):
            words = [words[place][0] for words in found.values()]
            print(f"{case.group}: {case.name}", *words, sep=" | ")
            for name, cells in found.items():
                print(f"    {name}: {cells[place][1][:600]!r}")


if __name__ == "__main__":
    main()
