"""Which modules are compiled, and when the sources run in their place."""

from __future__ import annotations

import ast
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from quorate import _compiled

MODULES = (_compiled.PACKAGE_PATH / _compiled.MODULES_NAME).read_text().split()
ASK = "from quorate import _compiled; print(_compiled.BUILD); import quorate.one; print(quorate.one.__file__)"


@pytest.mark.parametrize("name", MODULES)
def test_a_compiled_module_has_no_structs(name: str) -> None:
    """mypyc drops what the class line says besides its bases: a struct would be encoded another way, silently."""
    tree = ast.parse((_compiled.PACKAGE_PATH.parent / name).read_text())
    classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    assert [one.name for one in classes if one.keywords or "Struct" in ast.unparse(ast.List(one.bases))] == []


class Package:
    """A package that chooses as this one does, with one module that has an extension, or something so named."""

    def __init__(self, path: Path) -> None:
        self.path = path / "quorate"
        (self.path / "node").mkdir(parents=True)
        shutil.copy(_compiled.__file__, self.path / "_compiled.py")
        (self.path / "__init__.py").write_text("")
        (self.path / "one.py").write_text("")
        (self.path / _compiled.MODULES_NAME).write_text("quorate/one.py\n")
        (self.path / f"{_compiled.SENTINEL}.any.so").write_text("")
        (self.path / f"one{_suffix()}").write_text("no extension: whoever loads it fails")

    def ask(self, **environment: str) -> subprocess.CompletedProcess[str]:
        clean = {name: value for name, value in os.environ.items() if name != "QUORATE_PURE"}
        return subprocess.run(
            [sys.executable, "-c", ASK],
            env={**clean, "PYTHONPATH": str(self.path.parent), **environment},
            capture_output=True,
            text=True,
            check=False,
        )

    def note_sources(self) -> None:
        done = subprocess.run(
            [sys.executable, "-c", "from quorate import _compiled; _compiled.note_sources()"],
            env={**os.environ, "PYTHONPATH": str(self.path.parent)},
            check=True,
        )
        assert done.returncode == 0


def _suffix() -> str:
    from importlib.machinery import EXTENSION_SUFFIXES

    return EXTENSION_SUFFIXES[0]


@pytest.fixture
def package(tmp_path: Path) -> Package:
    return Package(tmp_path)


def test_without_a_digest_the_sources_run(package: Package) -> None:
    done = package.ask()
    assert done.stdout.splitlines() == [
        "pure Python: the build of the compiled modules did not come to its end",
        str(package.path / "one.py"),
    ]


def test_with_the_digest_of_the_sources_the_extension_is_loaded(package: Package) -> None:
    package.note_sources()
    done = package.ask()
    assert done.stdout.splitlines()[0] == "compiled"
    assert "ImportError" in done.stderr and "one" in done.stderr, "it is no extension, and was loaded as one"


def test_who_wants_the_sources_gets_them(package: Package) -> None:
    package.note_sources()
    done = package.ask(QUORATE_PURE="1")
    assert done.stdout.splitlines() == ["pure Python: QUORATE_PURE=1", str(package.path / "one.py")]


def test_a_changed_source_runs_as_it_is_now(package: Package) -> None:
    package.note_sources()
    (package.path / "one.py").write_text("# changed\n")
    done = package.ask()
    assert done.stdout.splitlines() == [
        "pure Python: changed since they were compiled",
        str(package.path / "one.py"),
    ]


def test_without_an_extension_nothing_is_amiss(package: Package) -> None:
    for extension in package.path.rglob("*.so"):
        extension.unlink()
    assert package.ask().stdout.splitlines() == ["pure Python: not compiled", str(package.path / "one.py")]
