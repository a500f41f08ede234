"""start: one node in the foreground."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click

from quorate.core.limits import WORKERS_MAX
from quorate.server.configuration import load_configuration
from quorate.server.worker_directory import WORKERS_FILE


@click.command(
    "start",
    epilog="\b\nExamples:\n  quorate start --data ./n1\n"
    "  quorate start --data quorate-data/n2                    a node of `quorate up`, by itself\n"
    "  quorate start --name n2 --data /srv/n2 --cluster cluster.json --config n2.toml\n"
    "  quorate start --name n4 --data /srv/n4 --cluster cluster.json --join 10.0.0.1:7601\n"
    "  quorate start --name n4 --workers 4 --data /srv/n4 --config n4.toml --join 10.0.0.1:7601",
)
@click.option("--name", help="The node's name.")
@click.option("--data", help="The node's data directory.")
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="Settings, in TOML; flags override it.")
@click.option("--cluster", metavar="FILE", help="A cluster's founding file: gives a new directory its membership.")
@click.option(
    "--join", metavar="HOST:PORT", help="Join a new node to the cluster of the member with this peer address."
)
@click.option("--client-listen", metavar="HOST:PORT", help="Listen for clients here.")
@click.option(
    "--http-listen", metavar="HOST:PORT", help="Listen for HTTP here.  [default: 127.0.0.1, client port + 100]"
)
@click.option("--peer-listen", metavar="HOST:PORT", help="Listen for other nodes here.")
@click.option("--client-advertise", metavar="HOST:PORT", help="Where clients reach it, if that is another address.")
@click.option("--http-advertise", metavar="HOST:PORT", help="Where HTTP reaches it, if that is another address.")
@click.option(
    "--http-host",
    "http_hosts",
    multiple=True,
    metavar="NAME",
    help="Another name that HTTP may ask for it by.",
)
@click.option("--peer-advertise", metavar="HOST:PORT", help="Where nodes reach it, if that is another address.")
@click.option("--host", help="Which machine it is on: replicas of a key avoid sharing one.  [default: its name]")
@click.option("--zone", help="Which zone it is in.")
@click.option("--weight", type=int, help="Its share of the data, relative to other nodes.")
@click.option(
    "--workers",
    type=click.IntRange(1, WORKERS_MAX),
    help="Run so many members of one host, for several cores.  [default: as the directory has, or 1]",
)
@click.option("--password", envvar="QUORATE_PASSWORD", help="What clients must know.  [env: QUORATE_PASSWORD]")
@click.option("--engine", type=click.Choice(["rocksdb", "memory"]), help="Where data is kept.  [default: rocksdb]")
@click.option("--partitions", type=int, help="Partitions of a new cluster, a power of two.  [default: 1024]")
@click.option("--grace", "grace_s", type=int, metavar="SECONDS", help="Of a new cluster: see `quorate up --help`.")
@click.option("--log-format", type=click.Choice(["text", "json"]), help="How log lines are written.  [default: text]")
@click.option("--insecure", is_flag=True, default=None, help="Listen for other machines without authentication.")
@click.option("--attached", is_flag=True, hidden=True, help="Stop when stdin ends; report peers on stdout.")
@click.option("--supervised", is_flag=True, hidden=True, help="The parent answers what clients ask of local nodes.")
@click.option("--json", "as_json", is_flag=True, hidden=True, help="Events are JSON anyway.")
def start_command(config: Path | None, attached: bool, supervised: bool, as_json: bool, **flags: Any) -> int:
    """Run one node until Ctrl-C or SIGTERM.

    A data directory that has been used resumes as the node that it is. A new one takes its membership from --cluster,
    or becomes a new cluster of one node. With --join it waits until `quorate join NAME` is run at any member; that
    takes the cluster's secret, from --cluster (any member's cluster.json), `secret` in --config, or QUORATE_SECRET.

    With --workers K it runs K members n4.1, n4.2, … of one host, each a process with a directory of its own in --data
    and ports that follow those given. They stop together; one that ends is reported, and the others go on.

    Prints one JSON line on stdout when it is ready; its log goes to stderr.
    """
    flags["http_hosts"] = list(flags.get("http_hosts") or ()) or None
    # No flag: others see command lines.
    flags["secret"] = os.environ.get("QUORATE_SECRET") or None
    configuration = load_configuration(config, flags)
    if configuration.workers > 1 or (configuration.data and (Path(configuration.data) / WORKERS_FILE).exists()):
        from quorate.cli.worker_host import has_workers, run_host  # noqa: PLC0415 - one node does without

        if has_workers(configuration):
            return run_host(configuration, config, flags)
    # Imported late: a mistake in the configuration is answered without loading the engine.
    from quorate.server.process import run_node  # noqa: PLC0415

    return run_node(configuration, attached, supervised=supervised)
