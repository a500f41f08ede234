"""Codecs: what is stored for which object, and that it comes back equal."""

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from quorate.client.values import Got, decode_value, encode_value, got_of_reply, merged_value
from quorate.core.errors import CallerError, PeerError, SiblingsError

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(codec="utf-8")),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(json_values)
def test_json_values_come_back_equal(value: Any) -> None:
    data, kind = encode_value(value, None, None)
    assert isinstance(data, bytes)
    assert decode_value(data, kind, None) == value


@given(st.binary())
def test_bytes_pass_through(value: bytes) -> None:
    assert encode_value(value, None, None) == (value, "")
    assert decode_value(value, "", None) == value
    assert decode_value(value, "application/octet-stream", None) == value
    assert decode_value(value, "image/png", None) == value


def test_content_types() -> None:
    assert encode_value("Käse", None, None) == ("Käse".encode(), "text/plain; charset=utf-8")
    assert encode_value({"a": 1}, None, None) == (b'{"a":1}', "application/json")
    assert encode_value({"a": 1}, "application/vnd.cart+json", None) == (b'{"a":1}', "application/vnd.cart+json")
    assert decode_value(b'{"a":1}', "application/vnd.cart+json", None) == {"a": 1}
    assert decode_value(b"[1]", "Application/JSON; charset=utf-8", None) == [1]
    assert decode_value("é".encode("latin-1"), 'text/plain; charset="iso-8859-1"', None) == "é"
    assert encode_value(b"\x89PNG", "image/png", None) == (b"\x89PNG", "image/png")


@pytest.mark.parametrize(
    "value", [float("nan"), {"a": float("inf")}, object(), {1, 2}, {"a": object()}, "\ud800", ["\ud800"]]
)
def test_what_cannot_be_stored_is_refused_rather_than_changed(value: Any) -> None:
    with pytest.raises(CallerError):
        encode_value(value, None, None)


def test_a_list_that_holds_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(CallerError):
        encode_value(endless, None, None)


@pytest.mark.parametrize("content_type", ["a\r\nb", "x" * 128, "text/ä"])
def test_a_bad_content_type_is_refused(content_type: str) -> None:
    with pytest.raises(CallerError, match="content type"):
        encode_value(b"", content_type, None)


@pytest.mark.parametrize(
    ("data", "content_type"),
    [
        (b"{", "application/json"),
        (b"\xff", "text/plain"),
        (b"a", "text/plain; charset=klingon"),
        (b"[" * 99_999, "application/json"),
    ],
)
def test_bytes_that_are_not_what_they_claim_are_reported(data: bytes, content_type: str) -> None:
    with pytest.raises(CallerError, match="not valid"):
        decode_value(data, content_type, None)


class Pickled:
    def encode(self, value: Any) -> tuple[bytes, str]:
        return pickle.dumps(value), "application/x-pickle"

    def decode(self, data: bytes, content_type: str) -> Any:
        assert content_type == "application/x-pickle"
        return pickle.loads(data)


def test_a_codec_takes_over() -> None:
    data, kind = encode_value({1, 2}, None, Pickled())
    assert decode_value(data, kind, Pickled()) == {1, 2}


def rows(*values: bytes) -> list[Any]:
    return [[value, b"application/json", 1_700_000_000_123] for value in values]


def test_got_nothing_one_and_several() -> None:
    nothing, one, two = (got_of_reply([b"ctx", rows(*values)], None) for values in ([], [b"0"], [b"[1]", b"[2]"]))
    assert not nothing and nothing.value is None and nothing.siblings == [] and nothing.context == "ctx"
    assert one and one.value == 0, "a falsy value is a value"
    assert two and len(two) == 2
    with pytest.raises(SiblingsError, match="2 concurrent values"):
        _ = two.value
    assert [sibling.value for sibling in two.siblings] == [[1], [2]]
    assert one.siblings[0].last_modified.isoformat() == "2023-11-14T22:13:20.123000+00:00"
    assert one.siblings[0].data == b"0" and one.siblings[0].content_type == "application/json"


def test_merging() -> None:
    two: Got = got_of_reply([b"ctx", rows(b"[1]", b"[2]")], None)
    assert merged_value(two, lambda a, b: a + b) == [1, 2]
    with pytest.raises(SiblingsError):
        merged_value(two, None)
    assert merged_value(got_of_reply([b"ctx", rows(b"7")], None), None) == 7
    assert merged_value(got_of_reply([b"ctx", []], None), None) is None


@pytest.mark.parametrize(
    "reply",
    [
        [],
        [b"c"],
        [b"c", 5],
        [b"c", [5]],
        [b"c", [[b"v", b"t"]]],
        [b"c", [[None, b"t", 1]]],
        [None, []],
        [b"\xff", []],
        [b"c", [[b"v", b"t", b"1"]]],
    ],
)
def test_a_reply_of_another_shape_is_the_nodes_fault(reply: list[Any]) -> None:
    with pytest.raises(PeerError):
        got_of_reply(reply, None)
