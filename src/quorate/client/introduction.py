"""The first words on a new connection: the password, and the question whose node this is.

An address outlives the node behind it. A client whose cluster has ended goes on trying the same addresses, and another
cluster may have been started there; it would take the client's writes and acknowledge them (hard case 20). So no
connection carries a command before its node has named the cluster that the client knows. A connection ends with the
process behind it, so once for each connection is enough.

Invariants:
- both words leave in one write: connecting takes one round trip more than TCP does, and never two;
- whatever is wrong with the answers, the command that was to follow has not been sent, and the failure says so;
- who cannot name the cluster is refused like who names another one;
- only before the ring is known is a refused password the caller's mistake. Afterwards it was right once, so it speaks
  against this node, and the others are asked.

Rejected: the cluster's id in every request, which the hot path would pay for; and asking for the ring in place of the
id, which may be a hundred kilobytes where 32 bytes do.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from quorate.client.commands import authentication_command, cluster_command
from quorate.client.protocol import AttemptFailure, Command, FailureKind, Reply, failure_of

_ID_BYTES_SHOWN: Final = 64


class Introduction(msgspec.Struct, frozen=True):
    """What to say on a new connection, and whether the answers are good."""

    password: str | None = None
    """None: the cluster is expected to ask for none."""
    cluster_id: str | None = None
    """None: nothing is known yet; the connection is to ask for the first ring."""

    def commands(self) -> list[Command]:
        """The commands to send, in this order and without waiting in between; there may be none."""
        found = [] if self.password is None else [authentication_command(self.password)]
        if self.cluster_id is not None:
            found.append(cluster_command())
        return found

    def objection(self, replies: Sequence[Reply]) -> AttemptFailure | None:
        """Why the connection must be closed; None: it may be used.

        `replies` are those to `commands`, in order. They may end early with an `AttemptFailure`, or have one as a
        surplus. `REFUSED` is given for a password refused before anything is known, else `NOT_SENT`.
        """
        commands = self.commands()
        if self.cluster_id is not None and len(replies) >= len(commands):
            # First of all: a cluster without a password refuses ours, and then says its name all the same.
            told = replies[len(commands) - 1]
            if isinstance(told, bytes) and told != self.cluster_id.encode():
                shown = told[:_ID_BYTES_SHOWN].decode("ascii", "backslashreplace")
                return _not_sent(f"the node belongs to cluster {shown}, not to {self.cluster_id}")
        for command, reply in zip(commands, replies, strict=False):
            if not command.accepts(reply):
                return self._refused(failure_of(command, reply))
        if replies and isinstance(replies[-1], AttemptFailure):
            return _not_sent(replies[-1].message)
        return None

    def _refused(self, failure: AttemptFailure) -> AttemptFailure:
        if failure.kind is not FailureKind.REFUSED:
            return _not_sent(failure.message)
        if self.cluster_id is None:
            return failure
        return _not_sent(f"the node does not show that it belongs to cluster {self.cluster_id}: {failure.message}")


def _not_sent(message: str) -> AttemptFailure:
    return AttemptFailure(FailureKind.NOT_SENT, message)
