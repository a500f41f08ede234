"""The files of the dashboard, read once from the package.

They are served as they are in the source: no build step, nothing from elsewhere. One flat folder, so that a name is
either one of its files or nothing: no path is ever made of what somebody asks for.
"""

from __future__ import annotations

from importlib.resources import files

import msgspec
from xxhash import xxh3_64_hexdigest

CONTENT_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}


class Asset(msgspec.Struct, frozen=True):
    """One file, as it is served."""

    body: bytes
    content_type: str
    etag: str
    """With its quotes. It changes with the content."""


def load_assets() -> dict[str, Asset]:
    """All files by their names; the page itself also by the empty one."""
    found: dict[str, Asset] = {}
    for file in files("quorate.dashboard").joinpath("static").iterdir():
        content_type = CONTENT_TYPES.get(file.name.rpartition(".")[2])
        if content_type is not None:
            body = file.read_bytes()
            found[file.name] = Asset(body, content_type, f'"{xxh3_64_hexdigest(body)}"')
    found[""] = found["index.html"]
    return found
