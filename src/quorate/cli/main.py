"""The `quorate` command: a group whose commands are imported only when they are called.

`quorate get` in a shell loop pays for what it uses: the table below holds names and one-line helps, so neither rich
nor the storage engine nor the server is imported for `--help` or for a read.

Errors end here. Whatever was raised on purpose becomes one message on stderr and the exit code of its kind; a
traceback means a bug.
"""

from __future__ import annotations

import difflib
import importlib
import json
import signal
import sys
from typing import Any, NoReturn

import click

from quorate._compiled import BUILD
from quorate._process import turn_stdout_to_nowhere
from quorate.cli.exit_codes import ERROR, INTERRUPTED, Ended, exit_code
from quorate.core.errors import QuorateError

COMMANDS: dict[str, tuple[str, str]] = {
    "up": ("up", "Run a whole cluster on this machine; Ctrl-C stops it cleanly."),
    "start": ("start", "Run one node, or all workers of one host."),
    "status": ("show", "What every node says about itself, and how it is seen."),
    "staleness": ("staleness", "How soon reads see writes, for every r and w."),
    "members": ("members", "Who belongs to the cluster, and who would like to."),
    "ring": ("ring", "Who owns how much of the ring."),
    "where": ("show", "Which replicas hold a key, and what each holds right now."),
    "transfers": ("transfers", "The change of membership that is under way."),
    "join": ("membership", "Take a node into the cluster."),
    "leave": ("membership", "Let a node go."),
    "replace": ("membership", "Let another node take a node's place."),
    "weight": ("membership", "Change how much a node carries."),
    "abort": ("membership", "Take back the change that is under way."),
    "force": ("force", "Go on without a majority that is lost for good."),
    "hints": ("hints", "Writes that nodes keep for others that cannot be reached."),
    "repair": ("repair", "Verify and compare all replicas now, and repair what differs."),
    "put": ("values", "Store a value."),
    "get": ("values", "Print a value."),
    "delete": ("values", "Delete a key."),
    "keys": ("values", "List the keys of a bucket."),
    "bucket": ("bucket", "Show and set the properties of buckets."),
    "import": ("transfer", "Load a JSON Lines or CSV file into a bucket."),
    "export": ("transfer", "Write a bucket to a JSON Lines file."),
    "bench": ("bench", "Measure throughput and latency of a cluster."),
    "sim": ("sim_command", "Simulate whole clusters with faults, and check what they did."),
}
"""Command → (module of this package, one-line help). The module's attribute is `<command>_command`."""


class LazyGroup(click.Group):
    def list_commands(self, _ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, _ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"quorate.cli.{COMMANDS[name][0]}")
        command: click.Command = getattr(module, f"{name}_command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """As in click, but a mistyped command is answered with those that are like it."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            near = difflib.get_close_matches(args[0], COMMANDS, n=2)
            meant = f" Did you mean {' or '.join(repr(name) for name in near)}?" if near else ""
            ctx.fail(f"No such command {args[0]!r}.{meant}")
        return super().resolve_command(ctx, args)

    def format_commands(self, _ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="quorate", message=f"%(prog)s %(version)s ({BUILD})")
def cli() -> None:
    """Quorate: an always-writable key-value store.

    Start with `quorate up`, then `quorate put carts alice '{"milk": 1}'` and `quorate get carts alice`.

    \b
    Exit codes: 0 ok, 1 error, 2 usage, 3 siblings found, 4 not found, 5 unavailable, 6 outcome unknown.
    """


def main(arguments: list[str] | None = None) -> NoReturn:
    """Entry point: run a command and exit with its code."""
    sys.exit(run(sys.argv[1:] if arguments is None else arguments))


def run(arguments: list[str]) -> int:
    """Run a command; returns its exit code and has printed its error, if any, on stderr."""
    try:
        result: Any = cli.main(args=arguments, prog_name="quorate", standalone_mode=False)
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return INTERRUPTED
    except Ended as end:
        return end.code
    except QuorateError as error:
        report(error, as_json="--json" in arguments)
        return exit_code(error)
    except BrokenPipeError:
        return _reader_went_away()
    return result if isinstance(result, int) else 0


def report(error: QuorateError, as_json: bool) -> None:
    """Say what went wrong, on stderr."""
    if as_json:
        kind = type(error).__name__
        click.echo(json.dumps({"error": str(error), "kind": kind, "exit_code": exit_code(error)}), err=True)
    else:
        click.secho("error: ", fg="red", bold=True, nl=False, err=True)
        click.echo(str(error), err=True)


def _reader_went_away() -> int:
    """`quorate keys b | head` is no failure of ours: end as other tools do, without a word."""
    try:
        turn_stdout_to_nowhere()
    except (OSError, ValueError):
        return ERROR
    return 128 + signal.SIGPIPE


if __name__ == "__main__":
    main()
