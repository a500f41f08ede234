"""Which modules run compiled, and which as plain Python.

The hot modules (`compiled_modules.txt`) can be compiled to machine code by mypyc, from the same files that run without
it. Python prefers an extension module to the source beside it, so nothing has to be chosen, with two exceptions that
are looked for here, before any other module of the package is imported:

- QUORATE_PURE=1 in the environment: the sources are wanted, for tests, for debuggers, and for the simulator's planted
  bugs, which replace functions of the sources and could not replace those of an extension;
- a source was changed after it was compiled: what runs must be what can be read.

So a build leaves a digest of its sources, `compiled.digest`, as the last thing that it writes. To compare it costs each
start some three milliseconds. Rejected: looking at the times of files (a checkout of another commit, or an
installation, turns them round).
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Sequence
from importlib.machinery import SOURCE_SUFFIXES, FileFinder, ModuleSpec, SourceFileLoader
from pathlib import Path
from types import ModuleType
from typing import Final

PACKAGE_PATH: Final = Path(__file__).parent
MODULES_NAME: Final = "compiled_modules.txt"
DIGEST_NAME: Final = "compiled.digest"
SENTINEL: Final = "node/coordinator"
"""If this module is compiled, all are."""


class SourcesOnly:
    """A finder that knows this package's source files and nothing else, so that its extensions are passed over."""

    @staticmethod
    def find_spec(name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if path is None or not name.startswith("quorate."):
            return None
        for folder in path:
            spec = FileFinder(folder, (SourceFileLoader, SOURCE_SUFFIXES)).find_spec(name, target)
            if spec is not None:
                return spec
        return None


def run_upon_sources() -> None:
    """Start this very command anew upon the sources, unless it runs upon them already."""
    if COMPILED:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], {**os.environ, "QUORATE_PURE": "1"})


def sources_digest() -> str:
    """A digest of what is compiled."""
    digest = hashlib.blake2b(digest_size=16)
    for name in (PACKAGE_PATH / MODULES_NAME).read_text().split():
        digest.update((PACKAGE_PATH.parent / name).read_bytes())
    return digest.hexdigest()


def note_sources() -> None:
    """End a build in a checkout: these are the sources that the extensions were made of."""
    (PACKAGE_PATH / DIGEST_NAME).write_text(sources_digest())


def _reason_for_sources() -> str:
    """Why the sources run; empty if the compiled modules do."""
    if not any(PACKAGE_PATH.glob(f"{SENTINEL}.*.so")):
        return "not compiled"
    if os.environ.get("QUORATE_PURE") == "1":
        return "QUORATE_PURE=1"
    try:
        fits = (PACKAGE_PATH / DIGEST_NAME).read_text() == sources_digest()
    except FileNotFoundError:
        return "the build of the compiled modules did not come to its end"
    return "" if fits else "changed since they were compiled"


REASON_FOR_SOURCES: Final = _reason_for_sources()
COMPILED: Final = not REASON_FOR_SOURCES
"""Do the compiled modules run?"""
BUILD: Final = "compiled" if COMPILED else f"pure Python: {REASON_FOR_SOURCES}"
"""For people."""

if not COMPILED:
    sys.meta_path.insert(0, SourcesOnly)
