"""The program's name in messages is one that the reader's shell knows."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from quorate.cli.program import program_name


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed program, and a shell in the directory above it with nothing on its PATH."""
    path = tmp_path / ".venv" / "bin" / "quorate"
    path.parent.mkdir(parents=True)
    path.write_text("#!/bin/sh\n")
    path.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", "")
    return path


def test_a_program_that_is_not_on_the_path_is_named_by_its_path(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [".venv/bin/quorate", "up"])
    assert program_name() == ".venv/bin/quorate"
    monkeypatch.setattr(sys, "argv", [str(program), "up"])
    assert program_name() == ".venv/bin/quorate"
    (program.parents[2] / "elsewhere").mkdir(exist_ok=True)
    monkeypatch.chdir(program.parents[2] / "elsewhere")
    assert program_name() == str(program)


def test_the_plain_name_is_enough_where_the_shell_finds_the_same_program(
    program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", [str(program), "up"])
    monkeypatch.setenv("PATH", str(program.parent))
    assert program_name() == "quorate"
    other = tmp_path / "other" / "quorate"
    other.parent.mkdir()
    other.write_text("#!/bin/sh\n")
    other.chmod(0o755)
    monkeypatch.setenv("PATH", f"{other.parent}:{program.parent}")
    assert program_name() == ".venv/bin/quorate", "the shell would run another one"


def test_a_module_has_no_better_name(program: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", [str(program.with_name("main.py")), "up"])
    assert program_name() == "quorate"
