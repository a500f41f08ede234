"""Builds the compiled modules, if asked to by QUORATE_COMPILE=1; everything else stands in pyproject.toml.

    make compile                                                      beside the sources, for this checkout
    QUORATE_COMPILE=1 pip wheel --no-build-isolation --no-deps .      a wheel for this platform and Python

mypyc turns the modules named in src/quorate/compiled_modules.txt into one extension. Without it the very same files run
as they are (`quorate._compiled` says which, and why), so nobody needs a C compiler.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

COMPILE = os.environ.get("QUORATE_COMPILE") == "1"
SOURCES = Path("src")


def compiled_extensions() -> list[object]:
    """The extension modules; none unless they are asked for."""
    if not COMPILE:
        return []
    from mypyc.build import mypycify  # noqa: PLC0415 - only there for development

    names = (SOURCES / "quorate" / "compiled_modules.txt").read_text().split()
    paths = [str(SOURCES / name) for name in names]
    return list(
        mypycify(["--config-file", "pyproject.toml", *paths], opt_level="3", debug_level="0", group_name="quorate")
    )


class BuildWithDigest(build_py):
    """Also says of which sources the extensions are, as `quorate._compiled` asks for."""

    def run(self) -> None:
        super().run()
        if COMPILE and not self.editable_mode:
            sys.path.insert(0, str(SOURCES))
            from quorate._compiled import DIGEST_NAME, sources_digest  # noqa: PLC0415

            (Path(self.build_lib) / "quorate" / DIGEST_NAME).write_text(sources_digest())


setup(ext_modules=compiled_extensions(), cmdclass={"build_py": BuildWithDigest})
