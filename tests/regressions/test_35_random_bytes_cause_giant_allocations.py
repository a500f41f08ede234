"""Hard case 35: random bytes on a port made a node take gigabytes, and end (scylladb PR4620, CVE-2021-32675).

A length was believed before what it announced had come. Here every parser of bytes from outside is given random bytes,
valid ones with changes, lengths of gigabytes, and nesting without end: it raises its own typed error or none, and takes
memory in proportion to what has arrived. A stranger has 16 KiB kept at most, and not for long. The parsers' own
properties are in `tests/property/test_peer_wire_fuzz.py` and `test_resp_fuzz.py` beside it; bytes on the ports of real
nodes also in `tests/integration/test_bad_input.py`.
"""

from __future__ import annotations

import contextlib
import io
import socket
import struct
import tracemalloc
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from xxhash import xxh32_digest

from quorate.api.resp.parser import RequestParser
from quorate.cli.rows import CsvRows, JsonRows, Rejected, Row, RowReader
from quorate.core import limits
from quorate.core.buckets import default_properties
from quorate.core.causality.context import decode_context, encode_context
from quorate.core.envelope import digest_of, pack, unpack
from quorate.core.errors import CallerError, DamagedRecord, PeerError, StartupError
from quorate.core.hints import Hint, pack_hint, unpack_hint
from quorate.core.limits import KIB, MIB
from quorate.core.membership.ring_consensus import RingValue, value_fault
from quorate.core.messages import Read, Write
from quorate.core.record import Context, Record, Sibling, decode_record, encode_record
from quorate.core.ring.create import create_ring
from quorate.core.ring.metadata import ClusterMetadata, of_value, to_value
from quorate.core.ring.transition import staged
from quorate.core.wire.address import split_address
from quorate.core.wire.codec import decode_messages, encode_messages
from quorate.core.wire.framing import FrameReader, frame_header
from quorate.core.wire.handshake import Handshake, Role
from quorate.node.documents import opened, sealed
from quorate.node.listing import decode_cursor
from quorate.server.addresses import parse_address
from quorate.server.cluster_file import found_cluster, read_cluster_file, write_cluster_file
from tests.conftest import MakeCluster
from tests.peer_cluster import SECRET, make_identity, make_member
from tests.property.test_peer_wire_fuzz import Endpoint, dialing_peer, frame, mutations
from tests.unit.resp_session import Session, command

MEMBERS = {number: make_member(number) for number in (1, 2)}
KEY = b"key"
RECORD = Record({7: 2, 9: 1}, [Sibling(7, 2, 5 << 16, b"value", "text/plain"), Sibling(9, 1, 6 << 16, b"other")])
NESTED = 60_000


class Parser(NamedTuple):
    parse: Callable[[bytes], Any]
    refuses: tuple[type[Exception], ...]
    """What it may raise: its errors for whoever sent the bytes, and nothing else."""
    valid: bytes
    seal: Callable[[bytes], bytes] = lambda body: body
    """Gives bytes the checksum that anybody can give them."""
    plain: Callable[[bytes], bytes] = lambda stored: stored
    """`valid` without what `seal` adds."""


def read_handshake(body: bytes) -> None:
    Handshake(Role.ACCEPTOR, make_identity(1), SECRET, MEMBERS, b"m" * 32).receive(body)


def read_frames(data: bytes) -> None:
    for _, body in FrameReader(limits.FRAME_BYTES_MAX).frames(data):
        decode_messages(body)


def read_requests(data: bytes) -> None:
    parser = RequestParser()
    parser.feed(data)
    while parser.next() is not None:
        pass


def read_ring(body: bytes) -> None:
    value = RingValue(RING.cluster_id, RING.forced, RING.version, RING.voters, body)
    assert not value_fault(value)
    of_value(value)


def seal_context(payload: bytes) -> bytes:
    return urlsafe_b64encode(payload + xxh32_digest(payload)).rstrip(b"=")


def unseal_context(token: bytes) -> bytes:
    return urlsafe_b64decode(token + b"=" * (-len(token) % 4))[:-4]


def seal_record(body: bytes) -> bytes:
    return pack(digest_of(KEY, body), 7, body)


def read_rows(make: Callable[[Any, str], RowReader]) -> Callable[[bytes], list[Row | Rejected]]:
    return lambda data: list(make(io.BytesIO(data), "id").rows(0, 0))


RING = to_value(
    ClusterMetadata(staged(create_ring("c" * 32, list(MEMBERS.values()), 8, 2)), default_properties(2)), forced=0
)
PARSERS = {
    "handshake": Parser(read_handshake, (PeerError,), dialing_peer().start() or b""),
    "frames": Parser(
        read_frames, (PeerError,), frame(encode_messages([Write(1, 1000, 1, KEY, b"v", 0), Read(3, 9, 1, KEY, True)]))
    ),
    "messages": Parser(decode_messages, (PeerError,), encode_messages([Write(1, 1000, 1, KEY, b"v", 0)])),
    "ring": Parser(read_ring, (PeerError,), RING.body),
    "record": Parser(decode_record, (msgspec.DecodeError,), encode_record(RECORD)),
    "envelope": Parser(lambda stored: unpack(KEY, stored), (DamagedRecord,), seal_record(encode_record(RECORD))),
    "hint": Parser(
        lambda stored: unpack_hint(KEY, stored), (DamagedRecord,), pack_hint(KEY, Hint(5, 0, 7, encode_record(RECORD)))
    ),
    "document": Parser(opened, (), sealed(b"anything")),
    "requests": Parser(read_requests, (CallerError,), command("KV.PUT", "b:k", "value", "W", 2) * 2),
    "context": Parser(
        decode_context,
        (CallerError,),
        encode_context(Context({7: 2, 9: 1}, 5 << 16)).encode(),
        seal_context,
        unseal_context,
    ),
    "cursor": Parser(lambda text: decode_cursor(text.decode("latin-1"), 64), (CallerError,), b"AAFrZXk"),
    "address": Parser(lambda text: split_address(text.decode("latin-1")), (CallerError,), b"[::1]:7401"),
    "listener": Parser(lambda text: parse_address(text.decode("latin-1")), (StartupError,), b"127.0.0.1:7401"),
    "json rows": Parser(read_rows(JsonRows), (), b'{"id": "a", "n": [1, {"b": null}]}\n{"id": 7}\n'),
    "csv rows": Parser(read_rows(CsvRows), (CallerError,), b'id,name\na,"one\ntwo"\nb,three\n'),
}


OPENINGS = {"list": b"\x91", "map": b"\x81\x01", "[": b"[", "{": b'{"a":', "{[": b'{"id":[', "*": b"*1\r\n", "9": b"9"}


def parse(name: str, data: bytes) -> None:
    """Give `data` to the parser; only what it may raise is passed over."""
    parser = PARSERS[name]
    with contextlib.suppress(*parser.refuses):
        parser.parse(data)


@pytest.mark.parametrize("name", PARSERS)
def test_what_is_valid_is_read(name: str) -> None:
    parser = PARSERS[name]
    parser.parse(parser.valid)
    assert parser.seal(parser.plain(parser.valid)) == parser.valid


@pytest.mark.parametrize("name", list(PARSERS))
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_bytes_are_read_or_refused_by_a_typed_error(name: str, data: st.DataObject) -> None:
    parser = PARSERS[name]
    parse(name, data.draw(st.binary(max_size=300) | mutations(parser.valid)))
    parse(name, parser.seal(data.draw(st.binary(max_size=300) | mutations(parser.plain(parser.valid)))))


CLAIMS = (
    [struct.pack(">I", size) + bytes(8) for size in (limits.FRAME_BYTES_MAX, 2**31, 2**32 - 1)]
    + [
        prefix + head
        for prefix in (b"", b"\x91", b"\x92\x01", b"\x98\x01\x01\x01\x01", b"\x93\x01", b"\x94\x01\x00\x00")
        for head in (b"\xdd\x7f\xff\xff\xff", b"\xdf\x7f\xff\xff\xff", b"\xc6\x7f\xff\xff\xff", b"\xdb\x7f\xff\xff\xff")
    ]
    + [b"*65000\r\n$3\r\nabc", b"*1\r\n$67000000\r\nabc", b"*2147483647\r\n", b"$2147483647\r\n", b'{"id": "a']
)


@pytest.mark.parametrize("name", list(PARSERS))
def test_no_length_is_believed_before_what_it_announces_is_there(name: str) -> None:
    parser = PARSERS[name]
    whole = parser.plain(parser.valid)
    claims = [claim + bytes(100) for claim in CLAIMS]
    claims += [whole[:at] + b"\xdd\x7f\xff\xff\xff" + whole[at:] for at in range(0, len(whole), 1 + len(whole) // 40)]
    parse(name, parser.valid)  # What is kept for good is not to be counted.
    for claim in claims:
        tracemalloc.start()
        try:
            parse(name, claim)
            parse(name, parser.seal(claim))
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        assert peak_bytes < 128 * KIB, claim[:20]


@pytest.mark.parametrize(("name", "opening"), [(name, opening) for name in PARSERS for opening in OPENINGS])
def test_no_nesting_is_too_deep_to_be_refused(name: str, opening: str) -> None:
    parser = PARSERS[name]
    body = parser.plain(parser.valid)
    deep = OPENINGS[opening] * NESTED
    for data in (deep, body[:1] + deep, body + deep, _with_a_field_more(body) + deep):
        parse(name, data)
        parse(name, parser.seal(data))
        parse(name, parser.seal(data[: limits.CONTEXT_TOKEN_BYTES_MAX // 2]))


def _with_a_field_more(body: bytes) -> bytes:
    """`body`, if it is one of the arrays that our documents are, announces a field that is not known here."""
    at = 1 if body[:1] == b"\x01" else 0  # The version of a context.
    return body[:at] + bytes([body[at] + 1]) + body[at + 1 :] if 0x90 <= body[at] < 0x9F else body


@pytest.mark.parametrize("digits", [20, 4_000, 100_000])
def test_no_number_is_too_long_to_be_refused(digits: int) -> None:
    number = "9" * digits
    session = Session()
    for arguments in (
        ["KV.PUT", "k", "v", "W", number],
        ["KV.PUT", "k", "v", "TTL", number],
        ["KV.GET", "k", "TIMEOUT", number],
        ["SET", "k", "v", "EX", number],
        ["EXPIRE", "k", number],
        ["SCAN", number],
        ["HELLO", number],
    ):
        assert session.error(*arguments)
    assert session.call("PING") == b"PONG"


# Files that people bring.


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_cluster_file_is_read_or_refused_by_its_name(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "cluster.json"
    cluster = found_cluster("c" * 32, list(MEMBERS.values()), 8, "rocksdb", secret="5" * 64)
    write_cluster_file(path, cluster)
    path.write_bytes(data.draw(st.binary(max_size=300) | mutations(path.read_bytes())))
    try:
        found = read_cluster_file(path)
    except StartupError as error:
        assert str(path) in str(error) and "restore it from a copy" in str(error)
    else:
        assert found == cluster


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'{"format":1,"ring":['])
def test_a_cluster_file_nested_without_end_is_refused(tmp_path: Path, opening: bytes) -> None:
    path = tmp_path / "cluster.json"
    path.write_bytes(opening * 100_000)
    with pytest.raises(StartupError, match="is damaged"):
        read_cluster_file(path)


@pytest.mark.parametrize("rest", [b"\x91" * 5_000, b"\x81\x01" * 5_000, b"\xc1", b""])
def test_a_ring_in_a_cluster_file_that_cannot_be_read_is_refused(rest: bytes) -> None:
    cluster = found_cluster("c" * 32, list(MEMBERS.values()), 8, "rocksdb", secret="5" * 64)
    ring = msgspec.msgpack.encode(RING)
    assert msgspec.structs.replace(cluster, decided=ring.hex()).founding() == RING
    with pytest.raises(StartupError, match="the cluster file's ring cannot be used"):
        msgspec.structs.replace(cluster, decided=(_with_a_field_more(ring) + rest).hex()).founding()


# Strangers: how much is kept of what they send, and for how long.


def test_clients_that_have_not_authenticated_have_16_kib_kept_and_not_for_long() -> None:
    sessions: list[Session] = [Session(password="secret") for _ in range(50)]
    claim = b"*2\r\n$4\r\nAUTH\r\n$16000\r\n"
    tracemalloc.start()
    try:
        for session in sessions:
            session.receive(claim)
            for _ in range(15):
                session.receive(b"x" * 1_000)
        kept_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert not any(session.transport.closed for session in sessions)
    assert kept_bytes < len(sessions) * 2 * limits.UNAUTHENTICATED_BYTES_MAX, "a buffer that grows has some room"
    for session in sessions:
        for _ in range(limits.AUTHENTICATION_TIMEOUT_MS // 1000):
            session.receive(b"x")
            session.pass_time(1_000)
        session.pass_time(limits.CLIENT_SWEEP_INTERVAL_MS + 1)
        assert session.transport.aborted, "a slow loris is closed, although it goes on sending"


def test_a_client_that_has_authenticated_is_closed_if_its_command_does_not_come_on() -> None:
    session = Session(password="secret")
    session.call("AUTH", "secret")
    session.receive(b"*2\r\n$3\r\nSET\r\n$60000000\r\n")
    for _ in range(limits.COMMAND_TIMEOUT_MS // 1000 + 2):
        if not session.transport.closed:
            session.receive(b"x")
            session.pass_time(1_000)
    assert session.transport.aborted


def test_peers_that_have_not_proved_themselves_have_16_kib_kept_and_not_for_long() -> None:
    endpoints = [Endpoint() for _ in range(50)]
    tracemalloc.start()
    try:
        for endpoint in endpoints:
            endpoint.receive(frame_header(limits.HANDSHAKE_FRAME_BYTES_MAX - 8, 5.0))
            for _ in range(limits.HANDSHAKE_FRAME_BYTES_MAX // 1000 - 1):
                endpoint.receive(b"x" * 1_000)
        kept_bytes = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert kept_bytes < len(endpoints) * limits.UNAUTHENTICATED_BYTES_MAX
    assert [endpoint.connection.ended for endpoint in endpoints] == [False] * len(endpoints)
    for endpoint in endpoints:
        for _ in range(limits.HANDSHAKE_TIMEOUT_MS // 1000):
            endpoint.receive(b"x")
            endpoint.time.advance(1_000)
        assert endpoint.connection.ended
        endpoint.check()


@contextlib.contextmanager
def strangers(address: str, count: int, says: bytes) -> Iterator[list[socket.socket]]:
    """So many connections, each of which has said this; closed at the end."""
    host, port = address.rsplit(":", 1)
    with contextlib.ExitStack() as stack:
        made = [stack.enter_context(socket.create_connection((host, int(port)), timeout=30)) for _ in range(count)]
        for each in made:
            with contextlib.suppress(ConnectionError):
                each.sendall(says)
        yield made


@pytest.mark.integration
def test_a_real_node_takes_no_memory_for_what_strangers_announce(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=1, password="open sesame")
    node, member = cluster.node(1), cluster.members[0]
    announced = {
        member.client_address: [
            b"*2\r\n$4\r\nAUTH\r\n$16000\r\n" + b"x" * 12_000,
            b"*2\r\n$4\r\nAUTH\r\n$2000000000\r\n",
        ],
        member.peer_address: [struct.pack(">I", 4_000) + b"x" * 3_000, struct.pack(">I", 2**32 - 1) + b"x" * 3_000],
    }
    before_bytes = node.memory_bytes()
    with contextlib.ExitStack() as stack:
        for address, sayings in announced.items():
            for says in sayings:
                stack.enter_context(strangers(address, 100, says))
        done = cluster.cli("put", "b", "k", "v", "--password", "open sesame")
        assert done.returncode == 0, done.stderr.decode()
        taken_bytes = node.memory_bytes() - before_bytes
    assert taken_bytes < 400 * 2 * limits.UNAUTHENTICATED_BYTES_MAX + 8 * MIB
    assert "bug" not in node.log() and "Traceback" not in node.log()


@pytest.mark.integration
def test_a_real_node_closes_whoever_says_nothing_sensible_in_time(make_cluster: MakeCluster) -> None:
    cluster = make_cluster(nodes=1, password="open sesame")
    member = cluster.members[0]
    with (
        strangers(member.client_address, 3, b"*2\r\n$4\r\nAU") as clients,
        strangers(member.peer_address, 3, b"\x00\x00") as peers,
    ):
        for each in (*clients, *peers):
            with contextlib.suppress(ConnectionError):
                while each.recv(4096):  # Whose time limit is longer than the node's.
                    pass
