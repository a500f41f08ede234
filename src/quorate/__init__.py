"""Quorate: an always-writable, Dynamo-style key-value store.

``quorate.connect`` opens a synchronous client, ``quorate.aio.connect`` an asynchronous one.
ARCHITECTURE.md has the reading path through the layers.

The public names are looked up when they are first used, so that a node, which imports the same package, never loads
the client.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from quorate import _compiled as _compiled  # Before any other module of the package: it decides how they are loaded.

if TYPE_CHECKING:
    from quorate import aio
    from quorate.client.synchronous import Bucket, Client, connect
    from quorate.client.values import Codec, Got, Sibling
    from quorate.core.errors import CallerError, OutcomeUnknown, Overloaded, QuorateError, SiblingsError, Unavailable

__version__ = "0.1.0"

__all__ = [
    "Bucket",
    "CallerError",
    "Client",
    "Codec",
    "Got",
    "OutcomeUnknown",
    "Overloaded",
    "QuorateError",
    "Sibling",
    "SiblingsError",
    "Unavailable",
    "aio",
    "connect",
]

_HOMES = {
    "quorate.client.synchronous": ("Bucket", "Client", "connect"),
    "quorate.client.values": ("Codec", "Got", "Sibling"),
    "quorate.core.errors": (
        "CallerError",
        "OutcomeUnknown",
        "Overloaded",
        "QuorateError",
        "SiblingsError",
        "Unavailable",
    ),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name == "aio":
        return import_module("quorate.aio")
    if name not in _HOME_OF:
        raise AttributeError(f"module 'quorate' has no attribute '{name}'")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
