"""Hinted handoff: what this node keeps for others goes home (SOSP 2007, §4.6).

For each home that can be used, its hints are sent in key order, a bounded number on the way at a time and as fast as
background work is admitted. A hint is removed when the home has acknowledged it durably and it still says what was
sent. Whatever fails is tried again at the next pass: refusals and silence are not success (hard case 15).

Passes begin when a home is seen alive, at start-up too (hard case 9), and every `PASS_INTERVAL_MS` while there is
anything to hand over. A hint older than half of `grace` is dropped, whether its home is there or not: anti-entropy
covers it, and beyond that horizon it could bring back what was deleted. A hint for a member that is gone goes to the
replicas of its key instead, of which this node may be one (hard case 14); so does one whose home keeps that key no
more. A node that has left the cluster does not wait for homes that are away: its peers will not know it much longer, so
the replicas that can be reached take what it keeps.
"""

from __future__ import annotations

import logging

from quorate.core.errors import DamagedRecord, StorageError
from quorate.core.hints import Hint, split_hint_key, unpack_hint
from quorate.core.keyspace import split_storage_key
from quorate.core.limits import HINTS_IN_FLIGHT_MAX
from quorate.core.messages import FLAG_FSYNC, FLAG_HINTED, FLAG_LAST_WRITE_WINS, Message, Status, Write
from quorate.node.context import NodeContext
from quorate.node.gather import Answers, ask

log = logging.getLogger(__name__)

PASS_INTERVAL_MS = 1_000.0
HINT_TIMEOUT_MS = 5_000
HINTS_SWEPT_PER_PASS = 500
"""Hints whose age is looked at in each interval; at 1 GiB of small hints all are seen within an hour or two."""


class _Delivery:
    """One pass over the hints of one home."""

    __slots__ = ("after", "delivered", "failed", "finished_reading", "in_flight", "waiting")

    def __init__(self) -> None:
        self.waiting = False
        """For background work to be admitted: a timer is set."""
        self.after = b""
        self.in_flight = 0
        self.delivered = 0
        self.failed = False
        self.finished_reading = False


class Handoff:
    """Delivers hints to their homes."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._deliveries: dict[int, _Delivery] = {}

    def start(self) -> None:
        """Look for something to hand over now and then; see also `wake`."""

        def look() -> None:
            homes = list(self._node.hints.by_home)
            if homes and not self._node.fenced_because:
                self._sweep()
            for home in homes:
                self.wake(home)
            self._node.scheduler.call_later(PASS_INTERVAL_MS, look)

        self._node.scheduler.call_later(PASS_INTERVAL_MS, look)

    def _sweep(self) -> None:
        try:
            self._node.hints.sweep(HINTS_SWEPT_PER_PASS)
        except StorageError as error:
            log.error("the hints could not be looked through: %s", error)

    def delivers_to(self, home: int) -> bool:
        """Is a pass for `home` under way? What it brings, no exchange should bring as well."""
        return home in self._deliveries

    def wake(self, home: int) -> None:
        """Begin a pass for `home` if it can be used, has hints, and none is under way."""
        node = self._node
        if home in self._deliveries or home not in node.hints.by_home or node.fenced_because:
            return
        if home in node.view.names and not node.usable(home) and node.view.is_member:
            return
        self._deliveries[home] = _Delivery()
        self._pump(home)

    def _pump(self, home: int) -> None:
        """Send more of the pass, as far as the bounds and the admission allow."""
        node = self._node
        delivery = self._deliveries[home]
        room = HINTS_IN_FLIGHT_MAX - delivery.in_flight
        if delivery.failed or delivery.finished_reading or room <= 0:
            self._finish_if_idle(home, delivery)
            return
        if delivery.waiting:
            return
        granted = node.background.take(room, node.clock.monotonic_ms())
        if granted == 0:
            if delivery.in_flight == 0:
                delivery.waiting = True
                node.scheduler.call_later(node.background.delay_ms(), lambda: self._admitted(home, delivery))
            return
        try:
            page = node.hints.page(home, delivery.after, granted)
        except StorageError:
            delivery.failed = True
            self._finish_if_idle(home, delivery)
            return
        delivery.finished_reading = len(page) < granted
        delivery.in_flight += len(page)
        for stored_key, stored in page:
            delivery.after = stored_key
            self._hand_over(home, delivery, stored_key, stored)
        self._finish_if_idle(home, delivery)

    def _hand_over(self, home: int, delivery: _Delivery, stored_key: bytes, stored: bytes) -> None:
        node = self._node
        try:
            hint = unpack_hint(stored_key, stored)
        except DamagedRecord as error:
            log.error("%s", error)
            node.count("hints_damaged")
            self._settled(home, delivery, stored_key, stored, gone=True)
            return
        if node.hints.expired(hint):
            node.count("hints_expired")
            self._settled(home, delivery, stored_key, stored, gone=True)
            return
        targets = self._targets(home, stored_key)
        if not targets:
            self._settled(home, delivery, stored_key, stored, gone=False)
            return
        others = [member for member in targets if member != node.self_number]

        def done(answers: Answers) -> None:
            accepted = [member for member, answer in answers.items() if answer.status == Status.OK]
            if len(accepted) < len(others):
                self._settled(home, delivery, stored_key, stored, gone=False)
            elif len(targets) > len(others):
                self._merge_here(home, delivery, stored_key, stored, hint)
            else:
                self._delivered(home, delivery, stored_key, stored)

        ask(node, others, lambda number: self._message(number, stored_key, hint), HINT_TIMEOUT_MS, done)

    def _delivered(self, home: int, delivery: _Delivery, stored_key: bytes, stored: bytes) -> None:
        delivery.delivered += 1
        self._node.count("hints_delivered")
        self._settled(home, delivery, stored_key, stored, gone=True)

    def _merge_here(self, home: int, delivery: _Delivery, stored_key: bytes, stored: bytes, hint: Hint) -> None:
        """This node is one of the key's replicas now: what it kept for another is its own."""

        def committed(argument: object, durable: bool) -> None:
            if durable:
                self._delivered(home, delivery, stored_key, stored)
            else:
                self._settled(home, delivery, stored_key, stored, gone=False)

        last_write_wins, synced = bool(hint.flags & FLAG_LAST_WRITE_WINS), bool(hint.flags & FLAG_FSYNC)
        key = split_hint_key(stored_key)[1]
        try:
            self._node.records.merge(key, hint.body, last_write_wins, synced, committed, None)
        except StorageError:
            self._settled(home, delivery, stored_key, stored, gone=False)

    def _message(self, number: int, stored_key: bytes, hint: Hint) -> Message:
        key = split_hint_key(stored_key)[1]
        return Write(number, HINT_TIMEOUT_MS, self._node.view.version, key, hint.body, hint.flags | FLAG_HINTED)

    def _targets(self, home: int, stored_key: bytes) -> list[int]:
        """The home; or, if it keeps the key no more, all who do: what it would have got, its successor needs.

        Empty if this node has left and can reach none of them.
        """
        node = self._node
        partition, bucket, _ = split_storage_key(split_hint_key(stored_key)[1])
        homes = node.view.bucket(bucket).placements[partition].homes
        if not node.view.is_member and not (home in homes and node.usable(home)):
            return [member for member in homes if node.usable(member)]
        return [home] if home in homes else list(homes)

    def _settled(self, home: int, delivery: _Delivery, stored_key: bytes, stored: bytes, *, gone: bool) -> None:
        delivery.in_flight -= 1
        if gone:
            try:
                self._node.hints.remove_if_unchanged(stored_key, stored)
            except StorageError:
                delivery.failed = True
        elif home in self._node.view.names and self._targets(home, stored_key) == [home]:
            # The home does not take them now. (Of one that is gone, other hints go to other nodes.)
            delivery.failed = True
        if self._deliveries.get(home) is delivery and delivery.in_flight < HINTS_IN_FLIGHT_MAX // 2:
            self._node.scheduler.call_soon(lambda: self._resume(home, delivery))

    def _admitted(self, home: int, delivery: _Delivery) -> None:
        delivery.waiting = False
        self._resume(home, delivery)

    def _resume(self, home: int, delivery: _Delivery) -> None:
        if self._deliveries.get(home) is delivery:
            self._pump(home)

    def _finish_if_idle(self, home: int, delivery: _Delivery) -> None:
        if delivery.in_flight or not (delivery.failed or delivery.finished_reading):
            return
        del self._deliveries[home]
        if delivery.delivered:
            name = self._node.names([home])[0]
            log.info("handed %d hints to %s%s", delivery.delivered, name, "; more to come" if delivery.failed else "")
