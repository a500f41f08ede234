"""Offers: a node that keeps a partition no more asks those who do whether they hold what it would forget.

The answering side. A batch of keys with their digests comes in, and the places go back of which this node holds just
that; the rest it is sent. So clearing out costs a list of digests where replicas agree, which is nearly everywhere.
"""

from __future__ import annotations

from quorate.core.errors import DamagedRecord, PeerError, StorageError
from quorate.core.keyspace import split_storage_key
from quorate.core.limits import OFFER_ENTRIES_MAX
from quorate.core.messages import Offer, OfferReply, Status
from quorate.node.context import NodeContext


class Offers:
    """Handler of Offer."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node

    def on_offer(self, member: int, message: Offer, age_ms: float) -> None:
        """Raises `PeerError` if the batch is larger than any that this program sends, or a key is none."""
        node = self._node
        if len(message.entries) > OFFER_ENTRIES_MAX:
            raise PeerError(f"a peer offered {len(message.entries)} keys at once; {OFFER_ENTRIES_MAX} are allowed")
        if message.remaining_ms <= age_ms:
            node.count("expired_requests_dropped")
            return
        if message.ring_version != node.view.version:
            if node.rings.admits(member, message, age_ms) is False:
                node.transport.send(member, OfferReply(message.id, Status.STALE_RING, []))
            return
        if node.fenced_because or not node.view.told:
            node.transport.send(member, OfferReply(message.id, Status.FENCED, []))
            return
        try:
            places = [place for place, (key, digest) in enumerate(message.entries) if self._holds(key, digest)]
        except StorageError:
            node.transport.send(member, OfferReply(message.id, Status.FENCED, []))
            return
        node.transport.send(member, OfferReply(message.id, Status.OK, places))

    def _holds(self, key: bytes, digest: int) -> bool:
        node = self._node
        try:
            partition, bucket, _ = split_storage_key(key)
            placement = node.view.bucket(bucket).placements[partition]
            stored = node.records.read_written(key, remember=False)
        except IndexError as error:
            raise PeerError("a peer offered a key that is none") from error
        except DamagedRecord:
            return False
        return placement.stores and stored is not None and stored[0] == digest
