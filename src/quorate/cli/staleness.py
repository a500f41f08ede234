"""staleness: how soon a read sees a write that was acknowledged, for every R and W, by what a node has measured.

What is said is rounded so that it never promises more than was measured: shares are cut off and not rounded up, and
one that is too near to 1 to be told from it is "more than" what can be told (`resolution` in the document).
"""

from __future__ import annotations

import json
from math import floor
from typing import Any

import click

from quorate.cli.link import Link
from quorate.cli.options import bucket_bytes, node_options
from quorate.cli.tables import show_table, table_of

SHOWN_MS = (0.0, 1.0, 10.0, 100.0)
_CERTAIN = "every read sees every acknowledged write, unless another node stands in for a replica"


@click.command(
    "staleness", epilog="\b\nExamples:\n  quorate staleness\n  quorate staleness carts --json | jq .configurations"
)
@click.argument("bucket", required=False)
@node_options
def staleness_command(bucket: str | None, node: str, password: str | None, as_json: bool) -> None:
    """Show how soon reads see writes in BUCKET, or where the defaults hold, for its r and w and for all others.

    By what the asked node has measured of its own requests in the last one or two minutes. A share is of reads that any
    replica coordinates; --json also tells of those by other replicas than the one that took the write. What a request
    waits for is the other replicas; the way to the client comes on top. See docs/consistency.md.
    """
    arguments = () if bucket is None else (bucket_bytes(bucket),)
    with Link(node, password) as link:
        document: dict[str, Any] = link.document("KV.STALENESS", *arguments)
    if as_json:
        click.echo(json.dumps(document, indent=1))
    else:
        _print(document)


def staleness_text(document: dict[str, Any]) -> str:
    """One line about the present R and W."""
    quorums = f"n={document['n']} r={document['r']} w={document['w']}"
    if document["r"] + document["w"] > document["n"]:
        return f"{quorums}: {_CERTAIN}"
    if not document["ready"]:
        return f"{quorums}: {document['reason']}"
    found = next((cell for cell in document["configurations"] if cell["current"]), None)
    if found is None:
        return f"{quorums}: there are only {document['replicas']} replicas"
    at_once, soon, later = (_share_at(document, found, after_ms) for after_ms in (0.0, 1.0, 10.0))
    return f"{quorums}: {at_once} of reads fresh at once after the ack, {soon} within 1 ms, {later} within 10 ms"


def _share_at(document: dict[str, Any], cell: dict[str, Any], after_ms: float) -> str:
    return share_text(cell["fresh"][document["times_ms"].index(after_ms)], document["resolution"])


def share_text(share: float, resolution: float) -> str:
    """0.99234 → "99.2%": as many nines as there are and one digit more, and none that was not measured."""
    known = 1.0 - resolution
    if share > known:
        return f">{_cut(known)}"
    return _cut(share)


def _cut(share: float) -> str:
    digits = 0 if share < 0.9 else 1 if share < 0.999 else 2
    scale: int = 10**digits
    return f"{floor(share * 100 * scale + 1e-6) / scale:.{digits}f}%"


def _print(document: dict[str, Any]) -> None:
    measured = document["measured"]
    click.echo(
        f"{document['seen_by']} has timed {measured['writes']} writes and {measured['reads']} reads of others "
        f"in the last {measured['window_s']:.0f} s"
    )
    click.echo(staleness_text(document))
    if not document["ready"]:
        if document["r"] + document["w"] > document["n"]:
            click.echo(f"of other r and w: {document['reason']}")
        return
    times = [f"{after_ms:g} ms" if after_ms else "at once" for after_ms in SHOWN_MS]
    table = table_of("r", "w", *times, "99.9% within", "gets wait", "puts wait")
    for cell in document["configurations"]:
        table.add_row(*_row(document, cell))
    show_table(table)
    click.echo("* as it is now; certain: r + w > n, for as long as no other node stands in for a replica")
    click.echo("what gets and puts wait for other replicas: p50 / p99 / p99.9 in ms")


def _row(document: dict[str, Any], cell: dict[str, Any]) -> list[str]:
    mark = "*" if cell["current"] else ""
    if cell["certain"]:
        fresh = ["certain", *["–"] * len(SHOWN_MS)]
    else:
        fresh = [_share_at(document, cell, after_ms) for after_ms in SHOWN_MS]
        fresh.append(f"{cell['fresh_within_ms']['p999']:.3g} ms")
    return [
        f"{cell['r']}{mark}",
        str(cell["w"]),
        *fresh,
        *(_waits(cell[of]) for of in ("read_wait_ms", "write_wait_ms")),
    ]


def _waits(found: dict[str, float] | None) -> str:
    return "not measured" if found is None else " / ".join(f"{found[name]:.2g}" for name in ("p50", "p99", "p999"))
