"""What the integration tests share beyond clusters of real processes (see `tests/conftest.py`)."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop


@pytest.fixture
def run() -> Callable[[Coroutine[Any, Any, None]], None]:
    """Runs a coroutine on the loop that nodes use."""
    return uvloop.run
