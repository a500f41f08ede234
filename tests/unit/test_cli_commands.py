"""Exit codes, error messages and outputs of commands, against a node that answers from a script."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator

import hiredis
import pytest

from quorate.cli.link import Link, reply_error
from quorate.cli.main import COMMANDS, run
from quorate.core.errors import CallerError, OutcomeUnknown, Overloaded, PeerError, Unavailable

Script = Callable[[list[bytes]], bytes]


class ScriptedNode:
    """Answers each command with what the script gives; empty: close the connection."""

    def __init__(self, script: Script) -> None:
        self._script = script
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.commands: list[list[bytes]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection:
                self._converse(connection)

    def _converse(self, connection: socket.socket) -> None:
        reader = hiredis.Reader()
        while data := connection.recv(65536):
            reader.feed(data)
            while (command := reader.gets()) is not False:
                self.commands.append(command)
                reply = self._script(command)
                if not reply:
                    return
                connection.sendall(reply)


@pytest.fixture
def node() -> Iterator[Callable[..., ScriptedNode]]:
    made: list[ScriptedNode] = []

    def make(reply: bytes | Script) -> ScriptedNode:
        made.append(ScriptedNode(reply if callable(reply) else lambda command: reply))
        return made[-1]

    yield make
    for each in made:
        each.close()


FOUND = b"*2\r\n$3\r\nctx\r\n*1\r\n*3\r\n$5\r\nhello\r\n$10\r\ntext/plain\r\n:1500000000000\r\n"
TWO = b"".join(
    (
        b"*2\r\n$3\r\nctx\r\n*2\r\n",
        b"*3\r\n$1\r\na\r\n$0\r\n\r\n:1500000000000\r\n",
        b"*3\r\n$1\r\n\xff\r\n$0\r\n\r\n:1500000000001\r\n",
    )
)
ABSENT = b"*2\r\n$0\r\n\r\n*0\r\n"


@pytest.mark.parametrize(
    ("reply", "arguments", "code"),
    [
        (FOUND, ["get", "b", "k"], 0),
        (TWO, ["get", "b", "k"], 3),
        (ABSENT, ["get", "b", "k"], 4),
        (ABSENT, ["delete", "b", "k"], 4),
        (b"-UNAVAILABLE too few (no answer from n2)\r\n", ["get", "b", "k"], 5),
        (b"-OVERLOADED retry-after-ms=50 busy\r\n", ["get", "b", "k"], 5),
        (b"-UNKNOWN may be done\r\n", ["put", "b", "k", "v"], 6),
        (b"-ERR r=4 is above n=3\r\n", ["get", "b", "k", "--r", "4"], 1),
        (b"-NOAUTH Authentication required.\r\n", ["get", "b", "k"], 1),
        (b"", ["get", "b", "k"], 5),
        (b"", ["put", "b", "k", "v"], 6),
        (b"$3\r\nctx\r\n", ["put", "b", "k", "v"], 0),
        (b"!garbage", ["get", "b", "k"], 5),
        (FOUND, ["get", "b"], 2),
        (FOUND, ["get", "b", "k", "--r", "0"], 2),
        (FOUND, ["put", "b", "k", "v", "--file", "x"], 2),
    ],
)
def test_exit_codes(
    node: Callable[..., ScriptedNode], capfd: pytest.CaptureFixture[str], reply: bytes, arguments: list[str], code: int
) -> None:
    assert run([*arguments, "--node", node(reply).address]) == code
    out, err = capfd.readouterr()
    assert bool(err) == (code != 0)
    assert bool(out) == (code in (0, 3))


def test_get_writes_the_value_and_nothing_else(
    node: Callable[..., ScriptedNode], capfd: pytest.CaptureFixture[str]
) -> None:
    run(["get", "b", "k", "--node", node(FOUND).address])
    assert capfd.readouterr().out == "hello"


def test_siblings_are_printed_whole(node: Callable[..., ScriptedNode], capfd: pytest.CaptureFixture[str]) -> None:
    run(["get", "b", "k", "--node", node(TWO).address])
    found = json.loads(capfd.readouterr().out)
    assert found["context"] == "ctx"
    assert found["siblings"] == [
        {"content_type": "application/octet-stream", "value": "a", "last_modified": "2017-07-14T02:40:00.000Z"},
        {
            "content_type": "application/octet-stream",
            "value_base64": "/w==",
            "last_modified": "2017-07-14T02:40:00.001Z",
        },
    ]


def test_delete_without_a_context_takes_what_it_reads(node: Callable[..., ScriptedNode]) -> None:
    scripted = node(lambda command: TWO if command[0] == b"KV.GET" else b"$4\r\nctx2\r\n")
    assert run(["delete", "b", "k", "--node", scripted.address]) == 0
    assert scripted.commands == [[b"KV.GET", b"b:k"], [b"KV.DEL", b"b:k", b"CTX", b"ctx"]]


def test_put_passes_its_options(node: Callable[..., ScriptedNode]) -> None:
    scripted = node(b"$3\r\nctx\r\n")
    options = ["--context", "c", "--w", "2", "--ttl", "9", "--type", "a/b", "--timeout-ms", "70", "--strict"]
    assert run(["put", "b", "k", "v", *options, "--node", scripted.address, "--password", "open"]) == 0
    auth, put = scripted.commands[0], " ".join(part.decode() for part in scripted.commands[1])
    assert auth == [b"AUTH", b"open"]
    assert put == "KV.PUT b:k v CTX c W 2 TTL 9 TYPE a/b TIMEOUT 70 STRICT"


def test_keys_follows_the_cursor_to_the_limit(
    node: Callable[..., ScriptedNode], capfd: pytest.CaptureFixture[str]
) -> None:
    pages = {
        b"": b"*2\r\n$1\r\nc\r\n*2\r\n$1\r\na\r\n$1\r\nb\r\n",
        b"c": b"*2\r\n$0\r\n\r\n*1\r\n$1\r\nd\r\n",
    }
    scripted = node(lambda command: pages[command[-1] if b"CURSOR" in command else b""])
    assert run(["keys", "b", "--node", scripted.address]) == 0
    assert capfd.readouterr().out == "a\nb\nd\n"
    assert run(["keys", "b", "--limit", "2", "--node", scripted.address]) == 0
    assert capfd.readouterr().out == "a\nb\n"
    assert len(scripted.commands) == 3


def test_keys_refuses_a_page_that_repeats_itself(node: Callable[..., ScriptedNode]) -> None:
    assert run(["keys", "b", "--node", node(b"*2\r\n$1\r\nc\r\n*0\r\n").address]) == 1


def test_errors_are_json_when_asked(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["get", "b", "k", "--json", "--node", "127.0.0.1:1"]) == 5
    assert json.loads(capfd.readouterr().err)["exit_code"] == 5


@pytest.mark.parametrize("address", ["nowhere", "127.0.0.1:0", "127.0.0.1:x"])
def test_a_malformed_address_is_named(address: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["get", "b", "k", "--node", address]) == 1
    assert "--node" in capfd.readouterr().err


def test_every_command_has_help_with_an_example(capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["--help"]) == 0
    for name in COMMANDS:
        capfd.readouterr()
        assert run([name, "--help"]) == 0
        text = capfd.readouterr().out
        assert "Example" in text, name
        assert f"quorate {name}" in text
        assert "--json" in text or name in ("bucket", "start"), name


def test_error_replies_become_the_errors_that_they_stand_for() -> None:
    for text, kind in (
        ("ERR x", CallerError),
        ("UNAVAILABLE x", Unavailable),
        ("UNKNOWN x", OutcomeUnknown),
        ("NEWFANGLED x", PeerError),
    ):
        assert type(reply_error(text)) is kind
    overloaded = reply_error("OVERLOADED retry-after-ms=70 busy")
    assert isinstance(overloaded, Overloaded)
    assert (str(overloaded), overloaded.retry_after_ms) == ("busy", 70)


def test_a_link_reads_replies_in_pieces(node: Callable[..., ScriptedNode]) -> None:
    scripted = node(b"$100000\r\n" + b"x" * 100_000 + b"\r\n")
    with Link(scripted.address) as link:
        assert link.command("GET", "k") == b"x" * 100_000
        assert link.command("GET", "k") == b"x" * 100_000
