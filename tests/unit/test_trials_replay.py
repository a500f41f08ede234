"""The replay of side files: dots, and the checks W, hint and store on histories that are good and bad."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from quorate.adapters.storage.memory import MemoryEngine
from quorate.core.causality.actor import make_actor
from quorate.core.envelope import digest_of, pack
from quorate.core.hints import Hint, hint_key, pack_hint
from quorate.core.ports import Cancellable, Engine, Space
from quorate.core.record import Record, Sibling, encode_record
from quorate.sim.history import Ack, WriteEntry
from quorate.trials.recording import RecordingEngine
from quorate.trials.replay import Replay
from quorate.trials.workload import now_us

KEY = b"\x00\x01\x05cartskey"
NAMES = {1: "n1", 2: "n2", 3: "n3"}
ACTOR = make_actor(1, 1)
DOT = (ACTOR, 1)
BODY = encode_record(Record({ACTOR: 1}, [Sibling(ACTOR, 1, 5 << 16, b"one", operation=9)]))


class NoScheduler:
    """For engines that nobody asks to sync."""

    def call_soon(self, callback: Callable[[], None]) -> None:
        raise AssertionError("nothing is synced here")

    def call_later(self, delay_ms: float, callback: Callable[[], None]) -> Cancellable:
        raise AssertionError("nothing is synced here")


class Disks:
    """Three recorded engines; n1 and n2 are the replicas of everything."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.engines: dict[int, Engine] = {number: MemoryEngine(NoScheduler()) for number in NAMES}
        self.recorded = {number: RecordingEngine(self.engines[number], folder, NAMES[number]) for number in NAMES}

    def store(self, number: int) -> None:
        self.recorded[number].write([(Space.DATA, KEY, pack(digest_of(KEY, BODY), 0, BODY))])

    def hint(self, number: int, home: int, keep: bool = True) -> None:
        key = hint_key(home, KEY)
        self.recorded[number].write([(Space.HINTS, key, pack_hint(key, Hint(1, 0, 0, BODY)) if keep else None)])

    def restart(self, number: int) -> None:
        self.recorded[number] = RecordingEngine(self.engines[number], self.folder, NAMES[number])

    def replay(self, *writes: WriteEntry) -> Replay:
        replay = Replay(self.folder, NAMES, lambda key: (1, 2))
        replay.run(writes, self.engines)
        return replay


@pytest.fixture
def disks(tmp_path: Path) -> Disks:
    return Disks(tmp_path)


def acked(w: int, strict: bool = True) -> WriteEntry:
    """The write, acknowledged just now."""
    ack = Ack(0, now_us() + 1, {ACTOR: 1})
    return WriteEntry(0, KEY, b"one", operation=9, w=w, strict=strict, acks=[ack])


def checks(replay: Replay) -> list[str]:
    return [violation.check for violation in replay.violations]


def test_dots_and_contents_are_learnt(disks: Disks) -> None:
    disks.store(1)
    disks.store(2)
    replay = disks.replay(acked(2))
    assert list(replay.observer.dots[KEY]) == [DOT]
    assert replay.observer.dots_of(acked(2)) == [DOT]
    assert replay.contents[1] == replay.contents[2] != replay.contents[3]
    assert checks(replay) == []


def test_an_acknowledgement_needs_w_nodes(disks: Disks) -> None:
    disks.store(1)
    assert checks(disks.replay(acked(1))) == []
    assert checks(disks.replay(acked(2))) == ["W"]


def test_what_comes_after_the_acknowledgement_does_not_count_for_it(disks: Disks) -> None:
    disks.store(1)
    write = WriteEntry(0, KEY, b"one", operation=9, w=2, acks=[Ack(0, now_us(), {ACTOR: 1})])
    while now_us() <= write.acks[0].completed_us:
        pass
    disks.store(2)
    assert checks(disks.replay(write)) == ["W"]


def test_a_hint_counts_for_a_sloppy_write_only(disks: Disks) -> None:
    disks.store(1)
    disks.hint(3, home=2)
    assert checks(disks.replay(acked(2, strict=False))) == []
    assert checks(disks.replay(acked(2, strict=True))) == ["W"]


def test_a_record_on_a_node_that_is_no_replica_does_not_count(disks: Disks) -> None:
    disks.store(1)
    disks.store(3)
    assert checks(disks.replay(acked(2, strict=False))) == ["W"]


def test_a_hint_may_go_when_its_home_has_it(disks: Disks) -> None:
    disks.hint(3, home=2)
    disks.store(2)
    disks.hint(3, home=2, keep=False)
    assert checks(disks.replay()) == []


def test_a_hint_that_goes_before_its_home_has_it_is_seen(disks: Disks) -> None:
    disks.hint(3, home=2)
    disks.hint(3, home=2, keep=False)
    disks.store(2)
    assert checks(disks.replay()) == ["hint"]


def test_a_hint_that_goes_with_its_range_is_seen(disks: Disks) -> None:
    disks.hint(3, home=2)
    disks.recorded[3].delete_range(Space.HINTS, hint_key(2, b""), hint_key(3, b""))
    assert checks(disks.replay()) == ["hint"]


def test_a_batch_that_was_never_stored_has_no_dots(disks: Disks, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(batch: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(disks.engines[1], "write", die)
    with pytest.raises(KeyboardInterrupt):
        disks.store(1)
    monkeypatch.undo()
    disks.restart(1)
    replay = disks.replay()
    assert replay.observer.dots == {}
    assert (replay.unfinished, replay.dropped, replay.violations) == (1, 1, [])


def test_a_finished_batch_that_the_next_life_does_not_find_is_lost(disks: Disks) -> None:
    disks.store(1)
    disks.engines[1].write([(Space.DATA, KEY, None)])
    disks.restart(1)
    disks.store(1)
    assert checks(disks.replay()) == ["store"]
