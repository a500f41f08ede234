"""Reads the project's own source for the tests that hold it to its laws."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "quorate"


class SourceFile(NamedTuple):
    """One Python file, by its path from the project's root, with slashes."""

    path: str
    text: str

    @property
    def layer(self) -> str:
        """The folder below `src/quorate`; for the package's own modules, and for other files, the file's name."""
        parts = Path(self.path).parts
        return parts[2] if len(parts) > 3 else Path(self.path).stem

    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)


def source_files(folder: str) -> list[SourceFile]:
    """All Python files under `folder` (from the project's root), in the order of their paths."""
    paths = sorted((ROOT / folder).rglob("*.py"))
    return [SourceFile(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8")) for path in paths]


def imported_modules(file: SourceFile) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything that a file imports, wherever in it; `from a import b` is `a.b`."""
    for node in ast.walk(file.tree()):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            module = _resolved(file, node)
            for alias in node.names:
                yield node.lineno, f"{module}.{alias.name}"


def calls(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """(line, callee, arguments) of every call, as text."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield node.lineno, ast.unparse(node.func), ", ".join(map(ast.unparse, node.args))


def _resolved(file: SourceFile, node: ast.ImportFrom) -> str:
    """The absolute name of the module that is imported from."""
    if not node.level:
        return node.module or ""
    package = Path(file.path).with_suffix("").parts[1 : -node.level]
    return ".".join((*package, node.module) if node.module else package)
