"""put, get, delete, keys: one value at a time, from a shell.

Outputs are made for pipes: `get` writes the value and nothing else to stdout, `put` and `delete` write the context
and nothing else; what is only of interest to people goes to stderr.
"""

from __future__ import annotations

import json
import mimetypes
import sys
from pathlib import Path
from typing import IO, Any

import click

from quorate.cli.documents import key_fields, sibling_fields
from quorate.cli.exit_codes import SIBLINGS, Ended, NotFound
from quorate.cli.link import Link
from quorate.cli.options import bucket_bytes, key_bytes, node_options, timeout_option, write_bytes
from quorate.core.buckets import TTL_S_MAX
from quorate.core.errors import CallerError
from quorate.core.keyspace import canonical_name
from quorate.core.limits import COMMAND_BYTES_MAX, LIST_PAGE_KEYS_MAX

TEXT_TYPE = "text/plain; charset=utf-8"

w_option = click.option(
    "--w", type=click.IntRange(min=1), help="Replicas that must acknowledge.  [default: the bucket's w]"
)
context_option = click.option("--context", help="What you have read and replace: the context that get or put printed.")


@click.command(
    "put",
    epilog="\b\nExamples:\n  quorate put carts alice '{\"milk\": 1}' --type application/json\n"
    "  quorate put photos cat --file cat.jpg\n  CONTEXT=$(quorate put carts alice merged --context $CONTEXT)",
)
@click.argument("bucket")
@click.argument("key")
@click.argument("value", required=False)
@click.option("--file", "source", type=click.File("rb"), help="Read the value from a file, or - for stdin.")
@context_option
@w_option
@click.option("--ttl", type=click.IntRange(0, TTL_S_MAX), help="Seconds until the value expires; 0: never.")
@click.option("--type", "content_type", help="Content type.  [default: by the file's name, else text or bytes]")
@click.option("--strict", is_flag=True, help="Only the key's own replicas count, no stand-ins.")
@timeout_option
@node_options
def put_command(
    bucket: str,
    key: str,
    value: str | None,
    source: IO[bytes] | None,
    context: str | None,
    w: int | None,
    ttl: int | None,
    content_type: str | None,
    strict: bool,
    timeout_ms: int | None,
    node: str,
    password: str | None,
    as_json: bool,
) -> None:
    """Store VALUE under KEY and print its context.

    Without --context the value is concurrent with everything that is there: it becomes a sibling.
    """
    if (value is None) == (source is None):
        raise click.UsageError("give either a VALUE or --file")
    body = _read(source) if source is not None else (value or "").encode("utf-8", "surrogateescape")
    arguments: list[bytes | str | int] = ["KV.PUT", _name(bucket, key), body]
    _add(arguments, "CTX", context)
    _add(arguments, "W", w)
    _add(arguments, "TTL", ttl)
    _add(arguments, "TYPE", content_type or _guess_type(body, source))
    _add(arguments, "TIMEOUT", timeout_ms)
    if strict:
        arguments.append("STRICT")
    with Link(node, password) as link:
        reply = link.command(*arguments, write=True)
    _print_context(reply, bucket, key, as_json)


@click.command(
    "get",
    epilog="\b\nExamples:\n  quorate get carts alice\n  quorate get photos cat > cat.jpg\n"
    "  quorate get carts alice --json | jq -r .context",
)
@click.argument("bucket")
@click.argument("key")
@click.option("--r", type=click.IntRange(min=1), help="Replicas that must answer.  [default: the bucket's r]")
@timeout_option
@node_options
def get_command(
    bucket: str, key: str, r: int | None, timeout_ms: int | None, node: str, password: str | None, as_json: bool
) -> None:
    """Print the value of KEY.

    If there are several concurrent ones, print all of them with their context as JSON and exit with 3.
    """
    with Link(node, password) as link:
        context, rows = _get(link, _name(bucket, key), r, timeout_ms)
    if len(rows) > 1:
        siblings = [sibling_fields(row) for row in rows]
        _print_json({"bucket": bucket, "key": key, "context": context, "siblings": siblings})
        click.echo(
            f"{len(rows)} concurrent values; settle them with: quorate put {bucket} {key} MERGED --context CONTEXT",
            err=True,
        )
        raise Ended(SIBLINGS)
    if not rows:
        if as_json:
            _print_json({"bucket": bucket, "key": key, "context": context, "siblings": []})
        raise NotFound(f"{bucket}/{key} holds no value")
    if as_json:
        _print_json({"bucket": bucket, "key": key, "context": context, **sibling_fields(rows[0])})
        return
    write_bytes(rows[0][0])
    if sys.stdout.isatty():
        click.echo()


@click.command(
    "delete", epilog="\b\nExamples:\n  quorate delete carts alice\n  quorate delete carts alice --context $CONTEXT"
)
@click.argument("bucket")
@click.argument("key")
@context_option
@w_option
@timeout_option
@node_options
def delete_command(
    bucket: str,
    key: str,
    context: str | None,
    w: int | None,
    timeout_ms: int | None,
    node: str,
    password: str | None,
    as_json: bool,
) -> None:
    """Delete KEY: what --context has seen, or else what is there now.

    A value that someone else writes meanwhile stays.
    """
    name = _name(bucket, key)
    with Link(node, password) as link:
        if context is None:
            context, rows = _get(link, name, None, timeout_ms)
            if not rows:
                raise NotFound(f"{bucket}/{key} holds no value")
        arguments: list[bytes | str | int] = ["KV.DEL", name, "CTX", context]
        _add(arguments, "W", w)
        _add(arguments, "TIMEOUT", timeout_ms)
        reply = link.command(*arguments, write=True)
    _print_context(reply, bucket, key, as_json)


@click.command("keys", epilog="\b\nExamples:\n  quorate keys carts\n  quorate keys carts --prefix al --limit 20 --json")
@click.argument("bucket")
@click.option("--prefix", default="", help="Only keys that begin with this.")
@click.option("--limit", type=click.IntRange(min=1), help="Stop after this many.")
@timeout_option
@node_options
def keys_command(
    bucket: str,
    prefix: str,
    limit: int | None,
    timeout_ms: int | None,
    node: str,
    password: str | None,
    as_json: bool,
) -> None:
    """List the keys of BUCKET, one a line, in no particular order.  --json: one JSON object a line."""
    name, left = bucket_bytes(bucket), limit
    cursor = ""
    with Link(node, password) as link:
        while True:
            page = LIST_PAGE_KEYS_MAX if left is None else min(left, LIST_PAGE_KEYS_MAX)
            arguments: list[bytes | str | int] = ["KV.KEYS", name, "LIMIT", page]
            _add(arguments, "PREFIX", prefix.encode("utf-8", "surrogateescape") or None)
            _add(arguments, "CURSOR", cursor or None)
            _add(arguments, "TIMEOUT", timeout_ms)
            next_cursor, keys = link.command(*arguments)
            write_bytes(b"".join(_key_line(key, as_json) for key in keys))
            left = None if left is None else left - len(keys)
            following = (next_cursor or b"").decode()
            if not following or left == 0:
                return
            if following == cursor:
                raise CallerError("the node repeats a page; it may run another version")
            cursor = following


def _get(link: Link, name: bytes, r: int | None, timeout_ms: int | None) -> tuple[str, list[list[Any]]]:
    """(context, rows of value, content type, Unix milliseconds)."""
    arguments: list[bytes | str | int] = ["KV.GET", name]
    _add(arguments, "R", r)
    _add(arguments, "TIMEOUT", timeout_ms)
    context, rows = link.command(*arguments)
    return context.decode(), rows


def _add(arguments: list[bytes | str | int], option: str, value: bytes | str | int | None) -> None:
    if value is not None:
        arguments += [option, value]


def _name(bucket: str, key: str) -> bytes:
    return canonical_name(bucket_bytes(bucket), key_bytes(key))


def _read(source: IO[bytes]) -> bytes:
    """The value in a file; reads no more than a node could take."""
    body = source.read(COMMAND_BYTES_MAX + 1)
    if len(body) > COMMAND_BYTES_MAX:
        raise CallerError(f"the value is larger than any node takes ({COMMAND_BYTES_MAX} bytes)")
    return body


def _guess_type(body: bytes, source: IO[bytes] | None) -> str:
    if source is not None:
        guessed, _ = mimetypes.guess_type(Path(source.name).name)
        if guessed:
            return guessed
    try:
        body.decode("utf-8")
    except UnicodeDecodeError:
        return ""
    return TEXT_TYPE


def _key_line(key: bytes, as_json: bool) -> bytes:
    return json.dumps(key_fields(key), ensure_ascii=False).encode() + b"\n" if as_json else key + b"\n"


def _print_context(reply: bytes, bucket: str, key: str, as_json: bool) -> None:
    context = reply.decode()
    if as_json:
        _print_json({"bucket": bucket, "key": key, "context": context})
    else:
        click.echo(context)


def _print_json(document: Any) -> None:
    write_bytes(json.dumps(document, ensure_ascii=False, indent=1).encode("utf-8", "surrogateescape") + b"\n")
