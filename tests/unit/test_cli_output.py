"""What a node says can never stop it, and says itself whole or not at all."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from collections.abc import Iterator

import pytest

from quorate.server.output import LineWriter, LogHandler

F_SETPIPE_SZ = 1031


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """(reading end, writing end) of a pipe of 4 KiB."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, F_SETPIPE_SZ, 4096)
    yield reading, writing
    for descriptor in (reading, writing):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_a_reader_that_sleeps_loses_lines_and_does_not_hold_the_node(pipe: tuple[int, int]) -> None:
    """If the writer blocked, this test would hang: nobody reads."""
    reading, writing = pipe
    writer = LineWriter(writing)
    for number in range(200):
        writer.write(b"%04d " % number + b"x" * 94)
    dropped = writer.dropped
    assert dropped > 100
    before = os.read(reading, 65536)
    writer.write(b"awake")
    lines = (before + os.read(reading, 65536)).splitlines()
    assert lines[-1] == b"awake"
    assert lines[-2] == b"(%d lines were dropped because nobody read them)" % dropped
    assert [int(line[:4]) for line in lines[:-2]] == list(range(200 - dropped)), "the rest are whole and in order"


def test_a_reader_that_is_gone_is_no_error(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    os.close(reading)
    writer = LineWriter(writing)
    writer.write(b"nobody hears this")
    writer.write(b"nor this")
    assert writer.dropped == 0


def test_a_log_line_has_time_level_and_node(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    reading, writing = pipe
    monkeypatch.setattr("quorate.server.output.STDERR", writing)
    handler = LogHandler("n1")
    record = logging.LogRecord("quorate", logging.WARNING, "", 0, "two\nlines of %s", ("text",), None)
    record.created, record.msecs = 1_500_000_000.25, 250.0
    handler.emit(record)
    assert os.read(reading, 4096) == b"02:40:00.250Z warning n1  two lines of text\n"


def test_a_log_line_for_machines_has_the_id_of_its_request(
    pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    reading, writing = pipe
    monkeypatch.setattr("quorate.server.output.STDERR", writing)
    record = logging.LogRecord("quorate.http", logging.WARNING, "", 0, "two\nlines of %s", ("text",), None)
    record.created, record.msecs = 1_500_000_000.25, 250.0
    record.request_id = "r-7"
    LogHandler("n1", as_json=True).emit(record)
    assert json.loads(os.read(reading, 4096)) == {
        "time": "2017-07-14T02:40:00.250Z",
        "level": "warning",
        "node": "n1",
        "logger": "quorate.http",
        "message": "two\nlines of text",
        "request_id": "r-7",
    }
    LogHandler("n1").emit(record)
    assert os.read(reading, 4096).endswith(b"two lines of text (request r-7)\n")
