"""Rows of import files: nothing in a file ends an import, and every offset is one to go on from."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quorate.cli import rows as rows_module
from quorate.cli.rows import CsvRows, JsonRows, Rejected, Row, open_rows
from quorate.core.errors import CallerError


def read_json(text: str | bytes, offset: int = 0, line: int = 0) -> list[Row | Rejected]:
    body = text.encode() if isinstance(text, str) else text
    return list(JsonRows(io.BytesIO(body), "id").rows(offset, line))


def read_csv(text: str | bytes, offset: int = 0, line: int = 0) -> list[Row | Rejected]:
    body = text.encode() if isinstance(text, str) else text
    return list(CsvRows(io.BytesIO(body), "id").rows(offset, line))


def summary(rows: list[Row | Rejected]) -> list[tuple[int, str]]:
    return [(row.line, row.key.decode() if isinstance(row, Row) else row.reason) for row in rows]


def test_json_rows_keep_their_bytes() -> None:
    (row,) = read_json('  {"id": "a", "big": 123456789012345678901234567890.50, "id2": 1e400}  \n')
    assert isinstance(row, Row)
    assert (row.key, row.value) == (b"a", b'{"id": "a", "big": 123456789012345678901234567890.50, "id2": 1e400}')


def test_json_mistakes_are_rejected_with_their_lines_and_the_rest_goes_on() -> None:
    text = (
        b'{"id": 7}\n\nnot json\n[1]\n"x"\n{"no": 1}\n{"id": true}\n{"id": null}\n{"id": ""}\n{"id": "%b"}\n'
        b'{"id": "\xff"}\n{"id": "last"}' % (b"k" * 1025)
    )
    found = summary(read_json(text))
    assert [line for line, _ in found] == [1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
    assert found[0] == (1, "7")
    assert found[-1] == (12, "last")
    reasons = [reason for _, reason in found[1:-1]]
    kind = "text or an integer"
    expected = ["not valid JSON", "not a JSON object", "not a JSON object", "no field", kind, kind, "has 0", "1025"]
    for reason, words in zip(reasons, [*expected, "not UTF-8"], strict=True):
        assert words in reason


def test_a_line_without_end_is_skipped_within_bounded_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rows_module, "ROW_BYTES_MAX", 64)
    text = '{"id": "a"}\n' + '{"id": "' + "x" * 500 + '"}\n{"id": "b"}\n'
    assert summary(read_json(text)) == [(1, "a"), (2, "the line is longer than 64 bytes"), (3, "b")]


def test_a_byte_order_mark_is_no_part_of_the_first_row() -> None:
    assert summary(read_json(b'\xef\xbb\xbf{"id": "a"}')) == [(1, "a")]
    assert summary(read_csv(b"\xef\xbb\xbfid,x\na,1\n")) == [(2, "a")]


def test_csv_rows_become_objects() -> None:
    first, second = read_csv('id,name\r\na,"Al\nice, ""A"""\nb,Bé\n')
    assert isinstance(first, Row)
    assert isinstance(second, Row)
    assert (first.line, json.loads(first.value)) == (2, {"id": "a", "name": 'Al\nice, "A"'})
    assert (second.line, json.loads(second.value)) == (4, {"id": "b", "name": "Bé"})


def test_csv_mistakes_cost_a_row_each() -> None:
    text = b'id,name\na,1\nb,"x"y\nc,1,2\nd\n\n\xff,1\n,1\ne,"never closed\nf,1\n'
    found = summary(read_csv(text))
    assert [line for line, _ in found] == [2, 3, 4, 5, 7, 8, 9, 10]
    assert found[0] == (2, "a")
    assert found[-1] == (10, "f")
    for (_, reason), words in zip(
        found[1:-1], ("expected after", "3 fields", "1 fields", "not UTF-8", "has 0", "unexpected end"), strict=True
    ):
        assert words in reason


@pytest.mark.parametrize(
    ("text", "message"),
    [("", "no header"), ("name,x\n", "no column is named 'id'; there are: name, x"), ("id,id\n", "twice: id")],
)
def test_a_csv_without_a_proper_header_is_refused(text: str, message: str) -> None:
    with pytest.raises(CallerError, match=message):
        read_csv(text)


def test_the_name_of_the_file_decides() -> None:
    assert isinstance(open_rows(Path("a.CSV"), io.BytesIO(b"id\n"), "id"), CsvRows)
    assert isinstance(open_rows(Path("a.jsonl"), io.BytesIO(b""), "id"), JsonRows)


lines = st.lists(
    st.one_of(
        st.builds(lambda key: json.dumps({"id": key}), st.text(max_size=5)),
        st.text('{}[]",a1\r', max_size=12),
    ),
    max_size=12,
)


@given(lines, st.sampled_from(["\n", "\r\n"]), st.booleans())
@settings(max_examples=150, deadline=None)
def test_json_resumes_anywhere(written: list[str], end: str, final: bool) -> None:
    """From the end of any row on, the rest is what a reading from the beginning gives."""
    body = (end.join(written) + (end if final else "")).encode()
    whole = read_json(body)
    for index, row in enumerate(whole):
        assert read_json(body, row.end, row.end_line) == whole[index + 1 :]


@given(st.text('ab,"\n\r', max_size=40))
@settings(max_examples=300, deadline=None)
def test_csv_resumes_anywhere(text: str) -> None:
    body = ("id,x\n" + text).encode()
    whole = read_csv(body)
    assert [row.end for row in whole] == sorted(row.end for row in whole)
    for index, row in enumerate(whole):
        assert read_csv(body, row.end, row.end_line) == whole[index + 1 :]


fields = st.text('ab," \n', max_size=6)


@given(st.lists(st.tuples(st.text("kl", min_size=1, max_size=3), fields), max_size=8))
@settings(max_examples=150, deadline=None)
def test_csv_equals_the_plain_reader_on_clean_files(table: list[tuple[str, str]]) -> None:
    """The brute-force twin: what the standard reader makes of the whole text."""
    written = io.StringIO(newline="")
    csv.writer(written).writerows([("id", "x"), *table])
    found = read_csv(written.getvalue())
    assert all(isinstance(row, Row) for row in found)
    assert [tuple(json.loads(row.value).values()) for row in found if isinstance(row, Row)] == table
