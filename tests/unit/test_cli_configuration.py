"""What a person may configure, and how a mistake is answered."""

from __future__ import annotations

from pathlib import Path

import pytest

from quorate.cli.start import start_command
from quorate.core.errors import StartupError
from quorate.server.addresses import is_loopback, parse_address
from quorate.server.configuration import (
    NodeConfiguration,
    check_advertised,
    check_exposure,
    decode_secret,
    load_configuration,
)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_flags_override_the_file(tmp_path: Path) -> None:
    path = write(tmp_path / "n.toml", 'name = "n4"\nweight = 2\nengine = "memory"\n')
    configuration = load_configuration(path, {"weight": 3, "zone": None})
    assert (configuration.name, configuration.weight, configuration.engine) == ("n4", 3, "memory")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('nmae = "n4"', r"unknown configuration key 'nmae' \(did you mean 'name'\?\) in .*n.toml"),
        ("a = 1\nb = 2", "unknown configuration keys 'a', 'b'"),
        ("weight = 'heavy'", "Expected `int`.*weight"),
        ("weight = 0", "weight must be from 1 to 1000; got 0"),
        ("engine = 'bolt'", "Invalid enum value 'bolt'"),
        ("client_listen = '7401'", "client_listen: '7401' is not an address"),
        ("peer_advertise = 'a:99999'", "peer_advertise: .*no port between"),
        ("partitions = 1000", "a power of two from 1 to 16384; got 1000"),
        ("value_bytes_max = 1", "value_bytes_max must be from 1024 to"),
        ("cache_bytes_max = 1000", "cache_bytes_max must be at least 25165824, or 0 for a share"),
        ("secret = 'short'", "the cluster secret has 5 bytes and needs at least 16"),
        ("join = 'n1'", "join: 'n1' is not an address"),
        ("join = '127.0.0.1:7601'\ngrace_s = 60", "settled when a cluster is made"),
        (f"zone = '{'z' * 256}'", "a node's zone has at most 255 printable characters"),
        ("this is not toml", "is not valid TOML"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        load_configuration(write(tmp_path / "n.toml", text), {})


def test_a_member_to_join_may_stand_in_the_file_and_on_the_command_line(tmp_path: Path) -> None:
    path = write(tmp_path / "n.toml", 'join = "10.0.0.1:7601"\n')
    assert load_configuration(path, {}).join == "10.0.0.1:7601"
    assert load_configuration(path, {"join": "10.0.0.2:7601"}).join == "10.0.0.2:7601"


def test_the_secret_may_come_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A flag would show it to whoever lists processes."""
    seen: list[NodeConfiguration] = []
    monkeypatch.setattr("quorate.server.process.run_node", lambda settings, attached, supervised: seen.append(settings))
    path = write(tmp_path / "n.toml", 'secret = "from the file, long"\n')
    assert start_command.callback is not None
    monkeypatch.delenv("QUORATE_SECRET", raising=False)
    start_command.callback(path, attached=False, supervised=False, as_json=False)
    monkeypatch.setenv("QUORATE_SECRET", "from outside, long")
    start_command.callback(path, attached=False, supervised=False, as_json=False)
    assert [settings.secret for settings in seen] == ["from the file, long", "from outside, long"]


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"cannot read configuration .*absent.toml: no such file"):
        load_configuration(tmp_path / "absent.toml", {})


def test_addresses() -> None:
    assert parse_address("127.0.0.1:7401") == ("127.0.0.1", 7401)
    assert parse_address("[::1]:7401") == ("::1", 7401)
    for text in ("", ":1", "host", "host:", "host:x", "host:0", "host:-1", "host:²"):
        with pytest.raises(StartupError):
            parse_address(text)
    assert is_loopback("127.0.0.53") and is_loopback("::1") and is_loopback("localhost")
    assert not is_loopback("0.0.0.0") and not is_loopback("10.0.0.1") and not is_loopback("example.org")


def test_others_can_reach_a_listener_only_with_authentication() -> None:
    open_listen = {"client": "0.0.0.0:7401", "peer": "127.0.0.1:7601"}
    with pytest.raises(StartupError, match=r"client 0.0.0.0:7401 without a password and a cluster secret"):
        check_exposure(open_listen, "", b"", False)
    with pytest.raises(StartupError, match="without a password: anyone"):
        check_exposure(open_listen, "", b"s" * 16, False)
    assert check_exposure(open_listen, "password", b"s" * 16, False) is None
    assert check_exposure({"client": "127.0.0.1:7401"}, "", b"", False) is None
    assert "INSECURE" in (check_exposure(open_listen, "", b"s" * 16, True) or "")


def test_a_wildcard_is_not_told_to_others() -> None:
    with pytest.raises(StartupError, match="set client_advertise"):
        check_advertised("0.0.0.0:7401", "", "client")
    assert check_advertised("0.0.0.0:7401", "10.0.0.1:7401", "client") == "10.0.0.1:7401"
    assert check_advertised("10.0.0.1:7401", "", "client") == "10.0.0.1:7401"


def test_secrets_are_hexadecimal_or_text() -> None:
    assert decode_secret("00" * 16) == bytes(16)
    assert decode_secret("correct horse battery") == b"correct horse battery"
    assert decode_secret("") == b""
