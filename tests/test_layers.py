"""The house: a file imports only from floors below its own, and no floor knows too much."""

import ast
from pathlib import Path

import sktorch

ROOT = Path(sktorch.__file__).parent

# A package is one storey: its own files may use each other, without a cycle.
FLOORS = [
    {
        "_version",
        "backward",
        "copying",
        "digest",
        "docstrings",
        "exceptions",
        "fields",
        "files",
        "finite",
        "fused",
        "rules",
        "specs",
    },
    {"history", "losses", "metrics", "nets", "optim", "penalties", "plain", "sameness"},
    {
        "callbacks",
        "data",
        "display",
        "fingerprint",
        "modelfile",
        "objective",
        "parameters",
        "persistence",
        "preprocessing",
        "seeds",
        "summaries",
        "watch",
    },
    {"engine"},
    {"fitted", "interop", "resumption", "settings", "storing"},
    {"base"},
    {"classifier", "regressor"},
    {"__init__"},
]


def modules():
    return {
        ".".join(path.relative_to(ROOT).with_suffix("").parts): path
        for path in sorted(ROOT.rglob("*.py"))
    }


def imports(path):
    """Yield (absolute name of an imported module) for every import in a file, at any depth."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module


def floor(name):
    room = name.split(".")[0]
    found = [number for number, rooms in enumerate(FLOORS) if room in rooms]
    assert found, f"{room} has no floor"
    return found[0]


def test_imports_point_down():
    upward = []
    for name, path in modules().items():
        room = name.split(".")[0]
        for target in imports(path):
            if not target.startswith("sktorch."):
                continue
            target = target.removeprefix("sktorch.")
            other = target.split(".")[0]
            if room != other and floor(target) >= floor(name):
                upward.append(f"{name} -> {target}")
    assert upward == []


def test_imports_have_no_cycle():
    known = modules()
    edges = {
        name: {t.removeprefix("sktorch.") for t in imports(path) if t.startswith("sktorch.")}
        & {*known}
        for name, path in known.items()
    }
    while edges:
        leaves = [name for name, targets in edges.items() if not targets & {*edges}]
        assert leaves, f"a cycle among {sorted(edges)}"
        for name in leaves:
            del edges[name]


def test_the_engine_knows_nothing_of_scikit_learn():
    for name, path in modules().items():
        if name.startswith("engine"):
            assert not [t for t in imports(path) if t.split(".")[0] == "sklearn"], name


def test_the_estimators_know_nothing_of_batches():
    for name in ("base", "classifier", "regressor"):
        assert "sktorch.data.batches" not in imports(modules()[name])


def test_the_face_of_the_package_holds_names_only():
    tree = ast.parse((ROOT / "__init__.py").read_text(encoding="utf-8"))
    assert {type(node) for node in tree.body} <= {ast.Expr, ast.ImportFrom, ast.Assign}
