"""What people ask a node: the state of the cluster as it sees it, and what each replica holds of one key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from quorate.core.causality.actor import epoch_of, member_of
from quorate.core.envelope import digest_of
from quorate.core.errors import DamagedRecord, StorageError
from quorate.core.keyspace import canonical_name, slot_of_name, storage_key
from quorate.core.messages import Message, Read, ReadReply, Status, StatusReply, StatusRequest
from quorate.core.record import TOMBSTONE, Actor, decode_record
from quorate.core.store import Admin
from quorate.node.context import NodeContext
from quorate.node.coordinator import Coordinator
from quorate.node.gather import Answers, GatherOperation, ask


class Inspection:
    """Status and where."""

    def __init__(
        self,
        node: NodeContext,
        coordinator: Coordinator,
        version: str,
        anti_entropy: Callable[[], dict[str, Any]],
        sweep: Callable[[], dict[str, Any]],
        transfer: Callable[[], dict[str, Any]],
    ) -> None:
        self._node = node
        self._anti_entropy = anti_entropy
        self._sweep = sweep
        self._transfer = transfer
        self._coordinator = coordinator
        self._version = version
        self._started_ms = node.clock.monotonic_ms()

    def report(self) -> dict[str, Any]:
        """This node about itself."""
        node = self._node
        now_ms = node.clock.monotonic_ms()
        state = "fenced" if node.fenced_because else "up" if node.view.is_member else "left"
        connected = [number for number in node.view.other_numbers if node.transport.connected(number)]
        return {
            "name": node.names([node.self_number])[0],
            "state": state,
            "reason": node.fenced_because,
            "version": self._version,
            "uptime_s": round((now_ms - self._started_ms) / 1000, 1),
            "ring_version": node.view.version,
            "in_flight_requests": node.in_flight,
            "requests": node.measures.requests(),
            "latency_ms": {kind: recent.describe(now_ms) for kind, recent in node.measures.recent.items()},
            "disk_free_fraction": round(node.engine.free_fraction(), 4),
            "connected_to": node.names(connected),
            "peers": self._peers(),
            "hints": self.hints(),
            "partitions_being_filled": len(node.filling.partitions),
            "trees": node.trees.report(),
            "anti_entropy": self._anti_entropy(),
            "sweep": self._sweep(),
            "transfer": self._transfer(),
            "data_bytes": node.engine.data_bytes(),
            "requests_in_flight_max": node.concurrency.limit,
            "background_rate_per_s": round(node.background.rate_per_s),
            "counters": dict(sorted(node.counters.items())),
        }

    def hints(self) -> dict[str, Any]:
        """What this node keeps for others, by the name of the home."""
        node = self._node
        homes = {
            node.names([home])[0]: {"hints": count.hints, "bytes": count.size_bytes}
            for home, count in sorted(node.hints.by_home.items())
        }
        return {"bytes": node.hints.size_bytes, "bytes_max": node.options.hints_bytes_max, "homes": homes}

    def _peers(self) -> dict[str, Any]:
        """This node's opinion of each other member, with the reason for it."""
        node = self._node
        peers = {}
        for number in node.view.other_numbers:
            opinion = node.detector.view(number, node.clock.monotonic_ms())
            peers[node.view.names[number]] = {
                "state": opinion.state,
                "reason": opinion.reason,
                "latency_ms": round(opinion.latency_ms, 3),
            }
        return peers

    def status(self, reply: Callable[[Admin], None]) -> None:
        """Every member with its report, or with the reason why there is none."""
        node = self._node

        def done(answers: Answers) -> None:
            members = []
            for member in node.view.ring.members:
                entry: dict[str, Any] = {
                    **msgspec.to_builtins(member),
                    "tokens": sum(1 for owner in node.view.ring.owners if owner == member.number),
                }
                if member.number == node.self_number:
                    entry["report"] = self.report()
                elif member.number in answers:
                    entry["report"] = msgspec.json.decode(answers[member.number].report)
                elif node.transport.connected(member.number):
                    entry["report"] = {"state": "silent", "reason": "connected, but did not answer in time"}
                else:
                    entry["report"] = {"state": "unreachable", "reason": "no connection"}
                members.append(entry)
            ring = node.view.ring
            reply(
                Admin(
                    {
                        "cluster_id": ring.cluster_id,
                        "ring_version": ring.version,
                        "partitions": ring.partitions,
                        "seen_by": node.names([node.self_number])[0],
                        "members": members,
                    }
                )
            )

        timeout_ms = node.options.request_timeout_ms // 2
        ask(node, node.view.other_numbers, lambda number: StatusRequest(number, timeout_ms), timeout_ms, done)

    def on_status_request(self, member: int, message: StatusRequest) -> None:
        self._node.transport.send(member, StatusReply(message.id, msgspec.json.encode(self.report())))

    def where(self, bucket: bytes, key: bytes, reply: Callable[[Admin], None]) -> None:
        """Slot, partition, preference list, and every replica's record."""
        node = self._node
        partition, placement = self._coordinator.place(node.view.bucket(bucket), bucket, key)
        stored_key = storage_key(partition, bucket, key)

        def done(answers: Answers) -> None:
            replicas = []
            for number in placement.homes:
                held = self._describe(answers[number]) if number in answers else {"state": "no answer"}
                replicas.append({"node": node.view.names[number], **held})
            reply(
                Admin(
                    {
                        "bucket": bucket.decode(errors="backslashreplace"),
                        "key": key.decode(errors="backslashreplace"),
                        "slot": slot_of_name(canonical_name(bucket, key)),
                        "partition": partition,
                        "preference_list": node.names(list(placement.replicas)),
                        "fallbacks": node.names(list(placement.fallbacks)),
                        "replicas": replicas,
                    }
                )
            )

        timeout_ms = node.options.request_timeout_ms // 2
        gather = GatherOperation(node, timeout_ms, done)
        if placement.stores:
            gather.answers[node.self_number] = self._read_local(stored_key)
        question: Message = Read(gather.id, timeout_ms, node.view.version, stored_key, True)
        gather.send(dict.fromkeys(placement.other_homes, question))

    def _read_local(self, stored_key: bytes) -> ReadReply:
        try:
            stored = self._node.records.read_written(stored_key)
        except DamagedRecord:
            return ReadReply(0, Status.DAMAGED)
        except StorageError:
            return ReadReply(0, Status.FENCED)
        if stored is None:
            return ReadReply(0, Status.ABSENT)
        return ReadReply(0, Status.OK, digest_of(stored_key, stored[2]), stored[2])

    def _describe(self, answer: ReadReply) -> dict[str, Any]:
        if answer.status != Status.OK:
            return {"state": Status(answer.status).name.lower().replace("_", " ")}
        record = decode_record(answer.body)
        return {
            "state": "holds",
            "digest": f"{answer.digest:016x}",
            "clock": {self._actor_name(actor): counter for actor, counter in record.clock.items()},
            "siblings": [
                {
                    "dot": f"{self._actor_name(sibling.actor)}:{sibling.counter}",
                    "tombstone": sibling.kind == TOMBSTONE,
                    "unix_ms": sibling.time >> 16,
                    "expiry_ms": sibling.expiry_ms,
                    "content_type": sibling.content_type,
                    "value_bytes": len(sibling.value),
                }
                for sibling in record.siblings
            ],
        }

    def _actor_name(self, actor: Actor) -> str:
        number = member_of(actor)
        return f"{self._node.view.names.get(number, f'#{number}')}@{epoch_of(actor):x}"
