"""Epochs stay ahead of every crash: reserved durably before they are minted, never minted twice over all lives."""

from __future__ import annotations

import pytest

from quorate.core.causality.actor import epoch_of
from quorate.core.errors import Overloaded, StorageError
from quorate.core.ports import OpenReport
from quorate.node import epochs as epochs_module
from quorate.node.epochs import Epochs
from tests.unit.small_cluster import DictEngine, Ports, World


class Store:
    def __init__(self) -> None:
        self.world = World()
        self.ports = Ports(self.world)
        self.engine = DictEngine(self.ports)
        self.failures: list[StorageError] = []

    def open(self, may_have_lost_writes: bool = False) -> Epochs:
        self.engine.report = OpenReport(fresh=False, clean=False, may_have_lost_writes=may_have_lost_writes)
        epochs = Epochs(member=1, engine=self.engine, clock=self.ports, rng=self.ports, on_failure=self.failures.append)
        epochs.start(lambda: None)
        return epochs


def test_no_epoch_is_minted_twice_over_any_number_of_lives() -> None:
    store = Store()
    minted: list[int] = []
    for _ in range(5):
        epochs = store.open()
        store.world.run(1)
        minted += [epoch_of(epochs.mint()) for _ in range(10)]
    assert minted == sorted(set(minted))


def test_a_slow_disk_makes_minting_wait_with_a_clear_refusal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epochs_module, "EPOCHS_PER_BLOCK", 4)
    monkeypatch.setattr(epochs_module, "EPOCHS_MARGIN", 2)
    store = Store()
    epochs = store.open()
    with pytest.raises(Overloaded):
        epochs.mint()
    store.world.run(1)
    held = store.engine.held_syncs = []
    minted = [epochs.mint() for _ in range(4)]
    with pytest.raises(Overloaded):
        epochs.mint()
    assert len(held) == 1, "one reservation at a time"
    held.pop()(None)
    minted.append(epochs.mint())
    assert len(set(minted)) == 5


def test_the_floor_rises_only_after_a_stop_that_may_have_lost_writes() -> None:
    store = Store()
    first = store.open()
    store.world.run(1)
    minted = epoch_of(first.mint())
    assert store.open(may_have_lost_writes=False).floor <= minted
    store.world.run(1)
    raised = store.open(may_have_lost_writes=True).floor
    assert raised > minted
    store.world.run(1)
    assert store.open(may_have_lost_writes=False).floor == raised, "the floor is kept"


def test_a_failed_reservation_fences() -> None:
    store = Store()
    store.engine.failure = StorageError("No space left on device")
    store.open()
    assert store.failures
