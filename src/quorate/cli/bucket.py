"""bucket list, show, set: what a bucket declares about its keys."""

from __future__ import annotations

import json
from typing import Any

import click

from quorate.cli.link import Link
from quorate.cli.options import bucket_bytes, node_options


@click.group("bucket", epilog="\b\nExample:\n  quorate bucket set carts n=3 r=2 w=2 conflicts=siblings")
def bucket_command() -> None:
    """Show and set the properties of buckets.

    A bucket need not be created: one whose properties were never set has the defaults (n=3 r=2 w=2, siblings).
    """


@bucket_command.command("list", epilog="\b\nExample:\n  quorate bucket list --json")
@node_options
def list_command(node: str, password: str | None, as_json: bool) -> None:
    """List the buckets whose properties were set."""
    with Link(node, password) as link:
        document = link.document("KV.BUCKETS")
    if as_json:
        click.echo(json.dumps(document, indent=1))
        return
    if not document:
        click.echo("no bucket's properties were set; all have the cluster's defaults")
    for name in sorted(document):
        click.echo(f"{name}  {_line(document[name])}")


@bucket_command.command("show", epilog="\b\nExample:\n  quorate bucket show carts")
@click.argument("bucket")
@node_options
def show_command(bucket: str, node: str, password: str | None, as_json: bool) -> None:
    """Show the properties of BUCKET."""
    with Link(node, password) as link:
        _print(link.document("KV.BUCKET", bucket_bytes(bucket)), as_json)


@bucket_command.command(
    "set",
    short_help="Change properties of BUCKET.",
    epilog="\b\nExample:\n  quorate bucket set sessions conflicts=lww ttl=3600",
)
@click.argument("bucket")
@click.argument("properties", nargs=-1, required=True, metavar="NAME=VALUE...")
@node_options
def set_command(bucket: str, properties: tuple[str, ...], node: str, password: str | None, as_json: bool) -> None:
    """Change properties of BUCKET.

    \b
    n=3                 replicas of each key
    r=2  w=2            replicas that must answer a read, acknowledge a write
    conflicts=siblings  concurrent values are all kept; lww: only the one written last is
    ttl=0               seconds until a value expires; 0: never
    durability=os       a write survives a killed process; fsync: a power cut too
    strict=false        a fallback stands in for a replica out of reach; true: never, so a write may fail
    """
    for text in properties:
        if "=" not in text:
            raise click.UsageError(f"a property is written NAME=VALUE, such as r=2; got '{text}'")
    with Link(node, password) as link:
        _print(link.document("KV.BUCKET", bucket_bytes(bucket), *properties), as_json)


def _print(document: dict[str, Any], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        click.echo("\n".join(f"{name}={_shown(value)}" for name, value in document.items() if name != "bucket"))


def _shown(value: Any) -> str:
    """A property's value as `bucket set` takes it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _line(properties: dict[str, Any]) -> str:
    return " ".join(f"{name}={_shown(value)}" for name, value in properties.items())
