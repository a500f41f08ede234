"""Every series that a node exports, declared once: its name, its meaning, where it is read, and what to do about it.

The scrape, the page docs/metrics.md and the check of the Grafana dashboard are made of this one table. A series is read
when somebody scrapes: what the node counts anyway costs its requests nothing more.

Counters begin at 0 with the process. Names follow the conventions of Prometheus: base units, `_total` for counters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec

from quorate.adapters.metrics.facts import Facts
from quorate.core.measures import LatencyHistogram

Sample = tuple[tuple[str, ...], Any]
"""(values of the labels, value); of a histogram the value is a `LatencyHistogram`."""
Read = Callable[[Facts], Iterable[Sample]]


class Series(msgspec.Struct, frozen=True):
    """One metric."""

    name: str
    kind: Literal["counter", "gauge", "histogram"]
    help: str
    read: Read
    labels: tuple[str, ...] = ()
    advice: str = ""
    """When it is bad, and what to do then."""


def _one(value: Callable[[Facts], float | None]) -> Read:
    def read(facts: Facts) -> Iterable[Sample]:
        found = value(facts)
        return () if found is None else (((), found),)

    return read


def _event(event: str) -> Read:
    return _one(lambda facts: facts.report["counters"].get(event, 0))


def _counted(name: str, event: str, help_text: str, advice: str = "") -> Series:
    """A counter that is one of the node's own."""
    return Series(name, "counter", help_text, _event(event), (), advice)


def _requests(facts: Facts) -> Iterable[Sample]:
    return (
        ((kind, result), count)
        for kind, results in facts.measures.requests().items()
        for result, count in results.items()
    )


def _latencies(facts: Facts) -> Iterable[Sample]:
    measures = facts.measures
    found: list[tuple[str, LatencyHistogram]] = [("get", measures.get_latency), ("put", measures.put_latency)]
    return [((kind,), histogram) for kind, histogram in found]


def _homes(what: str) -> Read:
    return lambda facts: [((home,), kept[what]) for home, kept in facts.report["hints"]["homes"].items()]


def _peers(facts: Facts) -> Iterable[Sample]:
    return [((name,), float(peer["state"] == "up")) for name, peer in facts.report["peers"].items()]


def _transfer(field: str) -> Read:
    return _one(lambda facts: facts.report["transfer"].get(field, 0))


SERIES: tuple[Series, ...] = (
    Series(
        "quorate_build_info", "gauge", "Always 1; what is running, in its labels.",
        lambda facts: [(tuple(facts.build.values()), 1)], ("version", "engine", "node", "cluster_id"),
    ),
    Series(
        "quorate_up", "gauge", "1 if this node takes writes, 0 if it is fenced or has left.",
        _one(lambda facts: float(facts.report["state"] == "up")), (),
        "0: `quorate status` tells the reason. A failed disk needs a restart on a good one, a full disk needs room.",
    ),
    # Requests
    Series(
        "quorate_requests_total", "counter",
        "Requests that this node coordinated or refused, by kind (get, put; deletes are puts) and result.",
        _requests, ("kind", "result"),
        "`unavailable`: too few replicas are in reach. `overloaded`: the node sheds load. `unknown`: writes timed out, "
        "and may have been done. `siblings`: concurrent values were read; many mean writers that do not pass contexts.",
    ),
    Series(
        "quorate_request_seconds", "histogram",
        "From the moment the coordinator takes a request up to its answer: its own work and the wait for the quorum.",
        _latencies, ("kind",),
        "p99.9 far above p50: look at `quorate_loop_lag_seconds` (this node), then at `quorate_peer_latency_seconds`.",
    ),
    Series(
        "quorate_requests_in_flight", "gauge", "Requests that wait for their quorum now.",
        _one(lambda facts: facts.report["in_flight_requests"]), (),
        "Near `quorate_requests_in_flight_max`: the node is about to shed load.",
    ),
    Series(
        "quorate_requests_in_flight_max", "gauge", "How many the node admits at present; it adapts to latency.",
        _one(lambda facts: facts.report["requests_in_flight_max"]),
    ),
    _counted("quorate_requests_shed_total", "requests_shed", "Requests refused at once: too many were in flight.",
             "Growing: more load than this node carries; add nodes, or slow the clients down."),
    _counted("quorate_forwards_total", "forwards", "Requests handed to a replica, since this node is none.",
             "Most requests: clients do not know the ring; use a client that does."),
    _counted("quorate_reads_hedged_total", "reads_hedged", "Reads for which one more replica was asked early.",
             "Near a twentieth of the reads, its bound: one replica is slow; see `quorate_peer_latency_seconds`."),
    _counted("quorate_reads_retried_total", "reads_retried", "Reads that asked another replica after a timeout."),
    _counted("quorate_read_repairs_total", "read_repairs", "Replicas that a read found behind, and brought up to date.",
             "Growing in a quiet cluster: replicas diverge, so see whether anti-entropy runs."),
    _counted("quorate_writes_stood_in_total", "writes_stood_in",
             "Replicas of a write for which a fallback was asked when they did not answer.",
             "Growing: a replica is down or slow; `quorate status` names it."),
    _counted("quorate_requests_begun_again_total", "requests_begun_again", "Requests placed anew by a newer ring."),
    _counted("quorate_get_conflicts_total", "resp_get_conflict",
             "GETs of the Redis protocol that found siblings and answered with the newest.",
             "Growing: use KV.GET and merge, or declare last-write-wins."),
    # Hints
    Series(
        "quorate_hints", "gauge", "Hints that this node keeps for others, by home.", _homes("hints"), ("home",),
        "Not falling although the home is up: see the log of both for refused handoffs.",
    ),
    Series("quorate_hints_bytes", "gauge", "What they take.", _homes("bytes"), ("home",)),
    Series(
        "quorate_hints_bytes_max", "gauge", "What all hints together may take.",
        _one(lambda facts: facts.report["hints"]["bytes_max"]), (),
        "When the sum reaches it, new hints are refused, and anti-entropy has to heal what is missing.",
    ),
    _counted("quorate_hints_delivered_total", "hints_delivered", "Hints that went home."),
    _counted("quorate_hints_expired_total", "hints_expired", "Hints dropped for their age; anti-entropy heals instead.",
             "Growing: a member is away for longer than half of grace: replace it."),
    _counted("quorate_hints_lost_total", "hints_lost", "Hints that could not be kept.",
             "Growing: this disk is full or fails, or hints take all the room they may."),
    # Healing
    _counted("quorate_anti_entropy_exchanges_total", "exchanges", "Exchanges of hash trees that this node began."),
    _counted("quorate_anti_entropy_exchanges_failed_total", "exchanges_given_up", "Exchanges that were not finished.",
             "All of them: the peers cannot be reached, or are too busy."),
    _counted("quorate_anti_entropy_partitions_total", "partitions_compared", "Partitions compared."),
    _counted("quorate_anti_entropy_partitions_differing_total", "partitions_differing", "Partitions found to differ."),
    _counted("quorate_anti_entropy_received_records_total", "records_received_in_repair", "Records received in repair.",
             "Growing all the time: something keeps replicas apart; compare clocks, disks and the log."),
    _counted("quorate_anti_entropy_sent_records_total", "records_sent_in_repair", "Records sent in repair."),
    _counted("quorate_anti_entropy_bytes_total", "exchange_bytes", "What exchanges moved, as payload."),
    Series(
        "quorate_anti_entropy_age_seconds", "gauge", "Within how long all partitions were compared; absent until then.",
        _one(lambda facts: facts.report["anti_entropy"]["all_compared_within_s"]), (),
        "Near grace: what was deleted cannot be forgotten in time, and a lost replica is noticed late.",
    ),
    Series(
        "quorate_trees_unready", "gauge", "Hash trees that are still being built.",
        _one(lambda facts: facts.report["trees"]["partitions"] - facts.report["trees"]["ready"]),
    ),
    Series(
        "quorate_damaged_records", "gauge", "Records whose checksum was wrong, and that wait to be healed by replicas.",
        _one(lambda facts: facts.report["trees"]["damaged_records"]), (),
        "Above 0 for long: run `quorate repair`. Growing: the disk is failing; replace the node.",
    ),
    _counted("quorate_collected_records_total", "records_collected", "Deleted records forgotten on proof."),
    _counted("quorate_collections_without_proof_total", "collections_without_proof",
             "Deleted records that could not be forgotten yet, since some replica did not confirm.",
             "Growing: a member is away; deleted data stays until it is back or replaced."),
    # Membership
    Series("quorate_ring_version", "gauge", "Of the ring that this node goes by.",
           _one(lambda facts: facts.report["ring_version"]), (),
           "Different between nodes for long: some of them cannot talk to each other."),
    Series("quorate_partitions_owned", "gauge", "Partitions whose first replica is here.",
           _one(lambda facts: facts.partitions_owned)),
    Series("quorate_members", "gauge", "Members of the cluster.", _one(lambda facts: facts.members)),
    Series("quorate_peer_up", "gauge", "1 if this node believes that the peer answers.", _peers, ("peer",),
           "0: `quorate status` tells the reason. If one node alone says so, it is that node's network."),
    Series("quorate_peer_latency_seconds", "gauge", "How long the peer takes to answer, smoothed.",
           lambda facts: [((name,), peer["latency_ms"] / 1000) for name, peer in facts.report["peers"].items()],
           ("peer",)),
    Series("quorate_partitions_being_filled", "gauge", "Partitions that are not whole here yet.",
           _one(lambda facts: facts.report["partitions_being_filled"])),
    Series("quorate_transfer_partitions_left", "gauge", "Partitions still to be received for the change under way.",
           _transfer("partitions_left"), (), "Not falling: `quorate transfers` tells whom it waits for."),
    Series("quorate_transfer_received_bytes", "gauge", "What was received for the change under way.",
           _transfer("received_bytes")),
    # The machine
    Series("quorate_storage_bytes", "gauge", "About what the records take on disk.",
           _one(lambda facts: facts.report["data_bytes"])),
    Series("quorate_disk_free_fraction", "gauge", "The share of the file system that is free.",
           _one(lambda facts: facts.report["disk_free_fraction"]), (),
           "Below 0.05 the node takes no writes: make room, or add nodes."),
    Series("quorate_connections", "gauge", "Clients that are connected, by interface.",
           lambda facts: [((interface,), count) for interface, count in facts.connections.items()], ("interface",)),
    Series("quorate_peer_connections", "gauge", "Members that this node is connected with.",
           _one(lambda facts: len(facts.report["connected_to"]))),
    Series("quorate_loop_lag_seconds", "histogram", "How late the event loop was, ten times a second.",
           lambda facts: [((), facts.loop_lag)], (),
           "p99 above 10 ms: this process has too much to do, or is not given a core; requests wait as long."),
    _counted("quorate_stalls_total", "own_stalls", "Times that this process stood still for so long that it noticed.",
             "Growing: swapping, a frozen machine, or a disk that blocks; its peers suspect it meanwhile."),
    Series("quorate_uptime_seconds", "gauge", "Since this process began.",
           _one(lambda facts: facts.report["uptime_s"])),
    Series("quorate_events_total", "counter", "Every event that the node counts, by its name in `status`.",
           lambda facts: [((event,), count) for event, count in facts.report["counters"].items()], ("event",)),
)  # fmt: skip
