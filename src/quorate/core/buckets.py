"""Bucket properties: consistency as something a bucket declares, not a puzzle for every call.

Properties are cluster metadata: decided together with the ring, and versioned with it (`core.ring.metadata`). A request
of a client carries none, so no two clients can disagree about a bucket; requests between replicas carry the two bits
that a replica needs (`durability`, `conflicts`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import msgspec

from quorate.core.errors import CallerError
from quorate.core.limits import REPLICAS_MAX

Conflicts = Literal["siblings", "lww"]
Durability = Literal["os", "fsync"]

TTL_S_MAX = 100 * 365 * 86_400
_CHOICES: dict[str, tuple[str, ...]] = {"conflicts": get_args(Conflicts), "durability": get_args(Durability)}
"""Properties that are one of a few words. The others are whole numbers, or yes or no."""
_YES_OR_NO = {"true": True, "false": False}


class BucketProperties(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a bucket declares about all its keys."""

    n: int = 3
    """Replicas of each key."""
    r: int = 2
    """Replicas that must answer a read."""
    w: int = 2
    """Replicas that must acknowledge a write."""
    conflicts: Conflicts = "siblings"
    """`siblings` keeps concurrent values; `lww` keeps the one with the latest HLC time."""
    ttl: int = 0
    """Seconds until a value expires, unless the put says otherwise; 0: never."""
    durability: Durability = "os"
    """`os`: survives a killed process before the ack; `fsync`: on disk before the ack."""
    strict: bool = False
    """Only the N replicas count: no fallback stands in for one that cannot be reached."""

    def changed(self, changes: Mapping[str, str]) -> BucketProperties:
        """These properties with `changes` (name → text, as a person typed them); raises `CallerError`."""
        for name in changes:
            if name not in self.__struct_fields__:
                known = ", ".join(self.__struct_fields__)
                raise CallerError(f"unknown bucket property '{name}'; there are: {known}")
        values: dict[str, Any] = {name: _parsed(name, text) for name, text in changes.items()}
        result = msgspec.structs.replace(self, **values)
        result.validate()
        return result

    def validate(self) -> None:
        """Raise `CallerError` unless the properties make sense together."""
        if not 1 <= self.n <= REPLICAS_MAX:
            raise CallerError(f"n must be from 1 to {REPLICAS_MAX}; got {self.n}")
        for name, value in (("r", self.r), ("w", self.w)):
            if value < 1:
                raise CallerError(f"{name} must be at least 1; got {value}")
            if value > self.n:
                raise CallerError(f"{name}={value} is above n={self.n}: no request could ever succeed")
        if not 0 <= self.ttl <= TTL_S_MAX:
            raise CallerError(f"ttl must be from 0 to {TTL_S_MAX} seconds; got {self.ttl}")


def _parsed(name: str, text: str) -> Any:
    """The value of property `name`; raises `CallerError` if it cannot have this one."""
    allowed = _CHOICES.get(name)
    if allowed is not None:
        if text not in allowed:
            raise CallerError(f"{name} must be {' or '.join(allowed)}; got '{text[:32]}'")
        return text
    if name == "strict":
        if text.lower() not in _YES_OR_NO:
            raise CallerError(f"{name} must be true or false; got '{text[:32]}'")
        return _YES_OR_NO[text.lower()]
    try:
        return msgspec.convert(text, int, strict=False)
    except msgspec.ValidationError:
        raise CallerError(f"{name} must be a whole number; got '{text[:32]}'") from None


BucketTable = dict[bytes, BucketProperties]
"""Bucket → properties, only for buckets that were set; the rest have the cluster's defaults."""


def default_properties(members: int) -> BucketProperties:
    """The defaults of a cluster created with `members` nodes: N=3, R=W=2 as soon as there are three."""
    n = min(3, members)
    quorum = n // 2 + 1
    return BucketProperties(n=n, r=quorum, w=quorum)
