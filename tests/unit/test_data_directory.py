"""A data directory never changes its owner, and no failure of its disk makes it forget who it is.

Hard cases 16, 20, 21, 25 and 26, as far as they concern the files that say whose data this is.
"""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from quorate.core.errors import StartupError
from quorate.core.ring.ring import Member
from quorate.server import documents
from quorate.server.cluster_file import ClusterFile, found_cluster, read_cluster_file, write_cluster_file
from quorate.server.configuration import NodeConfiguration
from quorate.server.data_directory import Candidate, DataDirectory
from quorate.server.founding import Standing, establish, settle
from quorate.server.joining import prepare
from tests.free_ports import free_ports


def member(number: int) -> Member:
    return Member(
        number, f"{number:032x}", f"n{number}", "here", "", 1, f"127.0.0.1:{7600 + number}",
        f"127.0.0.1:{7400 + number}", f"127.0.0.1:{7500 + number}",
    )  # fmt: skip


def cluster_of(count: int, cluster_id: str = "c" * 32) -> ClusterFile:
    return found_cluster(cluster_id, [member(number) for number in range(1, count + 1)], 16, "rocksdb")


def begin(configuration: NodeConfiguration, directory: DataDirectory) -> Standing:
    standing = settle(configuration, directory)
    establish(standing, directory)
    return standing


def born(path: Path, **settings: object) -> None:
    directory = DataDirectory.open(path)
    begin(NodeConfiguration(**settings), directory)  # type: ignore[arg-type]
    directory.close()


def settle_error(path: Path, **settings: object) -> str:
    directory = DataDirectory.open(path)
    try:
        with pytest.raises(StartupError) as caught:
            settle(NodeConfiguration(**settings), directory)  # type: ignore[arg-type]
    finally:
        directory.close()
    return str(caught.value)


def test_a_fresh_directory_becomes_a_cluster_of_one_and_stays_it(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path / "n1")
    first = begin(NodeConfiguration(), directory)
    again = begin(NodeConfiguration(), directory)
    directory.close()
    assert (first.identity, first.cluster, first.is_new) == (again.identity, again.cluster, not again.is_new)
    assert first.cluster.ring.owners == [1] * 1024
    assert first.listen["client"] == "127.0.0.1:7401"
    assert (tmp_path / "n1" / "cluster.json").stat().st_mode & 0o777 == 0o600


def test_a_cluster_file_gives_membership_by_name(tmp_path: Path) -> None:
    write_cluster_file(tmp_path / "cluster.json", cluster_of(3))
    directory = DataDirectory.open(tmp_path / "n2")
    standing = begin(NodeConfiguration(name="n2", cluster=str(tmp_path / "cluster.json")), directory)
    directory.close()
    assert (standing.identity.number, standing.identity.node_id) == (2, f"{2:032x}")
    assert standing.listen == {"client": "127.0.0.1:7402", "http": "127.0.0.1:7502", "peer": "127.0.0.1:7602"}
    # And from then on the directory is enough.
    directory = DataDirectory.open(tmp_path / "n2")
    assert settle(NodeConfiguration(), directory).identity == standing.identity
    directory.close()


def test_another_name_another_cluster_another_id_and_another_engine_are_refused(tmp_path: Path) -> None:
    write_cluster_file(tmp_path / "one.json", cluster_of(3))
    write_cluster_file(tmp_path / "other.json", cluster_of(3, "d" * 32))
    stranger = cluster_of(3)
    stranger.ring.members[1] = member(9)
    write_cluster_file(tmp_path / "stranger.json", stranger)
    data = tmp_path / "n2"
    born(data, name="n2", cluster=str(tmp_path / "one.json"))
    before = (data / "identity.json").read_bytes()
    assert "belongs to node n2, not to n3" in settle_error(data, name="n3", cluster=str(tmp_path / "one.json"))
    assert "belongs to cluster cccc" in settle_error(data, cluster=str(tmp_path / "other.json"))
    assert "which the cluster file does not know" in settle_error(data, cluster=str(tmp_path / "stranger.json"))
    assert "was made with engine rocksdb" in settle_error(data, engine="memory")
    assert (data / "identity.json").read_bytes() == before


def test_an_unknown_name_lists_the_known_ones(tmp_path: Path) -> None:
    write_cluster_file(tmp_path / "cluster.json", cluster_of(2))
    assert "it knows: n1, n2" in settle_error(tmp_path / "x", name="n7", cluster=str(tmp_path / "cluster.json"))
    assert "one of: n1, n2" in settle_error(tmp_path / "x", cluster=str(tmp_path / "cluster.json"))
    assert not (tmp_path / "x" / "identity.json").exists()


@pytest.mark.parametrize("file_name", ["identity.json", "cluster.json"])
def test_every_flipped_byte_and_every_truncation_is_refused_and_named(tmp_path: Path, file_name: str) -> None:
    """Hard case 25: damage is never believed, and never taken for a new node."""
    data = tmp_path / "n1"
    born(data, partitions=1)
    path = data / file_name
    whole = path.read_bytes()
    accepted = []
    for offset in range(len(whole)):
        for damaged in (whole[:offset], whole[:offset] + bytes([whole[offset] ^ 0x55]) + whole[offset + 1 :]):
            path.write_bytes(damaged)
            directory = DataDirectory.open(data)
            try:
                settle(NodeConfiguration(), directory)
                accepted.append(damaged)
            except StartupError as error:
                assert file_name in str(error)
            finally:
                directory.close()
    path.write_bytes(whole)
    born(data)
    assert accepted == [whole[:-1]], "only the final newline may go"


def test_what_is_only_settled_leaves_no_trace(tmp_path: Path) -> None:
    """A start that something else refuses, such as a port in use, must not have named the node already."""
    directory = DataDirectory.open(tmp_path)
    settle(NodeConfiguration(name="one", client_listen="127.0.0.1:1001"), directory)
    again = begin(NodeConfiguration(name="two", client_listen="127.0.0.1:1002"), directory)
    directory.close()
    assert (again.identity.name, again.cluster.ring.members[0].client_address) == ("two", "127.0.0.1:1002")


# Candidates, newborns, moved and retired nodes.


def prepare_error(path: Path, **settings: object) -> str:
    directory = DataDirectory.open(path)
    try:
        with pytest.raises(StartupError) as caught:
            prepare(NodeConfiguration(join="127.0.0.1:1", **settings), directory)  # type: ignore[arg-type]
    finally:
        directory.close()
    assert [entry.name for entry in path.iterdir()] == ["lock"], "nothing was written"
    return str(caught.value)


def test_what_a_candidate_lacks_is_named(tmp_path: Path) -> None:
    secret = "a long and random secret"
    assert "say --name NAME" in prepare_error(tmp_path, secret=secret)
    assert "takes its secret: name a member's cluster file by --cluster" in prepare_error(tmp_path, name="n4")
    exposed = prepare_error(tmp_path, name="n4", secret=secret, peer_listen="0.0.0.0:7699")
    assert "without a password: anyone" in exposed
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        assert "is in use" in prepare_error(tmp_path, name="n4", secret=secret, client_listen=address)


def test_a_candidate_keeps_its_id_over_restarts_and_takes_what_the_cluster_file_has(tmp_path: Path) -> None:
    cluster = cluster_of(3)
    write_cluster_file(tmp_path / "cluster.json", cluster)
    client, http, peer = (f"127.0.0.1:{port}" for port in free_ports(3))
    listen = {"client_listen": client, "http_listen": http, "peer_listen": peer}
    settings = NodeConfiguration(name="n4", join="127.0.0.1:7601", cluster=str(tmp_path / "cluster.json"))
    settings = msgspec.structs.replace(settings, **listen)
    directory = DataDirectory.open(tmp_path / "n4")
    first = prepare(settings, directory)
    assert (first.secret, first.cluster_id, first.engine) == (cluster.secret, cluster.cluster_id, "rocksdb")
    assert (first.candidacy.peer_address, first.candidacy.name) == (listen["peer_listen"], "n4")
    directory.stand(Candidate(1, first.candidacy.id, "n4"))
    again = prepare(msgspec.structs.replace(settings, name=""), directory)
    assert again.candidacy == first.candidacy
    directory.close()


def test_a_waiting_node_does_not_become_a_cluster_of_its_own(tmp_path: Path) -> None:
    directory = DataDirectory.open(tmp_path)
    directory.stand(Candidate(1, "ca" * 16, "n4"))
    directory.close()
    assert "waits to be joined to a cluster and is no member yet; start it with --join" in settle_error(tmp_path)
    assert not (tmp_path / "identity.json").exists()


def test_only_who_makes_its_cluster_is_newborn(tmp_path: Path) -> None:
    """A new directory alone says nothing: a member's disk may have been replaced."""
    write_cluster_file(tmp_path / "cluster.json", cluster_of(1))
    directory = DataDirectory.open(tmp_path / "member")
    given = begin(NodeConfiguration(name="n1", cluster=str(tmp_path / "cluster.json")), directory)
    directory.identity_path.unlink()
    resumed = begin(NodeConfiguration(name="n1"), directory)
    directory.close()
    directory = DataDirectory.open(tmp_path / "alone")
    alone = begin(NodeConfiguration(), directory)
    again = begin(NodeConfiguration(), directory)
    directory.close()
    assert [standing.newborn for standing in (given, resumed, alone, again)] == [False, False, True, False]


def test_all_founders_make_the_same_ring_of_their_file(tmp_path: Path) -> None:
    """Rings are told apart by their digests: members that start with different ones would never agree."""
    cluster = cluster_of(3)
    write_cluster_file(tmp_path / "cluster.json", cluster)
    read = read_cluster_file(tmp_path / "cluster.json")
    assert read is not None and read.founding() == cluster.founding()
    assert cluster.founding().id == cluster.founding().id
    assert (cluster.founding().voters, cluster.founding().position) == ((1, 2, 3), (0, 1))


def test_a_damaged_decided_ring_is_refused(tmp_path: Path) -> None:
    for text in ("zz", "90", cluster_of(2).founding().body.hex()):
        with pytest.raises(StartupError, match="the cluster file's ring cannot be used"):
            msgspec.structs.replace(cluster_of(2), decided=text).founding()


def test_a_node_is_reached_where_it_was_told_last(tmp_path: Path) -> None:
    """Hard case 21: an address is not an identity."""
    write_cluster_file(tmp_path / "cluster.json", cluster_of(2))
    directory = DataDirectory.open(tmp_path / "n2")

    def own(**settings: str) -> tuple[str, str, list[str]]:
        standing = begin(NodeConfiguration(cluster=str(tmp_path / "cluster.json"), **settings), directory)  # type: ignore[arg-type]
        return standing.own.peer_address, standing.listen["peer"], standing.warnings

    assert own(name="n2") == ("127.0.0.1:7602", "127.0.0.1:7602", [])
    told, listen, warnings = own(peer_listen="127.0.0.1:9602")
    assert (told, listen) == ("127.0.0.1:9602", "127.0.0.1:9602")
    assert "reached by peers at 127.0.0.1:9602, and no more at 127.0.0.1:7602: it tells the cluster" in warnings[0]
    assert own()[:2] == ("127.0.0.1:9602", "127.0.0.1:9602"), "remembered"
    safe = {"password": "p", "secret": "a long and random secret"}
    assert own(peer_listen="0.0.0.0:1", **safe)[:2] == ("127.0.0.1:9602", "0.0.0.0:1"), "a wildcard says nothing"
    assert own(peer_listen="0.0.0.0:1", peer_advertise="10.0.0.1:2", **safe)[:2] == ("10.0.0.1:2", "0.0.0.0:1")
    assert own(peer_listen="127.0.0.1:7602") == ("127.0.0.1:7602", "127.0.0.1:7602", [])
    assert own() == ("127.0.0.1:7602", "127.0.0.1:7602", [])
    directory.close()


@pytest.mark.parametrize("file_name", ["retired.json", "candidate.json"])
def test_a_damaged_note_is_never_taken_for_none(tmp_path: Path, file_name: str) -> None:
    """Hard case 25: a node that has left must not come back because a byte has flipped."""
    (tmp_path / file_name).write_bytes(b"{}")
    assert file_name in settle_error(tmp_path)
    documents.write_document(tmp_path / file_name, {"format": "x"})
    assert file_name in settle_error(tmp_path)


def test_a_store_without_an_identity_is_not_adopted(tmp_path: Path) -> None:
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "000001.sst").write_bytes(b"someone's data")
    assert "holds a store but no identity.json" in settle_error(tmp_path)


def test_a_directory_in_use_names_its_holder(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib; from quorate.server.data_directory import DataDirectory\n"
        "d = DataDirectory.open(pathlib.Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert holder.stdin is not None
    assert holder.stdout is not None
    try:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(StartupError, match=f"in use by process {holder.pid};"):
            DataDirectory.open(tmp_path, lock_wait_ms=0)
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()
    DataDirectory.open(tmp_path).close()  # The lock went with the process.


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "n1").write_text("not a directory")
    with pytest.raises(StartupError, match="cannot use data directory"):
        DataDirectory.open(tmp_path / "n1")


@pytest.mark.parametrize("call", ["write", "fsync", "open"])
def test_a_full_disk_at_any_step_leaves_the_old_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """Hard case 26: ENOSPC at every metadata write, old state intact."""
    path = tmp_path / "document.json"
    documents.write_document(path, {"generation": 1})

    def full(*_: object, **__: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, call, full)
    with pytest.raises(OSError, match="No space"):
        documents.write_document(path, {"generation": 2})
    monkeypatch.undo()
    assert documents.read_document(path, "it", "") == {"generation": 1}
    assert [entry.name for entry in tmp_path.iterdir()] == ["document.json"]


def test_a_birth_that_the_disk_cut_short_can_be_repeated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The identity is written last: until it is there, the directory counts as new, and keeps the secret it had."""
    directory = DataDirectory.open(tmp_path)

    def full(path: Path, *_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("quorate.server.data_directory.write_document", full)
    with pytest.raises(StartupError, match="the disk is full; make room"):
        begin(NodeConfiguration(), directory)
    monkeypatch.undo()
    cluster = read_cluster_file(tmp_path / "cluster.json")
    assert cluster is not None
    assert settle(NodeConfiguration(), directory).cluster == cluster
    directory.close()


def test_a_short_write_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, body: write(descriptor, bytes(body)[:3]))
    documents.write_document(tmp_path / "d", {"text": "long enough for several writes"})
    monkeypatch.undo()
    assert documents.read_document(tmp_path / "d", "it", "") == {"text": "long enough for several writes"}


def test_a_cluster_file_that_others_could_read_is_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "cluster.json"
    write_cluster_file(path, cluster_of(1))
    path.chmod(0o644)
    assert read_cluster_file(path) == cluster_of(1).__class__(1, read_secret(path), "", "rocksdb", cluster_of(1).ring)
    assert path.stat().st_mode & 0o777 == 0o600


def read_secret(path: Path) -> str:
    cluster = read_cluster_file(path)
    assert cluster is not None
    return cluster.secret
