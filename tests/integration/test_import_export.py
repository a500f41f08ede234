"""import and export against a real cluster that is killed while they work."""

from __future__ import annotations

import json
import random
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ENVIRONMENT, EVENT_TIMEOUT_S, QUORATE, Cluster

pytestmark = pytest.mark.integration

ROWS = 4_000
SLOWLY = ("--batch", "2")
"""So that an import is not done before a test has interrupted it."""
StartImport = Callable[..., subprocess.Popen[bytes]]


def packages(count: int) -> list[dict[str, Any]]:
    """Records like a package index: several fields, most of them short, a few of tens of KB."""
    source = random.Random(7)
    return [
        {
            "Package": f"lib{number}-däta",
            "Version": f"{number}.{source.randrange(100)}",
            "Size": source.randrange(10**12),
            "Depends": [f"lib{source.randrange(count)}" for _ in range(source.randrange(6))],
            "Description": "word " * (8_000 if number % 500 == 0 else source.randrange(120)),
        }
        for number in range(count)
    ]


def write_rows(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def exported(cluster: Cluster, path: Path, node: int) -> dict[str, Any]:
    done = cluster.cli("export", "packages", str(path), node=node)
    assert done.returncode == 0, done.stderr.decode()
    lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert all("siblings" not in line for line in lines), "no row stands beside itself"
    assert {line["content_type"] for line in lines} <= {"application/json"}
    return {line["key"]: line["value"] for line in lines}


def assert_all_exported(cluster: Cluster, path: Path, node: int, rows: list[dict[str, Any]]) -> None:
    """Every row is there, field by field, and nothing else; if not, say which keys, not four thousand rows."""
    held = exported(cluster, path, node)
    expected = {row["Package"]: row for row in rows}
    missing = [f"line {line}: {key}" for line, key in enumerate(expected, start=1) if key not in held]
    assert missing == [], f"{len(missing)} rows are not in the export"
    assert sorted(held.keys() - expected.keys()) == [], "keys that were never written"
    assert [key for key, row in expected.items() if held[key] != row] == [], "rows with other fields"


@pytest.fixture
def start_import() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts an import in the background: (cluster, path, *options). Ends what is still running."""
    started: list[subprocess.Popen[bytes]] = []

    def start(cluster: Cluster, path: Path, *options: str) -> subprocess.Popen[bytes]:
        command = [*QUORATE, "import", "packages", str(path), "--key", "Package", "--json"]
        command += ["--node", cluster.address(), *options]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=ENVIRONMENT))
        return started[-1]

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
            process.communicate()


def wait_for_progress(path: Path, process: subprocess.Popen[bytes], beyond: int = 0) -> int:
    """Wait until the journal has rows beyond a line; gives the line that it is at."""
    journal = path.with_name(path.name + ".quorate-import")
    while True:
        assert process.poll() is None, process.communicate()
        try:
            line = int(json.loads(journal.read_bytes())["line"])
        except (FileNotFoundError, ValueError):
            continue
        if line > beyond:
            return line


def test_what_was_imported_is_exported_field_by_field(cluster: Cluster, tmp_path: Path) -> None:
    rows = packages(ROWS)
    write_rows(tmp_path / "p.jsonl", rows)
    done = cluster.cli("import", "packages", str(tmp_path / "p.jsonl"), "--key", "Package", "--json")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["imported"] == ROWS
    assert_all_exported(cluster, tmp_path / "out.jsonl", 2, rows)
    assert not list(tmp_path.glob("*.quorate-import"))
    # And once more, with other values: rows overwrite, they do not stand beside each other.
    for row in rows:
        row["Version"] += "-2"
    write_rows(tmp_path / "p.jsonl", rows)
    assert cluster.cli("import", "packages", str(tmp_path / "p.jsonl"), "--key", "Package", node=3).returncode == 0
    assert_all_exported(cluster, tmp_path / "out.jsonl", 1, rows)


def test_all_nodes_killed_while_importing_lose_nothing_that_was_acknowledged(
    cluster: Cluster, tmp_path: Path, start_import: StartImport
) -> None:
    """Every node dies at once, twice; the importer waits for them and goes on by itself."""
    rows = packages(ROWS)
    write_rows(tmp_path / "p.jsonl", rows)
    process = start_import(cluster, tmp_path / "p.jsonl", "--batch", "8")
    done_before = 0
    for _ in range(2):
        done_before = wait_for_progress(tmp_path / "p.jsonl", process, beyond=done_before)
        cluster.kill_all()
        process.send_signal(signal.SIGSTOP)  # So that it is not done before the second kill.
        cluster.start()
        held = exported(cluster, tmp_path / "out.jsonl", node=2)
        missing = [row["Package"] for row in rows[:done_before] if row["Package"] not in held]
        assert missing == [], "what the journal calls done is there after a kill of all nodes"
        process.send_signal(signal.SIGCONT)
    out, err = process.communicate(timeout=EVENT_TIMEOUT_S)
    assert process.returncode == 0, err.decode()
    assert json.loads(out)["imported"] == ROWS
    assert_all_exported(cluster, tmp_path / "out.jsonl", 3, rows)


def test_an_importer_that_is_killed_resumes(cluster: Cluster, tmp_path: Path, start_import: StartImport) -> None:
    rows = packages(ROWS)
    write_rows(tmp_path / "p.jsonl", rows)
    process = start_import(cluster, tmp_path / "p.jsonl", *SLOWLY)
    wait_for_progress(tmp_path / "p.jsonl", process)
    process.kill()
    process.communicate()
    done = cluster.cli("import", "packages", str(tmp_path / "p.jsonl"), "--key", "Package", "--json", node=2)
    assert done.returncode == 0, done.stderr.decode()
    assert b"resuming after line" in done.stderr
    assert json.loads(done.stdout)["imported"] == ROWS
    assert_all_exported(cluster, tmp_path / "out.jsonl", 3, rows)


def test_an_interrupted_importer_says_where_it_is(cluster: Cluster, tmp_path: Path, start_import: StartImport) -> None:
    write_rows(tmp_path / "p.jsonl", packages(ROWS))
    process = start_import(cluster, tmp_path / "p.jsonl", *SLOWLY)
    wait_for_progress(tmp_path / "p.jsonl", process)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=EVENT_TIMEOUT_S)
    assert (process.returncode, out) == (130, b"")
    told = [line for line in err.decode().splitlines() if line]
    assert told[0].endswith("run the same command again to go on from there")
    assert told[1:] == ["interrupted"]


def test_an_importer_without_a_cluster_stops_with_5_and_keeps_its_journal(
    cluster: Cluster, tmp_path: Path, start_import: StartImport
) -> None:
    rows = packages(ROWS)
    write_rows(tmp_path / "p.jsonl", rows)
    process = start_import(cluster, tmp_path / "p.jsonl", "--patience", "1", *SLOWLY)
    wait_for_progress(tmp_path / "p.jsonl", process)
    cluster.kill_all()
    _, err = process.communicate(timeout=EVENT_TIMEOUT_S)
    assert process.returncode == 5, err.decode()
    assert b"run the same command again to go on from there" in err
    cluster.start()
    done = cluster.cli("import", "packages", str(tmp_path / "p.jsonl"), "--key", "Package")
    assert done.returncode == 0, done.stderr.decode()
    assert_all_exported(cluster, tmp_path / "out.jsonl", 3, rows)


def test_rejected_rows_are_reported_and_the_rest_goes_in(shared_cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    large = json.dumps({"id": "large", "text": "x" * (8 * 1024 * 1024)})
    path.write_text(f'{{"id": "a"}}\nbroken\n{{"name": "b"}}\n{large}\n{{"id": "z"}}\n')
    done = shared_cluster.cli("import", "mixed", str(path), "--key", "id")
    assert done.returncode == 1
    assert b"imported 2 rows from 5 lines" in done.stdout
    told = done.stderr.decode()
    assert "line 2: not valid JSON" in told
    assert "line 3: no field 'id'" in told
    assert "line 4: a value has at most 8388608 bytes" in told
    report = [json.loads(line)["line"] for line in (tmp_path / "mixed.jsonl.rejects.jsonl").read_text().splitlines()]
    assert report == [2, 3, 4]
    assert shared_cluster.cli("get", "mixed", "z").stdout == b'{"id": "z"}'


def test_csv(shared_cluster: Cluster, tmp_path: Path) -> None:
    path = tmp_path / "people.csv"
    path.write_text('email,name\na@x,"Al\nice"\nb@x,Bob,extra\n', encoding="utf-8")
    done = shared_cluster.cli("import", "people", str(path), "--key", "email")
    assert done.returncode == 1
    assert b"line 4: 3 fields, but the header names 2 columns" in done.stderr
    assert json.loads(shared_cluster.cli("get", "people", "a@x").stdout) == {"email": "a@x", "name": "Al\nice"}
    assert b"there are: email, name" in shared_cluster.cli("import", "people", str(path), "--key", "id").stderr


def test_siblings_bytes_and_odd_keys_are_exported(shared_cluster: Cluster) -> None:
    for value in ("one", "two"):
        assert shared_cluster.cli("put", "odd", "both", value).returncode == 0
    assert shared_cluster.cli("put", "odd", "bytes", "--file", "-", stdin=b"\xff\x00").returncode == 0
    done = shared_cluster.cli("export", "odd", node=2)
    lines = {line["key"]: line for line in map(json.loads, done.stdout.splitlines())}
    assert sorted(sibling["value"] for sibling in lines["both"]["siblings"]) == ["one", "two"]
    assert lines["bytes"]["value_base64"] == "/wA="
