"""What the linters do not hold: small files, small functions, a purpose for each module, no waiting by the clock.

The exceptions are a ratchet: an entry that is no longer needed must go, and a new one needs a reason beside it.
"""

from __future__ import annotations

import ast

import pytest

from tests.unit.source_tree import SourceFile, calls, source_files

FILE_LINES_MAX = 500
FUNCTION_LINES_MAX = 50

LONG_FILES: frozenset[str] = frozenset()
LONG_FUNCTIONS: frozenset[str] = frozenset()
"""`path::function`."""
PATIENT_FILES = frozenset({"src/quorate/server/data_directory.py", "src/quorate/cli/cluster_link.py"})
"""May call `time.sleep`: a start waits, boundedly, for the lock of a process that is just ending; a command that looks
on at a change of membership asks again now and then."""

BANNED_CALLS = frozenset({"asyncio.as_completed", "asyncio.get_event_loop"})
SLEEPS = frozenset({"time.sleep", "asyncio.sleep"})
CLOCKLESS_TESTS = tuple(f"tests/{kind}/" for kind in ("unit", "property", "conformance", "simulation", "regressions"))


def style_breaches(file: SourceFile) -> list[str]:
    """What is wrong with one file, as lines for a person to read."""
    tree = file.tree()
    breaches = []
    lines = file.text.count("\n")
    if lines > FILE_LINES_MAX and file.path not in LONG_FILES:
        breaches.append(f"{file.path} has {lines} lines; split it by its concepts (at most {FILE_LINES_MAX})")
    if file.text.strip() and not ast.get_docstring(tree):
        breaches.append(f"{file.path} does not say what it is for")
    breaches += [
        f"{file.path}:{line}: {name} has {length} lines (at most {FUNCTION_LINES_MAX})"
        for line, name, length in function_lengths(tree)
        if length > FUNCTION_LINES_MAX and f"{file.path}::{name}" not in LONG_FUNCTIONS
    ]
    breaches += [
        f"{file.path}:{line}: {name}() is banned"
        for line, name, arguments in calls(tree)
        if _banned(file, name, arguments)
    ]
    return breaches


def function_lengths(tree: ast.Module) -> list[tuple[int, str, int]]:
    """(line, name, number of lines without its docstring) of every function."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno is not None
            docstring = ast.get_docstring(node, clean=False)
            length = node.end_lineno - node.lineno + 1 - (docstring.count("\n") + 1 if docstring else 0)
            found.append((node.lineno, node.name, length))
    return found


def _banned(file: SourceFile, name: str, arguments: str) -> bool:
    if name in BANNED_CALLS:
        return True
    if arguments == "0":
        return False  # a sleep of nothing waits for the loop's next turn, not for the clock
    if file.path.startswith(CLOCKLESS_TESTS):
        return name in SLEEPS
    return name == "time.sleep" and file.path.startswith("src/") and file.path not in PATIENT_FILES


@pytest.mark.parametrize("folder", ["src/quorate", "tests"])
def test_every_file_keeps_the_style(folder: str) -> None:
    files = source_files(folder)
    assert len(files) > 20, "the files were found"
    assert [breach for file in files for breach in style_breaches(file)] == []


def test_the_ratchet_has_no_slack() -> None:
    files = {file.path: file for file in source_files("src/quorate") + source_files("tests")}
    for path in LONG_FILES:
        assert files[path].text.count("\n") > FILE_LINES_MAX, f"{path} needs no exception any more"
    for entry in LONG_FUNCTIONS:
        path, _, function = entry.partition("::")
        lengths = [length for _, name, length in function_lengths(files[path].tree()) if name == function]
        assert max(lengths) > FUNCTION_LINES_MAX, f"{entry} needs no exception any more"
    for path in PATIENT_FILES:
        assert "time.sleep(" in files[path].text, f"{path} needs no exception any more"


def padded(lines: int) -> str:
    return '"""Purpose."""\n' + "x = 1\n" * (lines - 1)


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("src/quorate/core/x.py", padded(FILE_LINES_MAX + 1)),
        ("src/quorate/core/x.py", "x = 1\n"),
        ("src/quorate/core/x.py", '"""P."""\ndef f():\n' + "    x = 1\n" * FUNCTION_LINES_MAX),
        ("src/quorate/client/x.py", '"""P."""\nfor x in asyncio.as_completed(y):\n    pass\n'),
        ("src/quorate/client/x.py", '"""P."""\ntime.sleep(1)\n'),
        ("tests/unit/x.py", '"""P."""\nasync def f():\n    await asyncio.sleep(1)\n'),
    ],
)
def test_a_breach_is_seen(path: str, text: str) -> None:
    assert len(style_breaches(SourceFile(path, text))) == 1


def test_the_bounds_themselves_are_allowed() -> None:
    function = '"""P."""\ndef f():\n    """Some\n    words."""\n' + "    x = 1\n" * (FUNCTION_LINES_MAX - 1)
    turn = '"""P."""\nasync def f():\n    await asyncio.sleep(0)\n'
    for text in (padded(FILE_LINES_MAX), function, turn, ""):
        assert style_breaches(SourceFile("src/quorate/core/x.py", text)) == []
