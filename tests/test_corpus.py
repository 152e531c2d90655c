"""Of the corpus of bad and odd inputs nothing is silently wrong, and every refusal says why."""

from collections import Counter
from pathlib import Path

import pytest
from corpus.libraries import Sktorch
from corpus.outcomes import GOOD, outcome
from corpus.table import CASES


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.group}: {case.name}")
def test_it_works_or_says_why_not(case):
    word, text = outcome(case, Sktorch())
    assert word in GOOD, f"{word}: {text}"


def test_the_corpus_is_as_large_as_is_said_and_names_each_case_once():
    root = Path(__file__).parent.parent
    for page in ("README.md", "docs/reliability.md"):
        assert f"{len(CASES)} bad and odd inputs" in (root / page).read_text(encoding="utf-8")
    twice = [name for name, n in Counter((c.group, c.name) for c in CASES).items() if n > 1]
    assert twice == []
