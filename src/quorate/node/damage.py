"""What becomes of a damaged record that no replica has any more (hard case 25).

A damaged record counts as not there, and an exchange brings it back from a replica that has it. If the others have
collected it meanwhile, nobody will: its bytes would stay, be reported in every sweep, and make this replica refuse all
reads of the key, for ever. So once this node has been compared with *every* other replica of the key, in exchanges that
began after the damage was found, and the record has not come back, the bytes are removed.

Invariants: an exchange that was under way when the damage was found proves nothing, since the sums it compared held the
record; a replica that is down keeps the bytes where they are, since it may be the one that has the record.
Rejected: removing the bytes when the damage is found. This replica would answer "absent", which counts towards R, while
another is away that holds what was acknowledged.
"""

from __future__ import annotations

import logging

from quorate.node.context import NodeContext

log = logging.getLogger(__name__)


class Damage:
    """The damaged records of this node, and with whom it has been compared without them."""

    def __init__(self, node: NodeContext) -> None:
        self._node = node
        self._at_begin: dict[int, list[bytes]] = {}
        """Partition → damaged keys that were known when the present exchange began."""
        self._compared: dict[bytes, dict[int, bool]] = {}
        """Damaged key → peers."""

    def on_exchange(self) -> None:
        """An exchange begins."""
        damaged = self._node.trees.damaged_keys()
        self._compared = {key: peers for key, peers in self._compared.items() if key in damaged}
        self._at_begin = {}
        for key in damaged:
            self._at_begin.setdefault(key[0] << 8 | key[1], []).append(key)

    def on_compared(self, peer: int, partition: int, n: int) -> None:
        """That exchange has found, or made, a partition equal here and at `peer`, for buckets with `n`."""
        node = self._node
        for key in self._at_begin.get(partition, ()):
            if node.trees.n_of(key) == n and node.trees.counts_as_absent(key):
                peers = self._compared.setdefault(key, {})
                peers[peer] = True
                if all(other in peers for other in node.view.placements_of(n)[partition].others):
                    del self._compared[key]
                    node.records.remove_damaged(key)
                    node.count("damaged_records_removed")
                    log.warning("no replica has the damaged record under key %r any more: its bytes are removed", key)
