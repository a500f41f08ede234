"""Where a node listens for HTTP, if it is told, and if it is not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from quorate.core.errors import StartupError
from quorate.server.configuration import load_configuration
from quorate.server.data_directory import DataDirectory
from quorate.server.founding import Standing, establish, settle

SECRET = "a secret of more than sixteen bytes"


def standing(path: Path, **flags: Any) -> Standing:
    """What a start with `flags` settles; the directory is the node's from then on."""
    directory = DataDirectory.open(path)
    try:
        found = settle(load_configuration(None, {"data": str(path), **flags}), directory)
        establish(found, directory)
        return found
    finally:
        directory.close()


@pytest.mark.parametrize(
    ("flags", "listen"),
    [
        ({}, "127.0.0.1:7501"),
        ({"client_listen": "127.0.0.1:7404"}, "127.0.0.1:7504"),
        ({"client_listen": "127.0.0.1:65535"}, "127.0.0.1:7501"),
        ({"client_listen": "127.0.0.1:7404", "http_listen": "127.0.0.1:8080"}, "127.0.0.1:8080"),
        ({"client_listen": "10.0.0.1:7404", "password": "p", "secret": SECRET}, "127.0.0.1:7504"),
    ],
)
def test_http_follows_the_client_port_on_loopback(tmp_path: Path, flags: dict[str, Any], listen: str) -> None:
    first = standing(tmp_path, **flags)
    assert first.listen["http"] == first.own.http_address == listen
    if "password" not in flags:
        assert standing(tmp_path).listen["http"] == listen, "and stays there"


def test_http_is_exposed_only_with_authentication(tmp_path: Path) -> None:
    exposed = {"http_listen": "0.0.0.0:7501", "http_advertise": "node1.example:7501"}
    with pytest.raises(StartupError, match=r"refusing to listen on http 0\.0\.0\.0:7501"):
        standing(tmp_path, **exposed)
    with pytest.raises(StartupError, match="set http_advertise"):
        standing(tmp_path, http_listen="0.0.0.0:7501", password="p", secret=SECRET)
    assert standing(tmp_path, **exposed, password="p", secret=SECRET).own.http_address == "node1.example:7501"


@pytest.mark.parametrize("name", ["", "a:80", "http://a", "a b", "x" * 300])
def test_names_of_hosts_are_checked(name: str) -> None:
    assert load_configuration(None, {"http_hosts": ["proxy.example"]}).http_hosts == ["proxy.example"]
    with pytest.raises(StartupError, match="http_hosts"):
        load_configuration(None, {"http_hosts": [name]})
