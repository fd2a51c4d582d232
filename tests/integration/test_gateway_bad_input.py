"""Hostile input: whatever is sent, the answer is a clear 4xx and never an error of ours."""

import json
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings

from gateway.principals import Role
from hcp.stack import StackAddresses
from tests.gateway_lab import GatewayProcess, Lab, body_of, client_of, gateway_lab, gateway_process, keyed, signed_in

pytestmark = pytest.mark.services

WORKLOADS: Final = "/api/v1/workloads"
EXAMPLES_MAX: Final = 12
"""Cases an operation: the run is bounded, and finds other ones each time."""
SECONDS_MAX: Final = 120.0


@pytest.fixture(scope="module")
def lab(services: StackAddresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Give one gateway's databases to the module."""
    with gateway_lab(services, tmp_path_factory.mktemp("gateway")) as made:
        yield made


@pytest.fixture(scope="module")
def served(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GatewayProcess]:
    """Run one gateway for the module."""
    with gateway_process(lab, tmp_path_factory.mktemp("served")) as made:
        yield made


@pytest.mark.parametrize("role", list(Role))
def test_no_input_that_the_schema_allows_or_forbids_is_our_fault(lab: Lab, served: GatewayProcess, role: Role) -> None:
    """Schemathesis, on our own OpenAPI, as each role: no operation answers 5xx."""
    headers = keyed(served.sign_in(lab.user(role=role)))
    headers.pop("idempotency-key")
    schema = schemathesis.openapi.from_url(f"{served.url}/api/docs/openapi.json")
    tried = 0
    for found in schema.get_all_operations():
        operation: Any = found.ok()  # type: ignore[union-attr]  # a schema of ours has no broken operation

        @given(case=operation.as_strategy())
        @settings(
            max_examples=EXAMPLES_MAX,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        def never_ours(case: Any) -> None:
            nonlocal tried
            if case.operation.path.endswith(("/auth/revoke", "/ready")):
                return  # the one would sign us out; the other says 503 by design
            answer = case.call(headers={**(case.headers or {}), **headers}, timeout=SECONDS_MAX)
            tried += 1
            assert answer.status_code < 500, f"{case.method} {case.formatted_path}: {answer.text}"

        never_ours()
    assert tried > EXAMPLES_MAX


def _deep(opening: str, depth: int) -> bytes:
    return opening.encode() * depth


HOSTILE: Final[dict[str, tuple[bytes, dict[str, str], int]]] = {
    "too large": (b'{"name": "' + b"x" * 70_000 + b'"}', {}, 413),
    "deep list": (_deep("[", 20_000), {}, 400),
    "deep object": (_deep('{"a":', 10_000), {}, 400),
    "deep unknown field": (b'{"workload_type": "batch", "x": ' + _deep("[", 20_000), {}, 400),
    "no JSON": (b"workload", {}, 400),
    "empty": (b"", {}, 400),
    "not UTF-8": (b'{"name": "\xff\xfe"}', {}, 400),
    "lone surrogate": (json.dumps({**body_of(), "name": "\ud800"}).encode(), {}, 400),
    "NUL in a name": (json.dumps({**body_of(), "name": "a\x00b"}).encode(), {}, 400),
    "newline in a name": (json.dumps({**body_of(), "name": "a\r\nx-evil: 1"}).encode(), {}, 400),
    "unknown field": (json.dumps({**body_of(), "is_admin": True}).encode(), {}, 400),
    "unknown requirement": (json.dumps(body_of(free=True)).encode(), {}, 400),
    "priority 0": (json.dumps({**body_of(), "priority": 0}).encode(), {}, 400),
    "priority 11": (json.dumps({**body_of(), "priority": 11}).encode(), {}, 400),
    "priority 1e999": (b'{"workload_type": "batch", "priority": 1e999}', {}, 400),
    "huge count": (json.dumps(body_of(device_count=2**70)).encode(), {}, 400),
    "negative run": (json.dumps(body_of(run_seconds_max=-1)).encode(), {}, 400),
    "SQL in a class": (json.dumps(body_of(device_class="h100'; drop table workloads;--")).encode(), {}, 400),
    "unknown class": (json.dumps(body_of(device_class="abacus")).encode(), {}, 422),
    "unknown site": (json.dumps(body_of(facility_id="moon")).encode(), {}, 422),
    "form": (b"a=b", {"content-type": "application/x-www-form-urlencoded"}, 415),
    "text": (json.dumps(body_of()).encode(), {"content-type": "text/plain"}, 415),
    "multipart": (b"--x--", {"content-type": "multipart/form-data; boundary=x"}, 415),
    "key with SQL": (json.dumps(body_of()).encode(), {"idempotency-key": "' or 1=1 --"}, 400),
    "key too long": (json.dumps(body_of()).encode(), {"idempotency-key": "k" * 129}, 400),
    "key empty": (json.dumps(body_of()).encode(), {"idempotency-key": ""}, 400),
}


@pytest.mark.parametrize("name", list(HOSTILE))
def test_a_hostile_submission_is_a_clear_4xx(lab: Lab, served: GatewayProcess, name: str) -> None:
    """Each with its status, as a problem that names no inner workings."""
    content, changes, status = HOSTILE[name]
    headers = {**keyed(served.sign_in(lab.user())), "content-type": "application/json", **changes}
    answer = httpx.post(served.url + WORKLOADS, content=content, headers=headers, timeout=SECONDS_MAX)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    problem = answer.json()
    assert (problem["status"], problem["request_id"]) == (status, answer.headers["x-request-id"])
    assert not any(word in answer.text for word in ("Traceback", "psycopg", "File "))


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/workloads/1", 400),
        ("/workloads/00000000-0000-0000-0000-000000000000", 404),
        ("/workloads/%00", 400),
        ("/workloads/' or '1'='1", 400),
        ("/workloads?cursor=%00", 400),
        ("/workloads?cursor=WyJ4IiwxLCJ5Il0", 400),
        ("/workloads?limit=0", 400),
        ("/workloads?limit=201", 400),
        ("/workloads?limit=x", 400),
        ("/workloads?sort=name;drop", 400),
        ("/workloads?status=gone", 400),
        ("/billing/usage?from_ms=-1", 400),
        ("/billing/usage?to_ms=99999999999999999999", 400),
        ("/billing/invoices/x", 400),
        ("/profitability/history?limit=100000", 400),
        ("/nothing", 404),
        ("/../../etc/passwd", 404),
    ],
)
def test_a_hostile_address_is_a_clear_4xx(lab: Lab, served: GatewayProcess, path: str, status: int) -> None:
    """Ids, cursors, ranges and orders that are none are refused, each as a problem."""
    answer = httpx.get(f"{served.url}/api/v1{path}", headers=served.sign_in(lab.user()), timeout=SECONDS_MAX)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text


def test_profitability_knows_no_nul(lab: Lab, served: GatewayProcess) -> None:
    """PostgreSQL's text cannot hold NUL: nothing is found, and nothing fails."""
    path = "/api/v1/profitability/history?facility_id=%00"
    answer = httpx.get(served.url + path, headers=served.sign_in(lab.user()), timeout=SECONDS_MAX)
    assert answer.status_code == 200


async def test_a_request_id_is_taken_only_when_it_is_a_plain_word(lab: Lab) -> None:
    """What goes into headers and logs cannot break out of them."""
    async with client_of(lab) as (client, _):
        headers = await signed_in(client, lab.user())
        plain = await client.get("/api/v1/me", headers={**headers, "x-request-id": "order-4711.a"})
        odd = await client.get("/api/v1/me", headers={**headers, "x-request-id": "a b; drop"})
    assert plain.headers["x-request-id"] == "order-4711.a"
    assert odd.headers["x-request-id"].isalnum()
