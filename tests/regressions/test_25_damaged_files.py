"""Hard case 25, the data directory of a real node: damage to any file is noticed, and a start says what it found.

First seen in riak_core#190 and riak_kv#1120 (a ring file that could not be read was taken for none, or the node
restarted for ever). A node takes some writes, with durability `os` and with `fsync`, and is killed. Then each file that
says who it is is cut off at every offset, a bit is flipped in every byte, and what a start would do is done. It is the
node that it was, or refuses with a message that names the file and the next step; it never begins a new life, least of
all as a cluster of its own (hard case 26). The same is done to its log, and to some of its files with real starts.
The other files of a store are tried in `test_25_damaged_store.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import quorate
from quorate.adapters.storage.rocksdb import RocksDbEngine
from quorate.core.envelope import unpack
from quorate.core.errors import StartupError
from quorate.core.ports import Space
from quorate.core.record import decode_record
from quorate.node.documents import opened
from quorate.server.configuration import NodeConfiguration
from quorate.server.data_directory import Candidate, DataDirectory, Retirement
from quorate.server.founding import Standing, establish, settle
from quorate.server.joining import prepare
from tests.conftest import QUORATE, NodeProcess, clusters, free_base_port, run_cli
from tests.regressions.damage import damaged, files_of, lay_out, quick_folder

pytestmark = pytest.mark.integration

KEYS = 4
ROUNDS = 2
"""Each key is overwritten once."""
WRITTEN = {f"{durability}-{key}": [f"value {key}.{turn}".encode() for turn in range(ROUNDS)]
           for durability in ("os", "fsync") for key in range(KEYS)}  # fmt: skip
TRIED_MAX = 100
"""Offsets of each file, in a usual run."""
END = b"\xff" * 64


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, bytes]]:
    """The files of a node that was killed. Its ports are kept free for those that are started with them."""
    for make in clusters(tmp_path_factory.mktemp("node")):
        cluster = make(nodes=1)
        with quorate.connect(cluster.address()) as client:
            for durability in ("os", "fsync"):
                client.bucket(durability).set(durability=durability)
            for turn in range(ROUNDS):
                for name, values in WRITTEN.items():
                    client.bucket(name.partition("-")[0]).put(name, values[turn], context=_seen(client, name))
        cluster.node(1).kill()
        yield files_of(cluster.plan.data_path(cluster.members[0]))


def _seen(client: quorate.Client, name: str) -> str | None:
    return client.bucket(name.partition("-")[0]).get(name).context


@pytest.fixture
def folder() -> Iterator[Path]:
    yield from quick_folder()


def begin(path: Path) -> Standing:
    """What a start does before it opens the store."""
    directory = DataDirectory.open(path)
    try:
        standing = settle(NodeConfiguration(), directory)
        establish(standing, directory)
        return standing
    finally:
        directory.close()


def names_the_next_step(error: StartupError) -> bool:
    return any(words in str(error) for words in ("restore ", "give an", "give another", "move the directory away"))


@pytest.mark.parametrize("name", ["identity.json", "cluster.json", "lock"])
def test_a_node_is_who_it_was_or_says_what_is_damaged(node: dict[str, bytes], folder: Path, name: str) -> None:
    whole = begin(lay_out(folder / "n1", node))
    started = refused = 0
    for what, content in damaged(node[name], TRIED_MAX):
        path = lay_out(folder / "n1", {**node, name: content})
        try:
            standing = begin(path)
        except StartupError as error:
            assert str(path / name) in str(error) and "damaged" in str(error), what
            assert names_the_next_step(error), what
            refused += 1
            continue
        assert (standing.identity, standing.founding) == (whole.identity, whole.founding), what
        assert not standing.is_new and not standing.newborn, what
        started += 1
    print(name, len(node[name]), {"started": started, "refused": refused})  # Shown on demand: pytest -s
    assert (refused == 0) if name == "lock" else (refused > 0 and started <= 1), "only a last line end may be missing"


@pytest.mark.parametrize("name", ["identity.json", "cluster.json"])
def test_a_file_that_is_gone_is_not_taken_for_a_new_node(node: dict[str, bytes], folder: Path, name: str) -> None:
    path = lay_out(folder / "n1", {key: content for key, content in node.items() if key != name})
    with pytest.raises(StartupError, match=name) as caught:
        begin(path)
    assert "restore" in str(caught.value) or "copy it from another node" in str(caught.value)


def test_who_waits_to_be_joined_stays_the_same_or_says_what_is_damaged(folder: Path) -> None:
    port = free_base_port()
    configuration = NodeConfiguration(
        name="n4",
        join="127.0.0.1:1",
        secret="a long and random secret",
        client_listen=f"127.0.0.1:{port}",
        http_listen=f"127.0.0.1:{port + 1}",
        peer_listen=f"127.0.0.1:{port + 2}",
    )
    directory = DataDirectory.open(folder / "n4")
    directory.stand(Candidate(1, "ca" * 16, "n4"))
    whole = directory.candidate_path.read_bytes()
    started = []
    for what, content in damaged(whole, TRIED_MAX):
        directory.candidate_path.write_bytes(content)
        try:
            assert prepare(configuration, directory).candidacy.id == "ca" * 16, what
            started.append(what)
        except StartupError as error:
            assert str(directory.candidate_path) in str(error) and names_the_next_step(error), what
        with pytest.raises(StartupError):
            settle(NodeConfiguration(), directory)
    assert len(started) <= 1, "only a last line end may be missing"
    directory.close()


def test_a_node_that_has_left_stays_away_whatever_happens_to_its_note(node: dict[str, bytes], folder: Path) -> None:
    path = lay_out(folder / "n1", node)
    directory = DataDirectory.open(path)
    directory.retire(Retirement(1, "n1", "has left cluster x", "2025-01-01T00:00:00Z"))
    directory.close()
    note = path / "retired.json"
    for what, content in damaged(note.read_bytes(), TRIED_MAX):
        note.write_bytes(content)
        with pytest.raises(StartupError) as caught:
            begin(path)
        assert "has left" in str(caught.value), what


def contents(store: Path) -> tuple[dict[bytes, bytes], bool]:
    """(all that the store holds, whether writes may be missing); everything there has been written once, and whole."""
    engine = RocksDbEngine(store, lambda callback: None)
    try:
        for key, stored in engine.scan(Space.DATA, b"", END):
            _, _, body = unpack(key, stored)
            for sibling in decode_record(body).siblings:
                assert any(key.endswith(name.encode()) and sibling.value in WRITTEN[name] for name in WRITTEN), key
        for key, stored in engine.scan(Space.META, b"", END):
            assert opened(stored) is not None, key
        found = {bytes([space]) + key: stored for space in Space for key, stored in engine.scan(space, b"", END)}
        return found, engine.report.may_have_lost_writes
    finally:
        engine.close()


def test_no_damage_to_the_log_goes_unsaid(node: dict[str, bytes], folder: Path) -> None:
    log = next(name for name in node if name.endswith(".log"))
    store = {name.removeprefix("store/"): content for name, content in node.items() if name.startswith("store/")}
    whole, suspected = contents(lay_out(folder / "store", store))
    assert not suspected and sum(key[0] == Space.DATA for key in whole) == len(WRITTEN)
    missing = tried = 0
    for what, content in damaged(node[log], TRIED_MAX):
        found, suspected = contents(lay_out(folder / "store", {**store, log.removeprefix("store/"): content}))
        assert found == whole or suspected, f"{what}: writes are missing, and nobody is told"
        missing += found != whole
        tried += 1
    print("log", len(node[log]), {"tried": tried, "missing, and said so": missing})  # Shown on demand: pytest -s
    assert missing > tried // 2, "it was the log that had the writes"


def started(path: Path) -> tuple[str, dict[str, bytes]]:
    """Start a node in `path`, put a key, and stop it: (its log, what it answers for each key that was written once)."""
    path.with_suffix(".log").unlink(missing_ok=True)
    process = NodeProcess([*QUORATE, "start", "--data", str(path)], path.with_suffix(".log"))
    process.start()
    try:
        address = process.wait_for("ready")["client"]
        with quorate.connect(address) as client:
            answers = {name: client.bucket(name.partition("-")[0]).get(name).value for name in WRITTEN}
            new = client.bucket("b")
            new.put("k", b"new", context=new.get("k").context)
            assert new.get("k").value == b"new"
        assert process.terminate() == 0
    finally:
        process.close()
    return process.log(), {name: value for name, value in answers.items() if value is not None}


@pytest.mark.parametrize(
    ("part", "damage"), [("store/rocksdb/*.log", "cut"), ("store/rocksdb/*.log", "flip"), ("engine.state", "flip")]
)
def test_a_real_node_starts_says_what_it_found_and_answers_nothing_wrong(
    node: dict[str, bytes], tmp_path: Path, part: str, damage: str
) -> None:
    path = lay_out(tmp_path / "n1", node)
    (file,) = path.rglob(part) if "/" not in part else path.glob(part)
    content = file.read_bytes()
    middle = len(content) // 2
    file.write_bytes(content[:middle] if damage == "cut" else content[:middle] + b"\xff" + content[middle + 1 :])
    log, answers = started(path)
    assert "may have lost unsynced writes" in log
    if part != "engine.state":
        assert "missing" in log and len(answers) < len(WRITTEN)
    assert all(value in WRITTEN[name] for name, value in answers.items())
    log, again = started(path)
    assert again == answers and "warning" not in log, "and once only"


def test_a_real_node_refuses_with_one_line(node: dict[str, bytes], tmp_path: Path) -> None:
    manifest = next(name for name in node if "MANIFEST" in name)
    for name in ("identity.json", "store/rocksdb/CURRENT", manifest):
        flipped = bytes([node[name][0] ^ 1]) + node[name][1:]
        done = run_cli("start", "--data", str(lay_out(tmp_path / "n1", {**node, name: flipped})))
        message = done.stderr.decode()
        assert done.returncode == 1 and str(tmp_path / "n1") in message and "damaged" in message
        assert len(message.splitlines()) == 1 and ("restore" in message or "Move the directory away" in message)


def test_a_damaged_document_in_a_table_is_refused_with_the_next_step(node: dict[str, bytes], tmp_path: Path) -> None:
    """After a clean stop all is in tables, whose blocks are read when they are asked for."""
    path = lay_out(tmp_path / "n1", node)
    started(path)
    for table in _tables_of_documents(path / "store"):
        content = bytearray(table.read_bytes())
        content[10] ^= 1
        table.write_bytes(content)
    done = run_cli("start", "--data", str(path))
    message = done.stderr.decode()
    assert done.returncode == 1 and "Traceback" not in message
    assert f"a stored block in {path / 'store'} is damaged" in message and "start the node with an empty" in message


def _tables_of_documents(store: Path) -> list[Path]:
    engine = RocksDbEngine(store, lambda callback: None)
    keys = {key for key, _ in engine.scan(Space.META, b"", END)}
    files = [each for each in engine._database.live_files() if each["start_key"] in keys]
    engine.close()
    assert files
    return [store / "rocksdb" / str(each["name"]).lstrip("/") for each in files]
