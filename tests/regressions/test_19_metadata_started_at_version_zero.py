"""Hard case 19: after a rebalance data was lost, as new metadata had started at version zero (voldemort#290).

The node took up the older topology after its restart, dropped what that did not place on it, and the newer one said it
had been moved already. Here the one that the operator told, a source of the transfer, the newcomer, or everybody lose
power in the midst of a plan under traffic: of the ledger there is what was synced. Whoever comes back goes on by the
ring that it went by, at once; the plan comes to its end, and no acknowledged write is lost.
"""

from __future__ import annotations

import pytest

from quorate.core.errors import StorageError
from quorate.core.ports import Space
from quorate.core.ring.transition import Stage
from quorate.core.store import Wish
from quorate.node.ring_keeper import LEDGER_KEY
from tests.regressions.traffic import Traffic
from tests.unit.membership_cluster import KEYS, MembershipCluster
from tests.unit.small_cluster import DictEngine, Ports

LEDGER = (Space.META, LEDGER_KEY)
PROPOSER, SOURCE, NEWCOMER = 2, 3, 5
VICTIMS = {"proposer": [PROPOSER], "source": [SOURCE], "newcomer": [NEWCOMER], "everybody": [1, 2, 3, 4, NEWCOMER]}
MOMENTS = [
    (Stage.READ_OLD, 0),
    (Stage.READ_OLD, 2),
    (Stage.READ_OLD, 30),
    (Stage.READ_OLD, 400),
    (Stage.READ_NEW, 0),
    (Stage.READ_NEW, 2),
    (Stage.READ_NEW, 300),
    (None, 0),
]
"""(stage that somebody has just begun to go by, milliseconds later)"""
DOWN_MS = 2_000


class FlushedEngine(DictEngine):
    """Keeps in mind which ledger would be found after a loss of power."""

    def __init__(self, ports: Ports) -> None:
        super().__init__(ports)
        self.flushed: bytes | None = None

    def sync(self, done: object) -> None:
        ledger = self.data.get(LEDGER)

        def flushed(error: StorageError | None) -> None:
            self.flushed = ledger
            done(error)  # type: ignore[operator]

        super().sync(flushed)


class UnpoweredCluster(MembershipCluster):
    """Whoever is killed has lost of its ledger what was not synced."""

    def boot(self, number: int, newborn: bool = False) -> None:
        engine = self.engines.get(number)
        if not isinstance(engine, FlushedEngine):
            self.engines[number] = engine = FlushedEngine(self.ports.get(number) or Ports(self.world))
        super().boot(number, newborn)
        if engine.flushed is None:
            engine.flushed = engine.data[LEDGER]  # An identity is there before its node is (`server.founding`).

    def kill(self, number: int) -> None:
        super().kill(number)
        engine = self.engines[number]
        assert isinstance(engine, FlushedEngine) and engine.flushed is not None
        engine.data[LEDGER] = engine.flushed


@pytest.mark.parametrize(("stage", "after_ms"), MOMENTS)
@pytest.mark.parametrize("victim", list(VICTIMS))
def test_whoever_loses_power_in_a_plan_goes_on_where_it_was(victim: str, stage: Stage | None, after_ms: int) -> None:
    cluster = UnpoweredCluster(4)
    cluster.stock()
    traffic = Traffic(cluster, [b"hot%d" % index for index in range(10)], clients=10)
    cluster.wait_to_join(NEWCOMER)
    cluster.begin(PROPOSER, Wish("join", f"n{NEWCOMER}"))
    for passed in (Stage.READ_OLD, Stage.READ_NEW, None):
        cluster.until_stage(passed)
        if passed == stage:
            break
    if victim in ("newcomer", "everybody"):
        cluster.run_until(lambda: NEWCOMER in cluster.nodes, "it enters", step_ms=1)
    cluster.world.run(after_ms)
    went_by = {number: cluster.nodes[number].ring().version for number in VICTIMS[victim]}
    for number in went_by:
        cluster.kill(number)
    cluster.world.run(DOWN_MS)
    for number, version in went_by.items():
        cluster.join(number)
        node = cluster.nodes[number]
        assert node.ring().version >= version > 1, "it goes by no older ring than before"
        assert node._shared.view.told, "and needs nobody to tell it"
    cluster.until_steady()
    cluster.world.run(3_000)
    traffic.stop()
    assert cluster.ring_now().version == 1 + 3
    assert [failure for failure in traffic.failures if failure.kind == "caller"] == []
    assert len(traffic.acknowledged) > 20
    traffic.check_nothing_lost()
    cluster.check_agreement()
    cluster.check_data(KEYS, lambda key: b"v-" + key)
    cluster.check_places()
