"""The examples tell what happens, and it does."""

from __future__ import annotations

import subprocess
import sys

from tests.conftest import EVENT_TIMEOUT_S


def test_the_cart_story() -> None:
    """An item is deleted while a replica is away. The replica returns after its hint has expired, and once more, from
    an old copy of its disk, after the tombstone was collected everywhere; the item stays deleted."""
    command = [sys.executable, "examples/cart_story.py"]
    done = subprocess.run(command, capture_output=True, timeout=EVENT_TIMEOUT_S, check=False, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    told = {line.split("  ")[0]: line for line in done.stdout.splitlines()}
    assert "readers see ['milk']" in told["Alice puts milk into her cart."]
    assert told["She removes it. A hint waits for n3."].endswith("hints 1")
    assert told["13 hours later the hint has expired."].endswith("hints 0")
    waiting = told["Two days: grace is over, but without n3 there is no proof."]
    assert waiting.count("a record") == 3, "nothing is collected while one replica is away"
    collected = told["All three have proved to know it is gone: nothing is left of it."]
    assert "a record" not in collected
    assert "it is emptied and filled anew" in done.stdout
    restored = told["n3 dies and is restored from the old copy: it empties itself."]
    assert "a record" not in restored and "readers see []" in restored
    assert done.stdout.splitlines()[-1] == "The item did not come back."
