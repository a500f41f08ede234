"""How calls are declared and found: the shape of a route, and the tree of all of them.

A route says all that is to be known of a call: its path, its parameters, its body, and every answer that it may give.
Requests are routed and checked by it, and the OpenAPI document is made of it, so that neither can say another thing.

Paths are matched by their raw segments (see `parameters`); a segment that is spelled out goes before a parameter. HEAD
is GET.
"""

from __future__ import annotations

from typing import Any

import msgspec

from quorate.api.http.call import Handler
from quorate.api.http.parameters import Parameter
from quorate.api.http.problems import Problem


class Answer(msgspec.Struct, frozen=True):
    """One answer that a call may give."""

    status: int
    description: str
    document: Any = None
    """The type of its JSON document; None: no JSON."""
    media: tuple[str, ...] = ()
    """Other media types of its body; `*/*`: that of the value."""
    headers: tuple[str, ...] = ()


class Body(msgspec.Struct, frozen=True):
    """What a call takes."""

    description: str
    document: Any = None
    """The type of the JSON document; None: any bytes."""


class Route(msgspec.Struct, frozen=True):
    """One call."""

    method: str
    path: str
    """`{name}` is a parameter."""
    name: str
    """What it is called in the OpenAPI document."""
    summary: str
    handler: Handler
    answers: tuple[Answer, ...]
    parameters: tuple[Parameter, ...] = ()
    body: Body | None = None
    group: str = ""
    open: bool = False
    """Answered without a password, and by whatever name it is asked for: it tells nothing."""

    @property
    def changes(self) -> bool:
        return self.method not in ("GET", "HEAD")


class Compiled(msgspec.Struct, frozen=True):
    """A route with its parameters by place, as requests need them."""

    route: Route
    path: tuple[Parameter, ...]
    query: dict[str, Parameter]
    headers: tuple[Parameter, ...]


class _Branch:
    def __init__(self) -> None:
        self.named: dict[str, _Branch] = {}
        self.any: _Branch | None = None
        self.routes: dict[str, Compiled] = {}
        """By method."""


class Router:
    """Finds the route of a request."""

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self._root = _Branch()
        for route in routes:
            branch = self._root
            for segment in route.path.split("/")[1:]:
                if segment.startswith("{"):
                    branch.any = branch.any or _Branch()
                    branch = branch.any
                else:
                    branch = branch.named.setdefault(segment, _Branch())
            compiled = compile_route(route)
            assert route.method not in branch.routes, "one route for each method of a path"
            branch.routes[route.method] = compiled
            if route.method == "GET":
                branch.routes["HEAD"] = compiled

    def find(self, method: str, path: str) -> tuple[Compiled, list[str]]:
        """The route for `path` (raw, without its query), and the raw segments of its parameters; raises `Problem`."""
        branch = self._root
        found: list[str] = []
        segments = path.split("/", 16)
        for segment in segments[1:]:
            named = branch.named.get(segment)
            if named is not None:
                branch = named
            elif branch.any is not None:
                branch = branch.any
                found.append(segment)
            else:
                raise _not_found()
        if segments[0] or not branch.routes:
            raise _not_found()
        compiled = branch.routes.get(method)
        if compiled is None:
            allowed = ", ".join(sorted(branch.routes))
            raise Problem(
                "method-not-allowed",
                f"{method[:16]} is not for this resource; there are: {allowed}",
                {"Allow": allowed},
            )
        return compiled, found


def compile_route(route: Route) -> Compiled:
    """`route` with its parameters by place; those of the path in its order."""
    in_path = {parameter.name: parameter for parameter in route.parameters if parameter.place == "path"}
    names = [segment[1:-1] for segment in route.path.split("/") if segment.startswith("{")]
    assert names == list(in_path), "a route declares the parameters of its path, in their order"
    query = {parameter.name: parameter for parameter in route.parameters if parameter.place == "query"}
    headers = tuple(parameter for parameter in route.parameters if parameter.place == "header")
    return Compiled(route, tuple(in_path.values()), query, headers)


def _not_found() -> Problem:
    return Problem(
        "not-found", "no call has this path; /openapi.json lists them, and a slash within a key is written %2F"
    )
