"""A small cluster whose members change: candidates that wait, operators' commands, and what must hold afterwards."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec

from quorate.core.keyspace import split_storage_key
from quorate.core.membership.ring_consensus import RingValue
from quorate.core.messages import Candidacy, CandidacyReply
from quorate.core.ports import Space
from quorate.core.ring.metadata import of_value
from quorate.core.ring.ring import Member
from quorate.core.ring.transition import Stage, StagedRing
from quorate.core.store import Admin, Failure, GetResult, PutResult, Wish
from tests.unit.small_cluster import SmallCluster, member
from tests.unit.tree_twin import differing, digests_in

KEYS = [b"k%d" % index for index in range(40)]
CANDIDACY_INTERVAL_MS = 1_000


class MembershipCluster(SmallCluster):
    """Nodes can wait to join; they are members, and run as such, as soon as a ring says so."""

    def __init__(self, size: int = 3, **more: Any) -> None:
        super().__init__(size, **more)
        self.waiting: dict[str, Member] = {}
        """Candidates by id; their numbers are not known yet."""
        self.refused: dict[str, str] = {}

    # --- candidates ---

    def wait_to_join(self, index: int, **changes: Any) -> Member:
        """A node with the name, id and host of the member `index`, as far as not changed, asks to be let in."""
        found = msgspec.structs.replace(member(index), number=0, **changes)
        self.waiting[found.id] = found
        self._ask(found.id)
        self.world.run(5)
        return found

    def _ask(self, candidate_id: str) -> None:
        found = self.waiting.get(candidate_id)
        if found is None:
            return
        fields = ("id", "name", "host", "zone", "weight", "peer_address", "client_address", "http_address")
        message = Candidacy(*(getattr(found, field) for field in fields), software="1", engine="dict")
        for number, node in list(self.nodes.items()):
            if self.ports[number].alive and number not in self.muted:
                node.on_candidacy(message, lambda reply: self._on_reply(candidate_id, reply))
        self.world.at(CANDIDACY_INTERVAL_MS, lambda: self._ask(candidate_id))

    def _on_reply(self, candidate_id: str, reply: CandidacyReply) -> None:
        if reply.refused:
            self.refused[candidate_id] = reply.refused
        for found in of_value(reply.ring).ring.members:
            if found.id == candidate_id and candidate_id in self.waiting:
                del self.waiting[candidate_id]
                self.world.at(0, partial(self._enter, found, reply.ring))

    def _enter(self, own: Member, ring: RingValue) -> None:
        self.own[own.number] = own
        self.founding_of[own.number] = ring
        self.join(own.number, newborn=True)

    # --- operators ---

    def plan(self, node: int, wish: Wish) -> dict[str, Any]:
        result = self.call(lambda reply: self.nodes[node].plan(wish, reply))
        assert isinstance(result, Admin), result
        return result.document

    def commit(self, node: int, wish: Wish, plan_id: str = "") -> Admin | Failure:
        plan_id = plan_id or self.plan(node, wish)["id"]
        result: Admin | Failure = self.call(lambda reply: self.nodes[node].commit(wish, plan_id, reply))
        return result

    def begin(self, node: int, wish: Wish) -> None:
        result = self.commit(node, wish)
        assert isinstance(result, Admin), result

    def abort(self, node: int) -> Admin | Failure:
        result: Admin | Failure = self.call(self.nodes[node].abort)
        return result

    # --- waiting ---

    def run_until(
        self, condition: Callable[[], bool], what: str, limit_ms: float = 60_000, step_ms: float = 10
    ) -> None:
        end_ms = self.world.now_ms + limit_ms
        while not condition():
            assert self.world.now_ms < end_ms, what
            self.world.run(step_ms)

    def until_stage(self, stage: Stage | None, step_ms: float = 1) -> None:
        """Until somebody goes by a ring in this stage; None: steady."""
        self.run_until(
            lambda: any(self.stage(number) == stage for number in self.running()), f"{stage}", 60_000, step_ms
        )

    def until_steady(self, limit_ms: float = 90_000) -> None:
        self.run_until(self.steady, "the plan comes to its end, and everybody hears of it", limit_ms)

    def steady(self) -> bool:
        rings = [self.nodes[number].ring() for number in self.running()]
        return all(ring == rings[0] and ring.transition is None for ring in rings)

    def stage(self, number: int) -> Stage | None:
        transition = self.nodes[number].ring().transition
        return None if transition is None else transition.stage

    def running(self) -> list[int]:
        return [number for number in self.nodes if self.ports[number].alive and number not in self.muted]

    # --- what must hold ---

    def ring_now(self) -> StagedRing:
        return max((self.nodes[number].ring() for number in self.running()), key=lambda ring: ring.version)

    def check_agreement(self) -> None:
        """All that run go by one steady ring, durably, and know it of each other."""
        self.until_steady()
        self.world.run(15_000)
        running = self.running()
        positions = {number: self.nodes[number]._shared.rings.chain.confirmed.id for number in running}
        assert len(set(positions.values())) == 1, positions
        position = positions[running[0]].position
        for number in running:
            for other in self.nodes[number]._shared.view.names:
                if other in running:
                    facts = self.nodes[number]._membership._gossip.facts_of(other)
                    assert facts is not None and facts.confirmed == position, (number, other)

    def check_data(self, keys: list[bytes], value_of: Callable[[bytes], bytes]) -> None:
        """Every key is read with R = 2 through every running node."""
        for number in self.running():
            for key in keys:
                assert self.values(number, key, r=2) == [value_of(key)], (number, key)

    def check_places(self) -> None:
        """Every member holds what the ring says, and nothing else; its trees say so too."""
        self.world.run(10_000)
        held = {number: self.held(number) for number in self.running()}
        for number in self.running():
            view = self.nodes[number]._shared.view
            for key in held[number]:
                partition, bucket, _ = split_storage_key(key)
                assert view.bucket(bucket).placements[partition].stores, f"{number} keeps {key!r} no more"
            assert differing(self.nodes[number], digests_in(self.engines[number])) == []
        for key in {key for keys in held.values() for key in keys}:
            partition, bucket, _ = split_storage_key(key)
            homes = self.nodes[self.running()[0]]._shared.view.bucket(bucket).placements[partition].homes
            assert all(key in held[home] for home in homes if home in held), f"{key!r} is at all of {homes}"

    def held(self, number: int) -> list[bytes]:
        self.nodes[number]._shared.commits.flush()
        return sorted(key for space, key in self.engines[number].data if space == Space.DATA)

    def stock(self) -> None:
        for key in KEYS:
            assert isinstance(self.put(1, key, b"v-" + key, w=3), PutResult)
        self.world.run(100)

    def check_all(self) -> None:
        self.check_agreement()
        self.check_data(KEYS, lambda key: b"v-" + key)
        self.check_places()

    def read(self, node: int, key: bytes, r: int = 2) -> list[bytes] | None:
        result = self.get(node, key, r)
        return [sibling.value for sibling in result.siblings] if isinstance(result, GetResult) else None
