"""The two clients as names: alike, and loaded only when they are asked for."""

import inspect
import subprocess
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import quorate
import quorate.aio
from quorate.client import asynchronous, synchronous
from tests.unit.client_fakes import FakeCluster

Scenario = Callable[[Any, FakeCluster], Awaitable[None]]


def test_both_clients_have_the_same_names_and_arguments() -> None:
    for name in ("Client", "Bucket"):
        one, other = getattr(synchronous, name), getattr(asynchronous, name)
        public = {method for method in vars(one) if not method.startswith("_")}
        assert public == {method for method in vars(other) if not method.startswith("_")}
        for method in public:
            first, second = inspect.signature(getattr(one, method)), inspect.signature(getattr(other, method))
            assert list(first.parameters.values()) == list(second.parameters.values()), method
    assert list(inspect.signature(quorate.connect).parameters.values()) == list(
        inspect.signature(quorate.aio.connect).parameters.values()
    )


def test_importing_the_package_does_not_load_the_client() -> None:
    code = "import sys, quorate; assert not any('quorate.client' in m for m in sys.modules); quorate.connect"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert all(getattr(quorate, name) is not None for name in quorate.__all__)
    with pytest.raises(AttributeError):
        _ = quorate.nothing
