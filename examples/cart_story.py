"""A cart, a node that is away for two days, and an item that stays deleted.

Run it:  python examples/cart_story.py

Three nodes, the very code that `quorate start` runs, in one process, on virtual disks, a virtual network and virtual
clocks, so that the story's days pass in a few seconds. What it prints is what it found, not what it expects; it ends
with exit code 1 if the item comes back anywhere at any time.
"""

from __future__ import annotations

import copy
import logging
import sys

from quorate.core.ports import Space
from quorate.core.store import GetRequest, GetResult, PutRequest, PutResult
from quorate.sim.run import SimOptions, Simulation

BUCKET, CART = b"carts", b"alice"
HOUR_MS = 3_600_000
AWAY = 3


class Story:
    """A cluster without load or faults of its own, and the verbs of the story."""

    def __init__(self) -> None:
        self.simulation = Simulation(2007, SimOptions(nodes=3, durability="fsync"))
        self.cluster = self.simulation.cluster
        self.resurrected = False
        for number in self.cluster.machines:
            self.cluster.start(number)
        self.until_well()

    def until_well(self) -> None:
        """Until all nodes are up, connected, and know that their copies may be read."""
        settled = lambda: self.cluster.whole() and not self.cluster.filling()  # noqa: E731
        if not self.simulation._wait(settled, 120_000):
            sys.exit("the cluster did not come up")

    def seconds(self, seconds: float) -> None:
        self.simulation._pass(seconds * 1000)

    def hours(self, hours: int) -> None:
        """So much time passes, an hour at a step, with a few minutes of work between the steps."""
        for _ in range(hours):
            self.cluster.pass_days(HOUR_MS)
            self.seconds(120)

    def put(self, node: int, value: bytes, context: object = None, delete: bool = False) -> None:
        answers: list[object] = []
        store = self.cluster.machines[node].node
        assert store is not None
        request = PutRequest(BUCKET, CART, value, context=context, delete=delete)  # type: ignore[arg-type]
        store.put(request, answers.append)
        self.seconds(1)
        assert isinstance(answers[0], PutResult), answers

    def read(self, node: int, r: int = 2) -> GetResult:
        answers: list[object] = []
        store = self.cluster.machines[node].node
        assert store is not None
        store.get(GetRequest(BUCKET, CART, r), answers.append)
        self.seconds(1)
        assert isinstance(answers[0], GetResult), answers
        return answers[0]

    def tell(self, what: str, deleted: bool = True) -> None:
        """One line: what happened, what readers see, and what lies on each disk."""
        stored_key = self.cluster.locate(BUCKET, CART)
        up = [number for number, machine in self.cluster.machines.items() if machine.ready]
        seen = [sibling.value.decode() for sibling in self.read(up[-1]).siblings]
        disks = {f"n{n}": "a record" if self.cluster.stored(n, stored_key) else "-" for n in self.cluster.machines}
        hints = sum(len(machine.disk.values[Space.HINTS]) for machine in self.cluster.machines.values())
        print(f"{what:<66} readers see {seen!r:<14} disks {disks}, hints {hints}")
        self.resurrected = self.resurrected or (deleted and bool(seen))


def main() -> int:
    logging.basicConfig(level=logging.WARNING, format="    %(message)s", stream=sys.stdout, force=True)
    story = Story()
    cluster = story.cluster
    story.put(1, b"milk")
    story.tell("Alice puts milk into her cart.", deleted=False)
    story.hours(1)
    snapshot = copy.deepcopy(cluster.machines[AWAY].disk.values)
    cluster.kill(AWAY)
    story.tell(f"n{AWAY} goes away. Somebody keeps a copy of its disk.", deleted=False)
    story.put(1, b"", story.read(1).context, delete=True)
    story.tell("She removes it. A hint waits for n3.")
    story.hours(13)
    story.tell("13 hours later the hint has expired.")
    story.hours(35)
    story.tell("Two days: grace is over, but without n3 there is no proof.")
    cluster.start(AWAY)
    story.until_well()
    story.seconds(30)
    story.tell("n3 returns with milk on its disk, and learns better.")
    story.hours(8)
    story.tell("All three have proved to know it is gone: nothing is left of it.")
    cluster.kill(AWAY)
    disk = cluster.machines[AWAY].disk
    disk.values = snapshot
    disk.keys = {space: sorted(values) for space, values in disk.values.items()}
    cluster.start(AWAY)
    story.until_well()
    story.seconds(30)
    story.tell("n3 dies and is restored from the old copy: it empties itself.")
    story.hours(24)
    story.tell("A day later.")
    print("The item came back." if story.resurrected else "The item did not come back.")
    return int(story.resurrected)


if __name__ == "__main__":
    sys.exit(main())
