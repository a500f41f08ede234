"""Candidates: nodes that wait to become members, as this node has heard of them.

A candidate says who it is about once a second, to every member that it can reach; so each member knows it, and any of
them can be told to let it in. It is forgotten when it falls silent. What it claims is checked before it is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from quorate.core.errors import CallerError
from quorate.core.limits import MEMBER_TEXT_CHARACTERS_MAX, MEMBER_WEIGHT_MAX, WORKERS_MAX
from quorate.core.messages import Candidacy, CandidacyReply
from quorate.core.ring.ring import Member
from quorate.core.ring.workers import called
from quorate.core.wire.address import split_address
from quorate.node.context import NodeContext

CANDIDATES_MAX: Final = 64
SILENT_AFTER_MS: Final = 15_000.0
_ID_DIGITS: Final = 32
assert WORKERS_MAX <= CANDIDATES_MAX, "all workers of a host can wait to be joined by one plan"


class Candidates:
    """By id."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._heard: dict[str, tuple[Candidacy, float]] = {}

    def on_candidacy(self, message: Candidacy, answer: Callable[[CandidacyReply], None]) -> None:
        """Note who asks, and tell it where it stands."""
        refused = self._fault(message)
        known = any(member.id == message.id for member in self._node.view.ring.members)
        if not refused and not known:
            self._note(message)
        rings = self._node.rings
        answer(CandidacyReply(rings.chain.confirmed, refused, self._node.options.grace_ms // 1000))

    def present(self) -> list[tuple[Candidacy, float]]:
        """Those that have been heard of lately: (what it said, when: monotonic milliseconds)."""
        now_ms = self._node.clock.monotonic_ms()
        members = {member.id: True for member in self._node.view.ring.members}
        self._heard = {
            id: found for id, found in self._heard.items() if now_ms - found[1] <= SILENT_AFTER_MS and id not in members
        }
        return list(self._heard.values())

    def called(self, name: str) -> list[Candidacy]:
        """The candidate with this name or id, or those that are the workers of the host of this name; raises
        `CallerError`."""
        present = [found for found, _ in self.present()]
        found = called(present, name)
        for candidate in found:
            same = sum(other.name == candidate.name for other in found)
            if same > 1:
                raise CallerError(f"{same} candidates are called '{candidate.name}': name the one you mean by its id")
        if not found:
            known = ", ".join(candidate.name for candidate in present) or "none"
            raise CallerError(
                f"no node called '{name}' waits to join (candidates: {known}); start it with "
                f"`quorate start --name {name} --data DIR --join {self._own_peer_address()}`"
            )
        return found

    def rows(self) -> list[dict[str, Any]]:
        """For people."""
        now_ms = self._node.clock.monotonic_ms()
        fields = ("name", "id", "host", "zone", "weight", "peer_address", "client_address")
        return [
            {**{field: getattr(found, field) for field in fields}, "heard_s_ago": round((now_ms - when_ms) / 1000, 1)}
            for found, when_ms in sorted(self.present(), key=lambda pair: pair[0].name)
        ]

    def _note(self, message: Candidacy) -> None:
        if message.id not in self._heard and len(self.present()) >= CANDIDATES_MAX:
            return
        self._heard[message.id] = (message, self._node.clock.monotonic_ms())

    def _own_peer_address(self) -> str:
        ring = self._node.view.ring
        own = [member for member in ring.members if member.number == self._node.self_number]
        return own[0].peer_address if own else "HOST:PEERPORT"

    def _fault(self, message: Candidacy) -> str:
        """Why this node can never be let in as it is; empty if it can."""
        view = self._node.view
        texts = (message.name, message.host, message.zone, message.software, message.engine)
        if len(message.id) != _ID_DIGITS or not message.name or max(map(len, texts)) > MEMBER_TEXT_CHARACTERS_MAX:
            return "what the candidate says about itself is malformed"
        if not 1 <= message.weight <= MEMBER_WEIGHT_MAX:
            return f"a weight is from 1 to {MEMBER_WEIGHT_MAX}; the candidate has {message.weight}"
        for address in (message.peer_address, message.client_address, message.http_address):
            if len(address) > MEMBER_TEXT_CHARACTERS_MAX:
                return f"an address of the candidate has more than {MEMBER_TEXT_CHARACTERS_MAX} characters"
            try:
                split_address(address)
            except CallerError as error:
                return f"an address of the candidate is bad: {error}"
        if any(gone.id == message.id for gone in view.ring.departed):
            return f"{message.name} was removed from this cluster: give it an empty data directory to join anew"
        same = [member for member in view.ring.members if member.name == message.name and member.id != message.id]
        if same and view.is_member:
            return f"a member called '{message.name}' exists; start the new one with another --name"
        return ""


def as_member(candidate: Candidacy, number: int) -> Member:
    """What the candidate will be in the ring."""
    return Member(
        number=number,
        id=candidate.id,
        name=candidate.name,
        host=candidate.host,
        zone=candidate.zone,
        weight=candidate.weight,
        peer_address=candidate.peer_address,
        client_address=candidate.client_address,
        http_address=candidate.http_address,
    )
