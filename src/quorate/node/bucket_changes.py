"""Changing a bucket's properties: a decision of the members, like every change of the cluster's metadata."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

import msgspec

from quorate.core.errors import CallerError
from quorate.core.keyspace import check_bucket_name
from quorate.core.messages import StandingAsk
from quorate.core.ring.metadata import ClusterMetadata
from quorate.core.store import Admin, Failure
from quorate.node.context import NodeContext
from quorate.node.coordinator import NOT_TOLD
from quorate.node.gather import Answers, ask
from quorate.node.ring_decisions import RingDecisions

ASK_INTERVAL_MS: Final = 20.0
ASK_TIMEOUT_MS: Final = 200.0
ASKED_MAX: Final = 10


class BucketChanges:
    """The bucket table of this cluster, changed from this node."""

    def __init__(self, node: NodeContext, decisions: RingDecisions) -> None:
        self._node = node
        self._decisions = decisions

    def set(self, bucket: bytes, changes: Mapping[str, str], reply: Callable[[Admin | Failure], None]) -> None:
        """Change properties of `bucket`; replies when that is decided and known to those in reach."""
        node = self._node
        if not node.view.told:
            reply(Failure("unavailable", NOT_TOLD))
            return

        def changed(present: ClusterMetadata) -> ClusterMetadata:
            before = present.properties(bucket)
            properties = before.changed(changes)
            members = len(present.ring.members)
            # After a force fewer members than n may be left: r and w must be free to be lowered nevertheless.
            if properties.n > members and properties.n != before.n:
                raise CallerError(f"n={properties.n} needs {properties.n} nodes, and the cluster has {members}")
            ring = msgspec.structs.replace(present.ring, version=present.ring.version + 1)
            return msgspec.structs.replace(present, ring=ring, buckets={**present.buckets, bucket: properties})

        def known() -> None:
            properties = node.view.bucket(bucket).properties
            reply(Admin({"bucket": bucket.decode(errors="replace"), **msgspec.to_builtins(properties)}))

        def done(failure: Failure | None) -> None:
            if failure is not None:
                reply(failure)
            else:
                self._when_known(node.view.version, ASKED_MAX, known)

        try:
            check_bucket_name(bucket)
            # What makes no sense now is refused at once, with or without a majority in reach.
            changed(node.view.metadata)
        except CallerError as error:
            reply(Failure("caller", str(error)))
            return
        self._decisions.decide(changed, done)

    def _when_known(self, version: int, asks_left: int, then: Callable[[], None]) -> None:
        """Call `then` when all members in reach go by `version`, so that a client finds its change at any of them; or
        after a moment, since it is decided in any case."""
        node = self._node

        def asked(answers: Answers) -> None:
            if asks_left <= 1 or all(answer.confirmed[1] >= version for answer in answers.values()):
                then()
            else:
                node.scheduler.call_later(ASK_INTERVAL_MS, lambda: self._when_known(version, asks_left - 1, then))

        ask(node, node.view.other_numbers, StandingAsk, ASK_TIMEOUT_MS, asked)
