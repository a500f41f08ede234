"""The node of a trial: the production process, its store watched and its clock one that can be set wrong.

    python -m quorate.trials.node --name n1 --data DIR --cluster FILE --record DIR --clock FILE

It dies with the process that started it, also while it is stopped and cannot notice that its stdin has ended.
"""

from __future__ import annotations

import argparse
import ctypes
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from quorate.core.errors import QuorateError
from quorate.core.ports import Engine
from quorate.server.configuration import load_configuration
from quorate.server.process import run_node
from quorate.trials.clocks import OffsetClock
from quorate.trials.recording import RecordingEngine

_PR_SET_PDEATHSIG = 1


def main(beneath: Callable[[Engine, str], Engine] = lambda engine, name: engine) -> int:
    """Run the node that the command line names. `beneath` may put something between the engine and what watches it:
    tests plant damage there, of which the side files know nothing."""
    parser = argparse.ArgumentParser(description="One node of a trial; trials start it.")
    for option in ("name", "data", "cluster", "record", "clock"):
        parser.add_argument(f"--{option}", required=True)
    options = parser.parse_args()
    die_with_parent()
    clock = OffsetClock(Path(options.clock))
    clock.listen()
    configuration = load_configuration(
        None, {"name": options.name, "data": options.data, "cluster": options.cluster, "insecure": False}
    )

    def watch(engine: Engine) -> Engine:
        return RecordingEngine(beneath(engine, options.name), Path(options.record), options.name)

    try:
        return run_node(configuration, attached=True, wrap_engine=watch, clock=clock)
    except QuorateError as error:
        sys.stderr.write(f"{options.name} does not start: {error}\n")
        return 1


def die_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
