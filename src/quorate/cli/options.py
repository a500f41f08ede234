"""Options that commands share, and how bytes from the command line are read."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any, TypeVar

import click

from quorate.core.keyspace import check_bucket_name, check_key
from quorate.core.limits import REQUEST_TIMEOUT_MAX_MS

NODE_DEFAULT = "127.0.0.1:7401"
F = TypeVar("F", bound=Callable[..., Any])


def json_option(function: F) -> F:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for scripts.")(function)


def node_options(function: F) -> F:
    """--node, --password, --json: what every command needs that talks to a running node."""
    function = json_option(function)
    function = click.option(
        "--password", envvar="QUORATE_PASSWORD", help="Password of the cluster.  [env: QUORATE_PASSWORD]"
    )(function)
    return click.option(
        "--node",
        envvar="QUORATE_NODE",
        default=NODE_DEFAULT,
        metavar="HOST:CLIENTPORT",
        help=f"Any node of the cluster.  [env: QUORATE_NODE; default: {NODE_DEFAULT}]",
    )(function)


def timeout_option(function: F) -> F:
    return click.option(
        "--timeout-ms",
        type=click.IntRange(1, REQUEST_TIMEOUT_MAX_MS),
        help="Give the request up after this long.",
    )(function)


def bucket_bytes(text: str) -> bytes:
    """The bucket that a person typed; raises `CallerError`."""
    bucket = os.fsencode(text)
    check_bucket_name(bucket)
    return bucket


def key_bytes(text: str) -> bytes:
    """The key that a person typed, as the bytes that the shell passed; raises `CallerError`."""
    key = os.fsencode(text)
    check_key(key)
    return key


def write_bytes(body: bytes) -> None:
    """Raw bytes to stdout, in order with everything printed before."""
    stream = sys.stdout
    stream.flush()
    binary = getattr(stream, "buffer", None)
    if binary is None:
        stream.write(body.decode("utf-8", "surrogateescape"))
    else:
        binary.write(body)
        binary.flush()
