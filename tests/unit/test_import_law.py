"""The import law: layers depend downwards only, and the core and the node touch the world through ports alone.

That is what makes the simulator honest (it runs the very code that production runs) and equal seeds give equal
traces. The law reads every import statement, also inside functions and under `TYPE_CHECKING`.

For `core/` and `node/` there is a list of what *may* be imported rather than of what may not: a clock, a random source
or a thread that nobody has thought of is refused too. Extend it only by modules without time, chance, IO and threads.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

import pytest

from tests.unit.source_tree import PACKAGE, SourceFile, calls, imported_modules, source_files

LAYERS: dict[str, frozenset[str]] = {
    "core": frozenset(),
    "node": frozenset({"core"}),
    "adapters": frozenset({"core"}),
    "api": frozenset({"core"}),
    "client": frozenset({"core"}),
    "server": frozenset({"core", "node", "adapters", "api", "dashboard", "_compiled", "_process"}),
    "sim": frozenset({"core", "node", "adapters", "api", "client", "_compiled"}),
    "bench": frozenset({"core", "client", "_process"}),
    "dashboard": frozenset({"core"}),
    "cli": frozenset({"core", "client", "server", "sim", "bench", "_compiled", "_process"}),
    "trials": frozenset({"core", "adapters", "client", "server", "sim"}),
    "_compiled": frozenset(),
    "_process": frozenset(),
    "__init__": frozenset({"client", "core", "aio", "_compiled"}),
    "aio": frozenset({"client", "core"}),
    "__main__": frozenset({"cli"}),
}
"""Layer → the other layers that it may import. Single modules of the package stand here as layers of their own."""

PURE_MODULES = frozenset(
    {
        *(
            "__future__",
            "array",
            "base64",
            "binascii",
            "bisect",
            "collections",
            "dataclasses",
            "enum",
            "functools",
            "hashlib",
        ),
        *("heapq", "hmac", "itertools", "math", "operator", "string", "struct", "typing", "msgspec", "xxhash"),
    }
)
"""What the core may import besides itself."""
NODE_MODULES = PURE_MODULES | {"logging"}
"""The node may say what it does; a log line changes nothing that it decides."""
PURE_LAYERS = {"core": PURE_MODULES, "node": NODE_MODULES}

UNSTABLE_CALLS = frozenset({"id", "hash", "open", "input", "print", "eval", "exec", "__import__"})
"""Calls that differ between two runs of one seed, or reach around the ports."""

ORDER_FREE = frozenset({"sorted", "set", "frozenset", "any", "all", "len", "sum", "min", "max"})
"""What a generator over a set may be handed to: the order does not show in the result."""


def law_breaches(file: SourceFile) -> list[str]:
    """Every import of `file` that its layer forbids, as lines for a person to read."""
    breaches = []
    for line, name in imported_modules(file):
        reason = _forbidden(file.layer, name)
        if reason:
            breaches.append(f"{file.path}:{line}: {file.layer} imports {name}: {reason}")
    return breaches


def _forbidden(layer: str, name: str) -> str:
    top, _, rest = name.partition(".")
    if top != PACKAGE:
        allowed = PURE_LAYERS.get(layer)
        return "not on the list of pure modules" if allowed is not None and top not in allowed else ""
    target = rest.partition(".")[0]
    if target in ("", "__version__") or target == layer:
        return ""
    if target not in LAYERS:
        return f"'{target}' is no layer; name it in this test"
    if target not in LAYERS[layer]:
        return "imports point down only, and only assembly points know adapters and nodes"
    return ""


def order_breaches(file: SourceFile) -> list[str]:
    """Where `file` calls what is unstable, or walks over a set in its arbitrary order."""
    tree = file.tree()
    breaches = [
        f"{file.path}:{line}: {name}() is not the same in every run"
        for line, name, _ in calls(tree)
        if name in UNSTABLE_CALLS
    ]
    known = set(_names_of_sets(tree))
    order_free = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ORDER_FREE
        for argument in node.args
    }
    for node in ast.walk(tree):
        if id(node) not in order_free:
            breaches += [
                f"{file.path}:{walked.lineno}: walks over the set {ast.unparse(walked)} in no certain order; sort it"
                for walked in _walked(node)
                if _is_set(walked, known)
            ]
    return breaches


def _walked(node: ast.AST) -> list[ast.expr]:
    """What `node` takes the elements of, one after the other, where the order matters."""
    if isinstance(node, ast.For):
        return [node.iter]
    if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.DictComp):
        return [generator.iter for generator in node.generators]
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("list", "tuple", "iter", "enumerate", "dict.fromkeys"):
        return node.args[:1]
    if isinstance(node, ast.Starred):
        return [node.value]
    return []


def _is_set(node: ast.expr, known: set[str]) -> bool:
    if isinstance(node, ast.Set | ast.SetComp):
        return True
    if isinstance(node, ast.Call):
        return ast.unparse(node.func) in ("set", "frozenset")
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr | ast.BitAnd | ast.Sub | ast.BitXor):
        return _is_set(node.left, known) or _is_set(node.right, known)
    return ast.unparse(node) in known


def _names_of_sets(tree: ast.Module) -> Iterator[str]:
    """Names and attributes that the file declares as sets or makes sets of."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AnnAssign | ast.arg) and node.annotation is not None:
            if ast.unparse(node.annotation).split("[")[0] in ("set", "frozenset", "Set", "AbstractSet"):
                yield node.arg if isinstance(node, ast.arg) else ast.unparse(node.target)
        elif isinstance(node, ast.Assign) and _is_set(node.value, set()):
            for target in node.targets:
                yield ast.unparse(target)


def test_every_import_points_down() -> None:
    files = source_files("src/quorate")
    assert len(files) > 50, "the source was found"
    assert not {file.layer for file in files} - LAYERS.keys(), "every folder is a layer of the law"
    assert [breach for file in files for breach in law_breaches(file)] == []


def test_core_and_node_behave_the_same_in_every_run() -> None:
    files = [file for file in source_files("src/quorate") if file.layer in PURE_LAYERS]
    assert [breach for file in files for breach in order_breaches(file)] == []


def test_only_assembly_points_know_adapters_and_nodes() -> None:
    """The law itself: whoever edits the table above must edit this too, and think twice."""
    assert {layer for layer, below in LAYERS.items() if "adapters" in below} == {"server", "sim", "trials"}
    assert {layer for layer, below in LAYERS.items() if "node" in below} == {"server", "sim"}


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("src/quorate/core/ring/x.py", "import time"),
        ("src/quorate/core/x.py", "from random import random"),
        ("src/quorate/core/x.py", "def f():\n    import asyncio.locks"),
        ("src/quorate/core/x.py", "from quorate.node.node import Node"),
        ("src/quorate/core/x.py", "from quorate import client"),
        ("src/quorate/core/x.py", "import logging"),
        ("src/quorate/node/x.py", "import threading"),
        ("src/quorate/node/x.py", "from quorate.adapters.storage.memory import MemoryEngine"),
        ("src/quorate/api/resp/x.py", "from quorate.node.node import Node"),
        ("src/quorate/api/resp/x.py", "from ...adapters import storage"),
        ("src/quorate/client/x.py", "if TYPE_CHECKING:\n    from quorate.server import process"),
        ("src/quorate/adapters/x.py", "import quorate.node.node"),
        ("src/quorate/cli/x.py", "from quorate.adapters.storage.rocksdb import RocksEngine"),
        ("src/quorate/server/x.py", "from quorate.newlayer import thing"),
    ],
)
def test_a_forbidden_import_is_seen(path: str, text: str) -> None:
    assert len(law_breaches(SourceFile(path, text))) == 1


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (
            "src/quorate/core/x.py",
            "import msgspec\nfrom collections.abc import Set\nfrom quorate.core.ring import a",
        ),
        (
            "src/quorate/node/x.py",
            "import logging\nfrom quorate import __version__\nfrom quorate.core import ports",
        ),
        ("src/quorate/server/x.py", "import asyncio\nfrom quorate.adapters.storage.rocksdb import RocksEngine"),
        ("src/quorate/api/resp/x.py", "from . import parser\nfrom ..resp import slots"),
    ],
)
def test_a_lawful_import_is_let_through(path: str, text: str) -> None:
    assert law_breaches(SourceFile(path, text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "for x in {1, 2}: pass",
        "for x in set(y): pass",
        "a = {1}\nb = [x for x in a]",
        "def f(a: set[int]) -> None:\n    return list(a)",
        "class C:\n    def f(self):\n        self.a: set[int] = set()\n        return next(x for x in self.a)",
        "a = set()\nb = [*a]",
        "for x in a.keys() - set(b): pass",
        "key = id(x)",
        "key = hash('x')",
        "open('x')",
    ],
)
def test_an_uncertain_order_is_seen(text: str) -> None:
    assert len(order_breaches(SourceFile("src/quorate/core/x.py", text))) == 1


@pytest.mark.parametrize(
    "text",
    [
        "for x in sorted({1, 2}): pass",
        "a = set(b)\nc = any(x > 1 for x in a)",
        "a = {1}\nb = {x + 1 for x in a}",
        "for x in [1, 2]: pass",
        "a = {1: 2}\nfor x in a: pass",
    ],
)
def test_a_certain_order_is_let_through(text: str) -> None:
    assert order_breaches(SourceFile("src/quorate/core/x.py", text)) == []
