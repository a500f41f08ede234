"""The OpenAPI 3.1 document, made of the table of routes and of the types of its documents.

It is made once, when it is first asked for. Bytes in JSON are base64; keys in paths are strings there, since OpenAPI
knows no percent-encoded bytes, and are described in words.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from quorate import __version__
from quorate.api.http.call import JSON_TYPE, Call, json_answer
from quorate.api.http.parameters import Parameter
from quorate.api.http.problems import PROBLEM_TYPE, ProblemDocument

if TYPE_CHECKING:
    from quorate.api.http.routing import Answer, Route

Document = dict[str, Any]

_DESCRIPTION = """An always-writable key-value store. A write replaces what its context has seen, and nothing else.
Every error is `application/problem+json`; 503 means that nothing was done and never will be, 504 that it may have been.
A bucket and a key are bytes, percent-encoded in paths."""

_HEADERS: dict[str, tuple[str, Document]] = {
    "Quorate-Context": ("What this answer has seen: hand it back with a write that replaces that.", {"type": "string"}),
    "ETag": ("Changes whenever what is answered does.", {"type": "string"}),
    "Last-Modified": ("When the value was put, by its coordinator's clock.", {"type": "string"}),
    "Retry-After": ("Seconds.", {"type": "integer", "minimum": 1}),
    "Vary": ("The answer depends on these headers.", {"type": "string"}),
    "Location": ("Where it is.", {"type": "string"}),
    "Allow": ("The methods that there are.", {"type": "string"}),
}
_OPTIONAL_HEADERS = {404: ("Quorate-Context",)}
_REQUEST_ID = {"description": "The request's id.", "schema": {"type": "string"}, "required": True}


async def get_openapi(call: Call) -> web.StreamResponse:
    return json_answer(_document())


@lru_cache(maxsize=1)
def _document() -> Document:
    from quorate.api.http.routes import COMMON, COMMON_OF_CHANGES, ROUTES  # noqa: PLC0415 - the table names our handler

    return openapi_document(ROUTES, COMMON, COMMON_OF_CHANGES)


def openapi_document(
    routes: tuple[Route, ...], common: tuple[Answer, ...], common_of_changes: tuple[Answer, ...]
) -> Document:
    """The document that describes `routes`.

    `common`: answers of all; `common_of_changes`: of those that change something.
    """
    schemas, components = _schemas(routes)
    paths: dict[str, Document] = {}
    for route in routes:
        shared = () if route.open else common + (common_of_changes if route.changes else ())
        own = {answer.status for answer in route.answers}
        answers = (*route.answers, *(answer for answer in shared if answer.status not in own))
        operation = _operation(route, answers, schemas)
        paths.setdefault(route.path, {})[route.method.lower()] = operation
        if route.method == "GET":
            paths[route.path]["head"] = _head(operation)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Quorate", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "basic": {"type": "http", "scheme": "basic"},
            },
        },
        "security": [{}, {"bearer": []}, {"basic": []}],
    }


def _schemas(routes: tuple[Route, ...]) -> tuple[dict[Any, Document], Document]:
    """Type → schema for all types of `routes`, and the components that these refer to."""
    kinds: list[Any] = [ProblemDocument]
    for route in routes:
        kinds += [answer.document for answer in route.answers if answer.document is not None]
        if route.body is not None and route.body.document is not None:
            kinds.append(route.body.document)
    kinds = list(dict.fromkeys(kinds))
    schemas, components = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    return dict(zip(kinds, schemas, strict=True)), dict(components)


def _operation(route: Route, answers: tuple[Answer, ...], schemas: dict[Any, Document]) -> Document:
    operation: Document = {
        "operationId": route.name,
        "summary": route.summary,
        "tags": [route.group],
        "parameters": [_parameter(parameter) for parameter in route.parameters],
        "responses": {str(answer.status): _answer(answer, schemas) for answer in sorted(answers, key=_status)},
    }
    if route.open:
        operation["security"] = []
    if route.body is not None:
        document = route.body.document
        media = "*/*" if document is None else JSON_TYPE
        schema = {} if document is None else {"schema": schemas[document]}
        operation["requestBody"] = {
            "description": route.body.description, "required": document is not None, "content": {media: schema}
        }  # fmt: skip
    return operation


def _head(operation: Document) -> Document:
    """HEAD is GET without the body."""
    responses = {
        status: {name: value for name, value in answer.items() if name != "content"}
        for status, answer in operation["responses"].items()
    }
    return {**operation, "operationId": f"{operation['operationId']}Head", "responses": responses}


def _status(answer: Answer) -> int:
    return answer.status


def _parameter(parameter: Parameter) -> Document:
    found: Document = {
        "name": parameter.name,
        "in": parameter.place,
        "description": parameter.description,
        "required": parameter.place == "path",
        "schema": parameter.schema,
    }
    if parameter.example:
        found["example"] = parameter.example
    return found


def _answer(answer: Answer, schemas: dict[Any, Document]) -> Document:
    headers: Document = {"Quorate-Request-Id": _REQUEST_ID}
    for name in answer.headers:
        description, schema = _HEADERS[name]
        required = name not in _OPTIONAL_HEADERS.get(answer.status, ())
        headers[name] = {"description": description, "schema": schema, "required": required}
    found: Document = {"description": answer.description, "headers": headers}
    content: Document = {media: {} for media in answer.media}
    if answer.document is not None:
        media = PROBLEM_TYPE if answer.document is ProblemDocument else JSON_TYPE
        content[media] = {"schema": schemas[answer.document]}
    if content:
        found["content"] = content
    return found
