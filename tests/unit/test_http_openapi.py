"""The table of routes, and the OpenAPI document that is made of it."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import pytest

from quorate.api.http import documents, problems
from quorate.api.http.problems import PROBLEMS, TYPE_PREFIX, Problem
from quorate.api.http.routes import COMMON, COMMON_OF_CHANGES, ROUTES
from quorate.api.http.routing import Router
from tests.unit.http_session import Session, run

HTTP = Path(problems.__file__).parent
REFERENCE = Path(__file__).parents[2] / "docs" / "http.md"


def openapi() -> dict[str, Any]:
    found: list[Any] = []

    async def story(http: Session) -> None:
        found.append((await http.get("/openapi.json")).json())

    run(story)
    document: dict[str, Any] = found[0]
    return document


def references(node: Any) -> list[str]:
    if isinstance(node, dict):
        own = [node["$ref"]] if isinstance(node.get("$ref"), str) else []
        return own + [found for value in node.values() for found in references(value)]
    return [found for value in node for found in references(value)] if isinstance(node, list) else []


def test_every_route_is_documented_and_every_reference_leads_somewhere() -> None:
    document = openapi()
    assert document["openapi"].startswith("3.1")
    documented = {(method.upper(), path) for path, item in document["paths"].items() for method in item}
    declared = {(route.method, route.path) for route in ROUTES}
    assert documented == declared | {("HEAD", path) for method, path in declared if method == "GET"}
    names = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(names) == len(set(names))
    for reference in references(document):
        assert reference.removeprefix("#/components/schemas/") in document["components"]["schemas"]
    assert len(references(document)) > 50


def test_every_answer_says_what_it_is() -> None:
    for path, item in openapi()["paths"].items():
        for method, operation in item.items():
            for status, answer in operation["responses"].items():
                assert answer["description"], (path, method, status)
                assert "Quorate-Request-Id" in answer["headers"]
                empty = method == "head" or status in ("204", "304")
                assert ("content" in answer) != empty, (path, method, status)
                if int(status) >= 400 and not empty:
                    assert list(answer["content"]) == ["application/problem+json"]


def test_the_design_has_every_call() -> None:
    """The calls that were promised to users, by method and path."""
    router = Router(ROUTES)
    promised = {
        "/v1/buckets/b/keys/k": "GET HEAD PUT DELETE",
        "/v1/buckets/b/keys": "GET",
        "/v1/buckets": "GET",
        "/v1/buckets/b": "GET PUT",
        "/v1/cluster": "GET",
        "/v1/where/b/k": "GET",
        "/healthz": "GET",
        "/readyz": "GET",
        "/openapi.json": "GET",
        **{f"/v1/cluster/{what}": "GET" for what in ("ring", "transfers", "hints", "members", "staleness")},
        **{f"/v1/cluster/{what}": "POST" for what in ("join", "leave", "replace", "weight", "abort", "force")},
        "/v1/cluster/repair": "GET POST",
    }
    for path, methods in promised.items():
        for method in methods.split():
            router.find(method, path)
    for method in ("PATCH", "TRACE", "OPTIONS", "CONNECT"):
        with pytest.raises(Problem):
            router.find(method, "/v1/buckets/b/keys/k")


def test_every_problem_that_is_raised_is_declared_by_some_route() -> None:
    """The kinds that the code names, against the table of kinds, and their statuses against the routes."""
    named: set[str] = set()
    for path in HTTP.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and node.value in PROBLEMS and path.name != "problems.py":
                named.add(str(node.value))
    own = {"unavailable", "overloaded", "outcome-unknown"}
    assert named | own == set(PROBLEMS)
    declared = {answer.status for route in ROUTES for answer in (*route.answers, *COMMON, *COMMON_OF_CHANGES)}
    # A wrong method, and our own bugs, are not answers of any one call.
    assert {status for status, _ in PROBLEMS.values()} - declared == {405, 500}


def test_the_reference_names_every_problem_and_every_call() -> None:
    text = REFERENCE.read_text(encoding="utf-8")
    for kind, (status, _) in PROBLEMS.items():
        assert re.search(rf"`{kind}` *\| *{status}\b", text), kind
    for route in ROUTES:
        assert f"`{route.method} {route.path}`" in text or f"{route.path}`" in text, route.path
    assert TYPE_PREFIX in text


def test_documents_have_no_field_twice() -> None:
    """A type of the OpenAPI document is named once: two of one name would describe each other."""
    kinds = [name for name in vars(documents) if name.endswith(("Document", "Request"))]
    schemas = openapi()["components"]["schemas"]
    assert set(kinds) - set(schemas) == {"Request"}
