"""Whom the HTTP port answers: foreign names, foreign pages, and who has no password."""

from __future__ import annotations

import base64

import pytest

from quorate.api.http.guard import Guard
from quorate.api.http.problems import Problem
from quorate.api.http.routes import ROUTES
from tests.unit.http_session import KEY, Session, run

ADDRESSES = ["127.0.0.1:7501", "node1.example:7501"]


def refusal(guard: Guard, host: str | None) -> int:
    try:
        guard.check_host(host)
    except Problem as problem:
        return problem.status
    return 200


@pytest.mark.parametrize(
    "host",
    [
        *("localhost", "LOCALHOST:7501", "localhost.:80", "127.0.0.1:7501", "127.8.9.1", "[::1]:7501", "[::1]"),
        *("node1.example:7501", "node1.example", "Node1.Example:80", "proxy.example"),
    ],
)
def test_a_node_is_known_by_its_names(host: str) -> None:
    guard = Guard(ADDRESSES, ["proxy.example"], None)
    assert [refusal(guard, host), refusal(guard, host)] == [200, 200]


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("evil.example:7501", 421),
        ("localhost.evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("192.0.2.1:7501", 421),
        ("[2001:db8::1]:7501", 421),
        ("[::1", 421),
        ("a" * 5000, 421),
        ("", 400),
        (None, 400),
    ],
)
def test_other_names_are_not_answered(host: str | None, status: int) -> None:
    guard = Guard(ADDRESSES, [], None)
    assert [refusal(guard, host), refusal(guard, host)] == [status, status]


def test_who_listens_everywhere_answers_by_every_address_but_not_by_every_name() -> None:
    guard = Guard(["0.0.0.0:7501"], [], "secret")
    assert refusal(guard, "192.0.2.1:7501") == 200
    assert refusal(guard, "evil.example") == 421


def test_a_foreign_host_reads_nothing_and_changes_nothing() -> None:
    async def story(http: Session) -> None:
        for method in ("GET", "PUT", "DELETE"):
            reply = await http.ask(method, KEY, headers={"Host": "evil.example"})
            assert reply.status == 421
        assert http.store.requests == []
        assert (await http.get("/healthz", Host="10.0.0.9")).status == 200

    run(story)


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://127.0.0.1:1", "file://", "evil"])
def test_foreign_pages_change_nothing(origin: str) -> None:
    async def story(http: Session) -> None:
        changing = [route for route in ROUTES if route.changes]
        assert len(changing) >= 10
        for route in changing:
            path = route.path.replace("{bucket}", "carts").replace("{key}", "alice")
            reply = await http.ask(route.method, path, b"{}", {"Origin": origin, "Content-Type": "application/json"})
            assert reply.status == 403, route.path
        assert http.store.requests == []
        assert (await http.get(Origin=origin)).status == 404, "reading is not refused, and not shared either"

    run(story)


def test_our_own_pages_may_change_things() -> None:
    async def story(http: Session) -> None:
        assert (await http.put(Origin=f"http://127.0.0.1:{http.port}")).status == 204

    run(story)


def test_no_answer_is_shared_with_other_origins() -> None:
    async def story(http: Session) -> None:
        preflight = await http.ask(
            "OPTIONS", KEY, headers={"Origin": "http://evil.example", "Access-Control-Request-Method": "PUT"}
        )
        assert preflight.status == 405
        assert preflight.headers["Allow"] == "DELETE, GET, HEAD, PUT"
        assert not [name for name in preflight.headers if name.lower().startswith("access-control")]

    run(story)


def basic(user: str, password: str) -> str:
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("authorization", "status"),
    [
        ("Bearer sésame", 404),
        ("bearer sésame", 404),
        (basic("default", "sésame"), 404),
        (basic("", "sésame"), 404),
        (basic("root", "sésame"), 401),
        (basic("default", "wrong"), 401),
        ("Bearer wrong", 401),
        ("Bearer", 401),
        ("Basic !!!", 401),
        ("Basic " + base64.b64encode(b"default").decode(), 401),
        ("Digest sésame", 401),
        (None, 401),
    ],
)
def test_a_password_is_needed_for_all_but_health(authorization: str | None, status: int) -> None:
    async def story(http: Session) -> None:
        headers = {} if authorization is None else {"Authorization": authorization}
        reply = await http.ask("GET", KEY, headers=headers)
        assert reply.status == status
        assert ("WWW-Authenticate" in reply.headers) == (status == 401)
        assert (await http.ask("GET", "/no/such/call", headers=headers)).status == status
        assert (await http.ask("GET", "/openapi.json", headers=headers)).status == (200 if status == 404 else 401)
        for path in ("/healthz", "/readyz"):
            assert (await http.ask("GET", path, headers=headers)).status == 200
        if status == 401:
            assert (await http.ask("PUT", KEY, b"x", headers)).status == 401
            assert http.store.requests == []

    run(story, password="sésame")
