"""Each of the 36 hard cases has its named test, which says what went wrong and where it was first seen.

The cases are what stores of this kind got wrong in production. A file `test_<nn>_<what went wrong>.py` tells one of
them, and begins with "Hard case <n>"; some take several files. A case without a file would need a line in `ELSEWHERE`.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

CASES = range(1, 37)
ELSEWHERE: dict[int, str] = {}
"""Case → why it has no file here. Empty, and meant to stay so."""
FOLDER = Path(__file__).parent
SEEN = re.compile(r"#\d+|PR ?\d+|kv679|CVE-\d+|launchpad \d+")
"""How a place where a case was first seen is written: an issue, a pull request, an advisory."""


def told() -> dict[int, list[Path]]:
    """Case → its files."""
    found: dict[int, list[Path]] = {}
    for path in sorted(FOLDER.glob("test_[0-9][0-9]_*.py")):
        found.setdefault(int(path.name[5:7]), []).append(path)
    return found


def names_of_tests(tree: ast.Module) -> list[str]:
    functions = [node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    return [name for name in functions if name.startswith("test_")]


def faults(number: int, path: Path) -> list[str]:
    """What a file lacks as the test of its case."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    text = " ".join((ast.get_docstring(tree) or "").split())
    begins = re.match(rf"Hard case {number}\b", text)
    checks = {
        f"it does not begin with 'Hard case {number}'": begins is None,
        "it does not say where the case was first seen": SEEN.search(text) is None,
        "it has no test": not names_of_tests(tree),
    }
    return [f"{path.name}: {fault}" for fault, there in checks.items() if there]


def test_every_hard_case_has_its_named_test() -> None:
    cases = told()
    assert sorted(cases) + sorted(ELSEWHERE) == list(CASES), "each case has a file, or a reason, and not both"
    assert [fault for number, paths in cases.items() for path in paths for fault in faults(number, path)] == []


def test_a_file_that_tells_nothing_would_be_found(tmp_path: Path) -> None:
    empty, wrong = tmp_path / "test_07_empty.py", tmp_path / "test_07_wrong.py"
    empty.write_text("")
    wrong.write_text(
        '"""Hard case 8: the merge depended on the order (voldemort#21)."""\n\ndef test_it() -> None: ...\n'
    )
    assert len(faults(7, empty)) == 3
    assert faults(7, wrong) == ["test_07_wrong.py: it does not begin with 'Hard case 7'"]
    assert faults(8, wrong) == []
