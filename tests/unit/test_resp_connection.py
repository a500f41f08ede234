"""A client's connection: order, bounds, backpressure both ways, time limits, authentication."""

from __future__ import annotations

import hiredis
import pytest

from quorate.api.resp.timeouts import RespTimeouts
from quorate.core import limits
from quorate.core.store import Failure
from tests.unit.resp_session import Session, command


def test_replies_keep_the_order_of_commands_whatever_order_they_are_ready_in() -> None:
    session = Session()
    for key in "abc":
        session.call("SET", key, f"value of {key}")
    session.store.mode = "held"
    session.transport.written.clear()
    session.receive(command("GET", "a") + command("PING") + command("GET", "b") + command("GET", "c"))
    session.store.release(2)
    session.scheduler.run()
    assert session.replies() == []
    session.store.release(0)
    session.scheduler.run()
    assert session.replies() == [b"value of a", b"PONG"]
    session.store.release(0)
    session.scheduler.run()
    assert session.replies() == [b"value of b", b"value of c"]


def test_all_replies_of_a_turn_leave_in_one_write() -> None:
    session = Session()
    session.receive(b"".join(command("SET", f"k{i}", i) for i in range(50)) + b"PING\r\n")
    assert len(session.transport.written) == 1
    assert session.replies() == [b"OK"] * 50 + [b"PONG"]


def test_a_pipeline_beyond_the_bound_waits_and_nothing_is_lost() -> None:
    session = Session()
    session.store.mode = "held"
    count = limits.PIPELINE_COMMANDS_MAX + 300
    session.receive(b"".join(command("ECHO" if i % 2 else "GET", f"k{i}") for i in range(2 * count)))
    assert len(session.connection.pending) == limits.PIPELINE_COMMANDS_MAX
    assert not session.transport.reading
    while session.store.held:
        session.store.release()
        session.scheduler.run()
    assert session.replies() == [f"k{i}".encode() if i % 2 else None for i in range(2 * count)]
    assert session.transport.reading
    assert session.connection.held_bytes == 0


@pytest.mark.sources
def test_values_on_their_way_in_are_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "CLIENT_HELD_BYTES_MAX", 10_000)
    session = Session()
    session.store.mode = "held"
    session.receive(command("SET", "k", "v" * 3000) * 10)
    assert len(session.connection.pending) == 4
    assert not session.transport.reading
    while session.store.held:
        session.store.release()
        session.scheduler.run()
    assert session.replies() == [b"OK"] * 10
    assert session.transport.reading
    assert session.connection.held_bytes == 0


def test_a_client_that_does_not_read_is_not_read_from() -> None:
    session = Session()
    session.connection.pause_writing()
    session.receive(command("PING") * 3)
    assert not session.transport.reading
    assert session.replies() == []
    session.connection.resume_writing()
    session.scheduler.run()
    assert session.transport.reading
    assert session.replies() == [b"PONG"] * 3


def test_a_client_that_never_reads_is_closed() -> None:
    session = Session()
    session.connection.pause_writing()
    session.pass_time(limits.COMMAND_TIMEOUT_MS - 1)
    assert not session.transport.aborted
    session.pass_time(2)
    assert session.transport.aborted


def test_a_protocol_error_is_answered_in_its_place_and_closes() -> None:
    session = Session()
    session.store.mode = "held"
    session.receive(command("GET", "a") + b"*1\r\n$1000000000\r\n" + command("PING"))
    assert not session.transport.closed
    session.store.release()
    session.scheduler.run()
    first, second = session.replies()
    assert first is None
    assert isinstance(second, hiredis.ReplyError)
    assert "Protocol error: invalid bulk length" in str(second)
    assert session.transport.closed


def test_quit_and_end_of_file_close_after_the_replies() -> None:
    for ending in ("quit", "eof"):
        session = Session()
        session.store.mode = "held"
        session.receive(command("GET", "a"))
        if ending == "quit":
            session.receive(command("QUIT") + command("PING"))
        else:
            assert session.connection.eof_received()
        assert not session.transport.closed
        session.store.release()
        session.scheduler.run()
        assert session.replies() == ([None, b"OK"] if ending == "quit" else [None])
        assert session.transport.closed


def test_end_of_file_without_replies_due_closes_at_once() -> None:
    session = Session()
    session.connection.eof_received()
    assert session.transport.closed


def test_a_client_that_left_is_not_answered() -> None:
    session = Session()
    session.store.mode = "held"
    session.receive(command("GET", "a") + command("GET", "b"))
    session.connection.connection_lost(None)
    assert not session.connection.pending, "what waits for it is let go"
    session.store.release()
    session.store.release()
    session.scheduler.run()
    assert session.replies() == []
    assert session.server.connections == {}


def test_connections_are_bounded() -> None:
    first = Session(connections_max=2)
    second = Session(server=first.server)
    third = Session(server=first.server)
    [reply] = third.replies()
    assert str(reply) == "ERR max number of clients reached"
    assert third.transport.closed
    assert second.call("PING") == b"PONG"
    second.connection.connection_lost(None)
    assert Session(server=first.server).call("PING") == b"PONG"


def test_an_idle_client_is_closed_and_a_waiting_one_is_not() -> None:
    timeouts = RespTimeouts(idle_ms=60_000)
    session = Session(timeouts=timeouts)
    session.store.mode = "held"
    session.receive(command("GET", "k"))
    session.pass_time(61_000)
    assert not session.transport.closed
    session.store.release()
    session.scheduler.run()
    session.pass_time(1)
    assert session.transport.aborted


def test_a_busy_client_is_not_idle() -> None:
    session = Session(timeouts=RespTimeouts(idle_ms=60_000))
    for _ in range(5):
        session.pass_time(40_000)
        assert session.call("PING") == b"PONG"
    assert not session.transport.closed


def test_a_slow_loris_is_closed_although_it_keeps_sending() -> None:
    session = Session()
    data = command("SET", "k", "v" * 100_000)
    for at in range(6):
        session.receive(data[at : at + 1])
        session.pass_time(limits.COMMAND_TIMEOUT_MS / 5)
    session.pass_time(1_000)
    assert session.transport.aborted


def test_a_large_value_over_a_slow_line_may_take_its_time() -> None:
    session = Session()
    data = command("SET", "k", "v" * 200_000)
    for at in range(0, len(data), limits.COMMAND_PROGRESS_BYTES_MIN):
        session.receive(data[at : at + limits.COMMAND_PROGRESS_BYTES_MIN])
        session.pass_time(limits.COMMAND_TIMEOUT_MS * 0.9)
    assert session.replies() == [b"OK"]
    assert not session.transport.closed


def test_a_partial_command_after_whole_ones_starts_its_own_clock() -> None:
    session = Session()
    session.receive(b"PING\r\nPI")
    for _ in range(6):
        session.pass_time(limits.COMMAND_TIMEOUT_MS * 0.6)
        session.receive(b"NG\r\nPI")
    assert not session.transport.closed
    assert session.replies() == [b"PONG"] * 7


def test_nothing_but_authentication_is_possible_before_it() -> None:
    session = Session(password="secret")
    for arguments in (["GET", "k"], ["PING"], ["CLUSTER", "SLOTS"], ["KV.PUT", "k", "v"], ["COMMAND"]):
        assert session.error(*arguments) == "NOAUTH Authentication required."
    assert session.store.requests == []
    assert session.error("NOSUCH").startswith("ERR unknown command")
    assert session.error("AUTH", "wrong").startswith("WRONGPASS")
    assert session.error("AUTH", "other", "secret").startswith("WRONGPASS")
    assert session.error("GET", "k").startswith("NOAUTH")
    assert session.call("AUTH", "secret") == b"OK"
    assert session.call("GET", "k") is None
    assert session.call("RESET") == b"RESET"
    assert session.error("GET", "k").startswith("NOAUTH")
    assert session.call("AUTH", "default", "secret") == b"OK"


def test_an_unauthenticated_client_gets_little_memory() -> None:
    session = Session(password="secret")
    assert session.transport.high == limits.UNAUTHENTICATED_BYTES_MAX
    session.receive(b"*2\r\n$4\r\nAUTH\r\n$%d\r\n" % limits.UNAUTHENTICATED_BYTES_MAX)
    assert "Protocol error: invalid bulk length" in str(session.replies()[0])
    assert session.transport.closed


def test_authentication_raises_the_bound_within_one_packet() -> None:
    session = Session(password="secret")
    big = b"v" * (2 * limits.UNAUTHENTICATED_BYTES_MAX)
    session.receive(command("AUTH", "secret") + command("SET", "k", big) + command("GET", "k"))
    assert session.replies() == [b"OK", b"OK", big]
    assert session.transport.high == limits.CLIENT_OUTPUT_BYTES_HIGH


def test_a_client_that_does_not_authenticate_is_closed() -> None:
    session = Session(password="secret")
    for _ in range(4):
        session.error("PING")
        session.pass_time(limits.AUTHENTICATION_TIMEOUT_MS / 4 + 1)
    assert session.transport.aborted


def test_hello_is_all_or_nothing() -> None:
    session = Session(password="secret")
    assert session.error("HELLO", 3).startswith("NOAUTH")
    assert session.error("HELLO", 3, "AUTH", "default", "wrong").startswith("WRONGPASS")
    assert session.error("HELLO", 4, "AUTH", "default", "secret").startswith("NOPROTO")
    assert "SETNAME" in session.error("HELLO", 3, "AUTH", "default", "secret", "SETNAME")
    assert session.error("GET", "k").startswith("NOAUTH")
    assert not session.connection.resp3
    greeting = session.call("HELLO", 3, "AUTH", "default", "secret", "SETNAME", "me")
    assert greeting[b"proto"] == 3
    assert greeting[b"mode"] == b"cluster"
    assert session.call("CLIENT", "GETNAME") == b"me"
    greeting = session.call("HELLO", 2)
    assert dict(zip(greeting[::2], greeting[1::2], strict=True))[b"proto"] == 2


def test_hello_does_not_change_replies_that_are_on_their_way() -> None:
    session = Session()
    session.store.mode = "held"
    session.receive(command("GET", "a") + command("HELLO", 3) + command("GET", "b"))
    session.store.release()
    session.store.release()
    session.scheduler.run()
    body = b"".join(session.transport.written)
    assert body.startswith(b"$-1\r\n%7\r\n")
    assert body.endswith(b"_\r\n")


def test_a_browser_cannot_be_made_to_send_commands() -> None:
    for request in (
        b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nSET k v\r\n",
        b"PUT / HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nSET k v\r\n",
    ):
        session = Session()
        session.receive(request)
        assert session.transport.closed
        assert session.store.requests == []


def test_failures_say_what_became_of_the_request() -> None:
    session = Session()
    session.store.fail_next = [
        Failure("caller", "w=5 is above n=3"),
        Failure("unavailable", "1 of 2 replicas answered", ["n2", "n3"]),
        Failure("overloaded", "too much in flight", retry_after_ms=250),
        Failure("unknown", "the write may be done\r\n+OK", ["n3"]),
    ]
    assert [session.error("SET", "k", "v") for _ in range(4)] == [
        "ERR w=5 is above n=3",
        "UNAVAILABLE 1 of 2 replicas answered (no answer from n2, n3)",
        "OVERLOADED retry-after-ms=250 too much in flight",
        "UNKNOWN the write may be done  +OK (no answer from n3)",
    ]


def test_an_error_reply_is_bounded() -> None:
    session = Session()
    session.store.fail_next = [Failure("unavailable", "x" * 100_000)]
    assert len(session.raw("GET", "k")) <= limits.ERROR_REPLY_BYTES_MAX + 3


def test_closing_the_server_lets_replies_leave() -> None:
    session = Session()
    session.store.mode = "held"
    session.receive(command("GET", "k"))
    session.server.close()
    assert not session.transport.closed
    session.store.release()
    session.scheduler.run()
    assert session.replies() == [None]
    assert session.transport.closed
    late = Session(server=session.server)
    assert late.transport.closed


def test_closing_the_server_stops_its_timer() -> None:
    session = Session()
    session.server.close()
    assert all(timer.callback is None for timer in session.scheduler.later)
