"""Quorate: an always-writable, Dynamo-style key-value store.

``quorate.connect`` opens a synchronous client, ``quorate.aio.connect`` an asynchronous one.
ARCHITECTURE.md has the reading path through the layers.
"""

__version__ = "0.1.0"
