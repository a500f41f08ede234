"""Judge of the causality tests: whole histories as sets of events, with nothing compressed.

Each event keeps the set of all events in its causal past. What a replica knows is a set of events; what stands there
are the events that are in no other known event's past. Exact, obvious, and far too large for production.
"""

from __future__ import annotations

from collections.abc import Iterable

Event = int
History = frozenset[Event]
"""Events, together with the whole past of each of them."""

NOTHING: History = frozenset()


class CausalGraph:
    """All events of one key, over all replicas."""

    def __init__(self) -> None:
        self._pasts: list[History] = []

    def add(self, seen: History) -> Event:
        """A new event whose writer has seen `seen`."""
        self._pasts.append(seen)
        return len(self._pasts) - 1

    def past(self, event: Event) -> History:
        return self._pasts[event]

    def standing(self, known: Iterable[Event]) -> set[Event]:
        """The events of `known` that none of `known` has overwritten."""
        events = set(known)
        return {event for event in events if not any(event in self._pasts[other] for other in events)}
