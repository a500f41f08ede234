"""The name of this program, as whoever started it can type it again.

Messages name commands to copy. `make run` starts a program that is on nobody's PATH, so its plain name would be one
that the shell does not know.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

PROGRAM = "quorate"


def program_name() -> str:
    """`quorate` if that is what the shell would run, else the path by which this process was started."""
    started_as = Path(sys.argv[0])
    if started_as.name != PROGRAM or not started_as.is_file():
        return PROGRAM  # Started as a module, or in a test: there is no better name.
    found = shutil.which(PROGRAM)
    if found is not None and Path(found).samefile(started_as):
        return PROGRAM
    try:
        near = os.path.relpath(started_as)
    except ValueError:
        return str(started_as)
    return str(started_as) if near.startswith("..") else near
