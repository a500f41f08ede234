"""What a real cluster answers, against what /openapi.json says that it does.

Requests are made up from the document, right ones and wrong ones, for every call; an answer whose status, headers, type
or body the document does not have is a failure, and so is any 500.
"""

from __future__ import annotations

import json
import urllib.request
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.result import Ok

from quorate.api.http.openapi import openapi_document
from quorate.api.http.routes import COMMON, COMMON_OF_CHANGES, ROUTES
from tests.conftest import EVENT_TIMEOUT_S, Cluster

pytestmark = pytest.mark.integration

EXAMPLES = 15
"""Of right requests, and of wrong ones, for each call."""
NAMES = (
    "status_code_conformance",
    "content_type_conformance",
    "response_headers_conformance",
    "response_schema_conformance",
    "unsupported_method",
)
BUGS = range(500, 503)
DOCUMENT = openapi_document(ROUTES, COMMON, COMMON_OF_CHANGES)


def operations() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for result in schemathesis.openapi.from_dict(DOCUMENT).get_all_operations():
        assert isinstance(result, Ok), result
        operation = result.ok()
        if operation.method != "head" or "{key}" in operation.path:
            found[f"{operation.method.upper()} {operation.path}"] = operation
    return found


OPERATIONS = operations()
"""By method and path. HEAD is the same code for all calls, and tried for a few."""


def address(cluster: Cluster) -> str:
    return f"http://{cluster.plan.cluster.ring.members[0].http_address}"


def test_a_node_serves_the_document_that_is_tested_here(shared_cluster: Cluster) -> None:
    with urllib.request.urlopen(address(shared_cluster) + "/openapi.json", timeout=EVENT_TIMEOUT_S) as response:
        assert json.load(response) == json.loads(json.dumps(DOCUMENT))
    assert len(OPERATIONS) >= len(ROUTES)


@pytest.mark.parametrize("mode", [GenerationMode.POSITIVE, GenerationMode.NEGATIVE], ids=["right", "wrong"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_no_answer_is_undocumented(shared_cluster: Cluster, name: str, mode: GenerationMode) -> None:
    operation = OPERATIONS[name]
    if mode == GenerationMode.NEGATIVE and not (operation.body or len(operation.query) or len(operation.headers)):
        pytest.skip("nothing in such a request can be wrong")

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(generation_mode=mode))
    def check(case: Any) -> None:
        response = case.call(base_url=address(shared_cluster))
        assert response.status_code not in BUGS
        assert response.headers["quorate-request-id"]
        case.validate_response(response, checks=[CHECKS.get_one(check) for check in NAMES])

    check()
