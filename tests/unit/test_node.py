"""Gets, puts and their three outcomes on a small cluster (SOSP 2007, §4.5; hard case 31)."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

import pytest

from quorate.core.errors import StorageError
from quorate.core.messages import Read, ReadReply, Write
from quorate.core.ports import Space
from quorate.core.store import Admin, Failure, GetResult, KeysPage, KeysRequest, PutResult
from quorate.server.process import NodeProcess
from tests.unit.small_cluster import SmallCluster


def test_a_put_is_read_back_through_every_node() -> None:
    cluster = SmallCluster()
    assert isinstance(cluster.put(1, b"k", b"v"), PutResult)
    for node in (1, 2, 3):
        assert cluster.values(node, b"k") == [b"v"]


def test_two_writers_with_one_context_make_siblings_and_a_third_resolves_them() -> None:
    cluster = SmallCluster()
    first = cluster.put(1, b"k", b"0")
    assert isinstance(first, PutResult)
    cluster.put(1, b"k", b"a", first.context)
    cluster.put(2, b"k", b"b", first.context)
    read = cluster.get(3, b"k")
    assert isinstance(read, GetResult)
    assert sorted(sibling.value for sibling in read.siblings) == [b"a", b"b"]
    cluster.put(3, b"k", b"c", read.context)
    assert [cluster.values(node, b"k") for node in (1, 2, 3)] == [[b"c"]] * 3


def test_a_put_without_context_is_concurrent_with_everything() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"a")
    cluster.put(1, b"k", b"b")
    assert cluster.values(2, b"k") == [b"a", b"b"]


def test_set_overwrites_what_its_coordinator_has_seen() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"a")
    cluster.put(1, b"k", b"b", overwrite_seen=True)
    assert cluster.values(2, b"k") == [b"b"]


def test_a_delete_leaves_a_context_and_a_concurrent_put_survives_it() -> None:
    cluster = SmallCluster()
    first = cluster.put(1, b"k", b"a")
    assert isinstance(first, PutResult)
    cluster.delete(1, b"k", first.context)
    gone = cluster.get(2, b"k")
    assert isinstance(gone, GetResult)
    assert not gone.siblings
    assert gone.context.clock
    cluster.put(3, b"k", b"b", first.context)
    assert cluster.values(1, b"k") == [b"b"]


def test_replicas_agree_byte_for_byte() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"a")
    cluster.put(2, b"k", b"b")
    cluster.world.run(100)
    bodies = cluster.bodies(b"k")
    assert None not in bodies
    assert len(set(bodies)) == 1


def test_agreeing_replicas_answer_with_digests_only() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v" * 1000)
    cluster.world.run(100)
    cluster.sent.clear()
    assert cluster.values(2, b"k") == [b"v" * 1000]
    replies = [message for _, _, message in cluster.sent if isinstance(message, ReadReply)]
    assert [reply.body for reply in replies] == [b""]


def test_one_node_down_does_not_matter_two_are_unavailable_and_named() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"a")
    cluster.kill(3)
    assert isinstance(cluster.put(1, b"k", b"b"), PutResult)
    assert isinstance(cluster.get(1, b"k"), GetResult)
    cluster.kill(2)
    for result in (cluster.put(1, b"k", b"c"), cluster.get(1, b"k")):
        assert isinstance(result, Failure)
        assert result.kind == "unavailable"
        assert sorted(result.missing) == ["n2", "n3"]


def test_what_was_refused_as_not_done_never_appears() -> None:
    cluster = SmallCluster()
    cluster.kill(2)
    cluster.kill(3)
    assert isinstance(cluster.put(1, b"k", b"lost"), Failure)
    cluster.boot(2)
    cluster.boot(3)
    assert cluster.values(1, b"k", r=3) == []


def test_a_put_that_times_out_is_unknown_and_a_get_unavailable() -> None:
    cluster = SmallCluster()
    cluster.muted = {2, 3}
    put = cluster.put(1, b"k", b"v")
    assert isinstance(put, Failure)
    assert put.kind == "unknown"
    get = cluster.get(1, b"k")
    assert isinstance(get, Failure)
    assert get.kind == "unavailable"
    assert sorted(get.missing) == ["n2", "n3"]


def test_a_silent_replica_is_replaced_by_another_in_a_get() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    cluster.muted = {2}
    for _ in range(4):
        before = cluster.world.now_ms
        assert cluster.values(1, b"k") == [b"v"]
        assert cluster.world.now_ms - before < 100


def test_read_repair_brings_a_replica_up_to_date() -> None:
    cluster = SmallCluster()
    cluster.kill(3)
    cluster.put(1, b"k", b"v")
    cluster.boot(3)
    assert cluster.bodies(b"k")[2] is None
    assert cluster.values(3, b"k", r=3) == [b"v"]
    cluster.world.run(10)
    assert len(set(cluster.bodies(b"k"))) == 1


def test_a_coordinator_that_is_behind_answers_with_what_a_quorum_holds() -> None:
    cluster = SmallCluster()
    first = cluster.put(1, b"k", b"old")
    assert isinstance(first, PutResult)
    cluster.kill(3)
    cluster.put(1, b"k", b"new", first.context)
    cluster.boot(3)
    assert cluster.values(3, b"k") == [b"new"]


def test_a_node_that_holds_no_replica_forwards_once() -> None:
    cluster = SmallCluster(size=5)
    key = b"k"
    where = cluster.call(lambda reply: cluster.nodes[1].where(b"b", key, reply))
    assert isinstance(where, Admin)
    outsiders = [number for number in range(1, 6) if f"n{number}" not in where.document["preference_list"]]
    assert len(outsiders) == 2
    for number in outsiders:
        result = cluster.put(number, key, b"v", overwrite_seen=True)
        assert isinstance(result, PutResult)
        assert result.siblings == 1, "a forwarded put is coordinated once (hard case 5)"
        assert cluster.values(number, key) == [b"v"]


def test_a_retried_put_with_an_operation_id_is_one_write() -> None:
    cluster = SmallCluster()
    cluster.cut(1, 2)
    cluster.put(1, b"k", b"v", operation=7)
    cluster.put(1, b"k", b"v", operation=7)
    body = cluster.bodies(b"k")[0]
    assert body is not None
    assert body.count(b"\xc4\x01v") == 1, "a coordinator recognises what it already has"
    cluster.kill(3)
    cluster.boot(3)
    cluster.engines[3].data.clear()
    cluster.put(2, b"k", b"v", operation=7)
    cluster.heal()
    assert cluster.values(1, b"k", r=3) == [b"v"], "two coordinators that knew nothing of each other: shown once"


def test_a_disk_failure_fences_the_node_and_the_put_goes_to_another() -> None:
    cluster = SmallCluster()
    cluster.engines[1].failure = StorageError("No space left on device")
    first = cluster.put(1, b"k", b"a")
    assert isinstance(first, Failure)
    assert first.kind == "unknown"
    assert not cluster.nodes[1].reachable(1)
    assert isinstance(cluster.put(1, b"k", b"b"), PutResult)
    status = cluster.call(cluster.nodes[2].status).document
    assert status["members"][0]["report"]["state"] == "fenced"
    assert "No space left" in status["members"][0]["report"]["reason"]


def test_a_full_disk_stops_writes_until_there_is_room() -> None:
    cluster = SmallCluster()
    cluster.engines[1].free = 0.01
    cluster.world.run(1_100)
    assert not cluster.nodes[1].reachable(1)
    cluster.engines[1].free = 0.5
    cluster.world.run(1_100)
    assert cluster.nodes[1].reachable(1)


def test_a_damaged_record_is_never_an_answer_and_is_repaired() -> None:
    cluster = SmallCluster()
    cluster.put(1, b"k", b"v")
    cluster.world.run(10)
    data = cluster.engines[2].data
    place = next(place for place in data if place[0] == Space.DATA)
    data[place] = data[place][:-1] + bytes([data[place][-1] ^ 1])
    cluster.kill(2)
    cluster.boot(2)
    assert cluster.values(2, b"k") == [b"v"]
    assert cluster.values(1, b"k", r=2) == [b"v"]
    cluster.put(1, b"k", b"w", overwrite_seen=True)
    cluster.world.run(10)
    assert len(set(cluster.bodies(b"k"))) == 1


def test_a_synced_bucket_acknowledges_only_after_the_disk_did() -> None:
    cluster = SmallCluster()
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"durability": "fsync", "w": "3"}, reply))
    cluster.world.run(100)
    held = cluster.engines[2].held_syncs = []
    replies: list[object] = []
    from quorate.core.store import PutRequest

    cluster.nodes[1].put(PutRequest(b"b", b"k", b"v"), replies.append)
    cluster.world.run(100)
    assert not replies
    held.pop()(None)
    cluster.world.run(10)
    assert isinstance(replies[0], PutResult)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, "unknown bucket property 'colour'"),
        ({"r": "4"}, "r=4 is above n=3"),
        ({"w": "4"}, "w=4 is above n=3"),
        ({"n": "5"}, "n=5 needs 5 nodes"),
        ({"n": "many"}, "n must be a whole number; got 'many'"),
        ({"conflicts": "dice"}, "conflicts must be siblings or lww; got 'dice'"),
        ({"durability": ""}, "durability must be os or fsync; got ''"),
    ],
)
def test_bad_bucket_properties_are_refused(changes: dict[str, str], words: str) -> None:
    cluster = SmallCluster()
    result = cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", changes, reply))
    assert isinstance(result, Failure)
    assert result.kind == "caller"
    assert words in result.message
    assert cluster.nodes[1].buckets() == {}


def test_bucket_properties_reach_every_node_also_one_that_was_away_and_survive_restarts() -> None:
    cluster = SmallCluster()
    cluster.kill(3)
    assert isinstance(cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"conflicts": "lww"}, reply)), Admin)
    cluster.boot(3)
    cluster.world.run(5_000)
    cluster.kill(1)
    cluster.boot(1)
    for node in cluster.nodes.values():
        assert node.bucket_properties(b"b").conflicts == "lww"


def test_last_write_wins_keeps_one_value_and_never_undoes_a_write_that_saw_the_other() -> None:
    cluster = SmallCluster()
    cluster.call(lambda reply: cluster.nodes[1].set_bucket(b"b", {"conflicts": "lww"}, reply))
    cluster.world.run(100)
    cluster.ports[1].skew_ms = 3_600_000
    first = cluster.put(1, b"k", b"an hour ahead")
    assert isinstance(first, PutResult)
    cluster.put(2, b"k", b"saw it", first.context)
    assert cluster.values(3, b"k", r=3) == [b"saw it"]
    cluster.put(2, b"k", b"blind")
    assert len(cluster.values(3, b"k", r=3)) == 1


@pytest.mark.parametrize("limit", [1, 2, 7, 100])
def test_a_listing_shows_each_live_key_once_page_by_page(limit: int) -> None:
    cluster = SmallCluster()
    keys = sorted(f"key{index}".encode() for index in range(30))
    for key in keys:
        cluster.put(1, key, b"v", overwrite_seen=True)
    for key in keys[:5]:
        cluster.put(1, key, overwrite_seen=True, delete=True)
    cluster.kill(2)
    cluster.put(1, b"late", b"v")
    cluster.put(1, keys[6], overwrite_seen=True, delete=True)
    cluster.boot(2)
    found: list[bytes] = []
    cursor = ""
    for _ in range(100):
        page = cluster.call(lambda reply, c=cursor: cluster.nodes[2].keys(KeysRequest(b"b", b"", limit, c), reply))
        assert isinstance(page, KeysPage), page
        assert len(page.keys) <= limit
        found += page.keys
        cursor = page.cursor
        if not cursor:
            break
    assert sorted(found) == sorted([keys[5], *keys[7:], b"late"])


def test_a_listing_by_prefix_and_a_bad_cursor() -> None:
    cluster = SmallCluster()
    for key in (b"a1", b"a2", b"b1", b"\xff\xff", b"\xff"):
        cluster.put(1, key, b"v")
    page = cluster.call(lambda reply: cluster.nodes[3].keys(KeysRequest(b"b", b"a"), reply))
    assert sorted(page.keys) == [b"a1", b"a2"]
    page = cluster.call(lambda reply: cluster.nodes[3].keys(KeysRequest(b"b", b"\xff"), reply))
    assert sorted(page.keys) == [b"\xff", b"\xff\xff"]
    for cursor in ("!", "AA", "_" * 5000, "äö"):
        result = cluster.call(lambda reply, c=cursor: cluster.nodes[3].keys(KeysRequest(b"b", cursor=c), reply))
        assert isinstance(result, Failure | KeysPage)
    result = cluster.call(lambda reply: cluster.nodes[3].keys(KeysRequest(b"b", cursor="!"), reply))
    assert result.kind == "caller"


def test_expired_requests_are_dropped_not_done() -> None:
    cluster = SmallCluster()
    node = cluster.nodes[1]
    cluster.sent.clear()
    node.on_message(2, Write(1, 50, 1, b"\x00\x00\x01bk", b"", 0), 60.0)
    node.on_message(2, Read(2, 50, 1, b"\x00\x00\x01bk", True), 60.0)
    cluster.world.run(10)
    assert not cluster.sent


def test_too_much_in_flight_is_shed_at_once() -> None:
    cluster = SmallCluster()
    cluster.nodes[1]._shared.in_flight_bytes = 1 << 40
    result = cluster.put(1, b"k", b"v")
    assert isinstance(result, Failure)
    assert result.kind == "overloaded"
    assert result.retry_after_ms > 0


def test_forty_blind_writers_meet_the_sibling_cap_with_a_clear_error() -> None:
    """Hard case 6: siblings are capped towards clients."""
    cluster = SmallCluster()
    results = [cluster.put(1, b"k", b"%d" % index) for index in range(101)]
    assert all(isinstance(result, PutResult) for result in results[:100])
    assert isinstance(results[100], Failure)
    assert "siblings" in results[100].message


def test_peers_that_are_told_do_not_lack_one_that_is_only_suspected() -> None:
    """A suspicion ends without any change of connections, so that nobody would be told that the peer is back."""
    cluster = SmallCluster()
    node = cluster.nodes[1]
    cluster.world.run(1_000)
    for _ in range(20):
        node._shared.detector.on_timeout(2, 100.0, node._shared.clock.monotonic_ms())
    assert not node.reachable(2)
    told: list[list[str]] = []
    events = SimpleNamespace(emit=lambda event, connected: told.append(connected))
    NodeProcess._report_peers(cast(NodeProcess, SimpleNamespace(_events=events)), node)
    assert told == [["n2", "n3"]]
