"""The hint store against a dictionary of records, over random writes, deliveries, restarts and damage."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from quorate.core.causality.dotted_version_vectors import sync
from quorate.core.errors import Overloaded
from quorate.core.hints import Hint, hint_key, pack_hint, split_hint_key, unpack_hint
from quorate.core.ports import Space
from quorate.core.record import Record, Sibling, check, decode_record, encode_record
from quorate.node.commit_queue import CommitQueue
from quorate.node.hints import HintStore
from tests.unit.small_cluster import DictEngine, Ports, World

homes = st.integers(1, 3)
keys = st.sampled_from([b"\x00\x01\x01ba", b"\x00\x01\x01bb", b"\x00\x02\x01ba"])
AGE_MAX_MS = 1_000
BYTES_MAX = 700


class HintStoreMachine(RuleBasedStateMachine):
    """`expected[home, key]` is (created at, record), by the rules in words."""

    @initialize()
    def begin(self) -> None:
        self.world = World()
        self.ports = Ports(self.world)
        self.engine = DictEngine(self.ports)
        self.counters: dict[int, int] = {}
        self.expected: dict[tuple[int, bytes], tuple[int, Record]] = {}
        self.sent: list[tuple[bytes, bytes]] = []
        self.open()

    def open(self) -> None:
        self.commits = CommitQueue(self.engine, self.ports, lambda error: None)
        self.store = HintStore(
            engine=self.engine,
            commits=self.commits,
            clock=self.ports,
            bytes_max=BYTES_MAX,
            age_max_ms=AGE_MAX_MS,
            count=lambda event: None,
        )

    @rule(home=homes, key=keys, actor=st.integers(1, 4), size=st.integers(0, 60))
    def keep(self, home: int, key: bytes, actor: int, size: int) -> None:
        counter = self.counters[actor] = self.counters.get(actor, 0) + 1
        new = Record({actor: counter}, [Sibling(actor, counter, counter << 16, b"v" * size)])
        before = self.store.size_bytes
        now_ms = self.ports.wall_ms()
        created_ms, old = self.expected.get((home, key), (now_ms, None))
        if old is not None and now_ms - created_ms > AGE_MAX_MS:
            created_ms, old = now_ms, None
        try:
            self.store.keep(home, key, encode_record(new), 0, 0)
        except Overloaded:
            assert self.store.size_bytes == before
            return
        self.expected[home, key] = (created_ms, new if old is None else sync(old, new))

    @rule(home=homes)
    def send(self, home: int) -> None:
        self.sent = self.store.page(home, b"", 10)
        assert [pair[0] for pair in self.sent] == [hint_key(home, key) for key in sorted(self.keys_of(home))]

    def keys_of(self, home: int) -> list[bytes]:
        return [key for other, key in self.expected if other == home]

    @rule()
    def acknowledged(self) -> None:
        for stored_key, stored in self.sent:
            place = split_hint_key(stored_key)
            found = self.expected.get(place)
            hint = unpack_hint(stored_key, stored)
            same = found is not None and (hint.created_ms, hint.body) == (found[0], encode_record(found[1]))
            assert self.store.remove_if_unchanged(stored_key, stored) is same
            if same:
                del self.expected[place]
        self.sent = []

    @rule()
    def end_of_turn(self) -> None:
        self.world.run(1)

    @rule(milliseconds=st.integers(1, 800))
    def wait(self, milliseconds: int) -> None:
        self.world.run(milliseconds)

    @rule()
    def sweep(self) -> None:
        for _ in range(2):
            self.store.sweep(100)
        now_ms = self.ports.wall_ms()
        self.expected = {place: found for place, found in self.expected.items() if now_ms - found[0] <= AGE_MAX_MS}

    @rule()
    def restart(self) -> None:
        self.commits.flush()
        self.open()

    @invariant()
    def counts_and_content_are_as_expected(self) -> None:
        self.commits.flush()
        stored = {key[1]: value for key, value in self.engine.data.items() if key[0] == Space.HINTS}
        assert self.store.size_bytes == sum(len(key) + len(value) for key, value in stored.items()) <= BYTES_MAX
        for home in (1, 2, 3):
            count = self.store.by_home.get(home)
            assert (count.hints if count else 0) == len(self.keys_of(home))
        for place, (created_ms, record) in self.expected.items():
            hint = unpack_hint(hint_key(*place), stored[hint_key(*place)])
            assert (hint.created_ms, hint.body) == (created_ms, encode_record(record))
            check(decode_record(hint.body))


HintStoreMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
TestHintStore = HintStoreMachine.TestCase


def test_packing_is_reversible_and_deterministic() -> None:
    for actor in (0, 1, (1 << 64) - 1):
        hint = Hint(1_800_000_000_000, 3, actor, b"\x00" * 100)
        assert unpack_hint(b"\x00\x01k", pack_hint(b"\x00\x01k", hint)) == hint
        assert pack_hint(b"\x00\x01k", hint) == pack_hint(b"\x00\x01k", hint)
