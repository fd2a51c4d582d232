"""Who may do what: every cell of the matrix, forged and stale tokens, sessions, revocation, key rotation."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from gateway.accounts import disable_user
from gateway.keys import load_keys, make_key
from gateway.principals import Kind, Role
from gateway.tokens import AUDIENCE
from hcp.stack import StackAddresses
from tests.gateway_lab import ISSUER, PASSWORD, Client, Lab, body_of, client_of, gateway_lab, keyed, signed_in

pytestmark = pytest.mark.services

TOKEN: Final = "/api/v1/auth/token"  # noqa: S105  # a path
ME: Final = "/api/v1/me"
ROOMY: Final = {"devices_max": 999}
REFUSED_SECONDS_MAX: Final = 30.0


@pytest.fixture(scope="module")
def lab(services: StackAddresses, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Give one gateway's databases to the module."""
    with gateway_lab(services, tmp_path_factory.mktemp("gateway")) as made:
        yield made


@dataclass(frozen=True, slots=True, kw_only=True)
class Action:
    """One thing to do, and what customer, anonymous and admin are answered; an admin may do nearly all of it."""

    method: str
    path: str
    customer: int
    body: dict[str, Any] | None = None
    anonymous: int = 401
    admin: int = 200


DEVICE: Final = "/api/v1/resources/tx-north.gpu-1/00/001"
MATRIX: Final = {
    "see own workloads": Action(method="GET", path="/api/v1/workloads", customer=200),
    "see own workload": Action(method="GET", path="/api/v1/workloads/{own}", customer=200),
    "see own workload's events": Action(method="GET", path="/api/v1/workloads/{own}/events", customer=200),
    "terminate own workload": Action(method="DELETE", path="/api/v1/workloads/{own}", customer=202),
    "submit": Action(method="POST", path="/api/v1/workloads", customer=201, body=body_of()),
    "ask where it would run": Action(method="POST", path="/api/v1/route", customer=200, body=body_of()),
    "see own usage": Action(method="GET", path="/api/v1/billing/usage", customer=200),
    "see own invoices": Action(method="GET", path="/api/v1/billing/invoices", customer=200),
    "see oneself": Action(method="GET", path=ME, customer=200),
    "see profitability": Action(method="GET", path="/api/v1/profitability", customer=200),
    "see its history": Action(method="GET", path="/api/v1/profitability/history", customer=200),
    "see another's workload": Action(method="GET", path="/api/v1/workloads/{other}", customer=404),
    "see another's events": Action(method="GET", path="/api/v1/workloads/{other}/events", customer=404),
    "terminate another's workload": Action(method="DELETE", path="/api/v1/workloads/{other}", customer=404),
    "query another's inference": Action(
        method="POST", path="/api/v1/workloads/{other}/v1/completions", customer=404, admin=404, body={"prompt": "a"}
    ),
    "see resources": Action(method="GET", path="/api/v1/resources", customer=403),
    "see a resource": Action(method="GET", path=DEVICE, customer=403),
    "modify a resource": Action(
        method="PATCH", path=DEVICE, customer=403, body={"is_in_maintenance": False, "why": "done"}
    ),
    "see platform revenue": Action(method="GET", path="/api/v1/platform/revenue", customer=403),
}


async def _submit(client: Client, headers: dict[str, str]) -> str:
    answer = await client.post("/api/v1/workloads", json=body_of(), headers=keyed(headers))
    assert answer.status_code == 201, answer.text
    return str(answer.json()["workload_id"])


@pytest.mark.parametrize("role", ["admin", "customer", "anonymous"])
async def test_every_cell_of_the_matrix(lab: Lab, role: str) -> None:
    """An admin may do everything; a customer its own, and another's row is not there; nobody else anything."""
    async with client_of(lab) as (client, _):
        own = await signed_in(client, lab.user(role=Role.ADMIN if role == "admin" else Role.CUSTOMER, quota=ROOMY))
        places = {"other": await _submit(client, await signed_in(client, lab.user()))}
        found, wanted = {}, {}
        for name, action in MATRIX.items():
            places["own"] = await _submit(client, own)
            headers = {} if role == "anonymous" else own
            answer = await client.request(
                action.method, action.path.format(**places), json=action.body, headers=keyed(headers)
            )
            found[name] = answer.status_code if answer.status_code >= 300 else 200
            allowed = {"admin": action.admin, "customer": action.customer, "anonymous": action.anonymous}[role]
            wanted[name] = allowed if allowed >= 300 else 200
    assert found == wanted


async def test_lists_hold_ones_own_rows_and_an_admins_hold_all(lab: Lab) -> None:
    """No list of a customer shows another's workload."""
    async with client_of(lab) as (client, _):
        ann, bob = await signed_in(client, lab.user()), await signed_in(client, lab.user())
        root = await signed_in(client, lab.user(role=Role.ADMIN))
        made = {await _submit(client, ann), await _submit(client, bob)}
        seen = {}
        for name, headers in {"ann": ann, "root": root}.items():
            page = (await client.get("/api/v1/workloads?limit=200", headers=headers)).json()
            seen[name] = {each["workload_id"] for each in page["items"]}
    assert len(seen["ann"]) == 1
    assert seen["root"] >= made


def _claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    return {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": str(uuid4()),
        "email": "eve@example.com",
        "role": "admin",
        "customer_id": str(uuid4()),
        "sid": str(uuid4()),
        "iat": now,
        "exp": now + 600,
    } | changes


def _forged(lab: Lab, kind: str) -> str:
    ring = load_keys(lab.config.keys_dir)
    kid: dict[str, str] = {"kid": ring.signing_kid}
    now = int(time.time())
    other = generate_private_key(public_exponent=65_537, key_size=2048)
    signed: dict[str, tuple[Any, str, dict[str, str]]] = {
        "none algorithm": (None, "none", kid),
        "public key as HMAC secret": (str(ring.jwks()["keys"][0]["n"]), "HS256", kid),
        "other key": (other, "RS256", kid),
        "unknown kid": (ring.signing_key, "RS256", {"kid": "../../etc"}),
        "no kid": (ring.signing_key, "RS256", {}),
    }
    changes: dict[str, dict[str, Any]] = {
        "expired": {"iat": now - 1_000, "exp": now - 60},
        "wrong issuer": {"iss": "https://elsewhere.test"},
        "wrong audience": {"aud": "other"},
        "from the future": {"iat": now + 120, "exp": now + 900},
        "no customer": {"customer_id": None},
        "unknown role": {"role": "god"},
    }
    claims = {name: value for name, value in _claims(**changes.get(kind, {})).items() if value is not None}
    key, algorithm, headers = signed.get(kind, (ring.signing_key, "RS256", kid))
    return jwt.encode(claims, key, algorithm=algorithm, headers=headers)


@pytest.mark.parametrize(
    "kind",
    [
        "none algorithm",
        "public key as HMAC secret",
        "other key",
        "unknown kid",
        "no kid",
        "unknown role",
        "expired",
        "wrong issuer",
        "wrong audience",
        "from the future",
        "no customer",
    ],
)
async def test_a_token_that_is_not_ours_and_in_force_is_refused(lab: Lab, kind: str) -> None:
    """Whatever is wrong with it, the answer is 401 with a challenge and a problem."""
    async with client_of(lab) as (client, _):
        answer = await client.get(ME, headers={"authorization": f"Bearer {_forged(lab, kind)}"})
    assert (answer.status_code, answer.headers["content-type"]) == (401, "application/problem+json")
    assert "invalid_token" in answer.headers["www-authenticate"]


@pytest.mark.parametrize("value", ["Bearer", "Bearer ", "Basic YTpi", "Bearer a.b.c", "Bearer " + "x" * 5_000, "token"])
async def test_an_authorization_that_is_none_is_refused(lab: Lab, value: str) -> None:
    """Other schemes, empty, overlong and broken tokens are 401, never an error of ours."""
    async with client_of(lab) as (client, _):
        assert (await client.get(ME, headers={"authorization": value})).status_code == 401


async def test_a_clock_within_the_skew_is_forgiven(lab: Lab) -> None:
    """A token issued ten seconds ahead of us is taken, as far as its signature and times go."""
    ring, now = load_keys(lab.config.keys_dir), int(time.time())
    token = jwt.encode(
        _claims(iat=now + 10, exp=now + 600), ring.signing_key, algorithm="RS256", headers={"kid": ring.signing_kid}
    )
    async with client_of(lab) as (client, _):
        answer = await client.get("/api/v1/profitability", headers={"authorization": f"Bearer {token}"})
    assert answer.status_code == 200


async def test_wrong_credentials_are_one_answer(lab: Lab) -> None:
    """Nobody learns whether the address or the password was wrong, or that the user is a service."""
    person, service = lab.user(), lab.user(kind=Kind.SERVICE)
    grants = [
        {"grant_type": "password", "email": person, "password": "wrong"},
        {"grant_type": "password", "email": "nobody@example.com", "password": PASSWORD},
        {"grant_type": "password", "email": service, "password": PASSWORD},
        {"grant_type": "client_credentials", "client_id": person, "client_secret": PASSWORD},
        {"grant_type": "refresh_token", "refresh_token": "unknown"},
    ]
    async with client_of(lab) as (client, _):
        answers = [await client.post(TOKEN, json=grant) for grant in grants]
        token = await client.post(
            TOKEN, json={"grant_type": "client_credentials", "client_id": service, "client_secret": PASSWORD}
        )
    assert {(each.status_code, each.json()["detail"]) for each in answers} == {
        (401, answers[0].json()["detail"]),
    }
    assert (token.status_code, token.json()["refresh_token"]) == (200, None)


async def test_a_refresh_token_works_once_and_its_second_use_ends_the_session(lab: Lab) -> None:
    """A stolen refresh token betrays itself: after both have used it, neither goes on."""
    async with client_of(lab) as (client, _):
        grant = {"grant_type": "password", "email": lab.user(), "password": PASSWORD}
        first = (await client.post(TOKEN, json=grant)).json()
        again = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
        second = (await client.post(TOKEN, json=again)).json()
        stolen = await client.post(TOKEN, json=again)
        after = await client.post(TOKEN, json={"grant_type": "refresh_token", "refresh_token": second["refresh_token"]})
        await _until_refused(client, {"authorization": f"Bearer {second['access_token']}"})
    assert [stolen.status_code, after.status_code] == [401, 401]


async def test_a_revocation_reaches_another_gateway(lab: Lab) -> None:
    """Signed out at one process, disabled on the command line: the token is void at the other one too."""
    email = lab.user()
    async with client_of(lab) as (one, _), client_of(lab) as (other, _):
        out, gone = await signed_in(one, email), await signed_in(one, email)
        before = [(await other.get(ME, headers=each)).status_code for each in (out, gone)]
        answer = await one.post("/api/v1/auth/revoke", json={}, headers=out)
        await _until_refused(other, out)
        still = (await other.get(ME, headers=gone)).status_code
        disable_user(lab.operational.dsn, email)
        await _until_refused(other, gone)
        back = await one.post(TOKEN, json={"grant_type": "password", "email": email, "password": PASSWORD})
    assert (before, answer.status_code, still, back.status_code) == ([200, 200], 204, 200, 401)


async def _until_refused(client: Client, headers: dict[str, str]) -> None:
    until_s = time.monotonic() + REFUSED_SECONDS_MAX
    while (await client.get(ME, headers=headers)).status_code != 401:
        assert time.monotonic() < until_s, "a revoked token must be refused"


async def test_keys_rotate_without_a_logout(lab: Lab) -> None:
    """A new key signs once it is seen; tokens of the old one count until its file is gone, and then no more."""
    async with client_of(lab) as (client, gateway):
        old = await signed_in(client, lab.user())
        old_kid = gateway.signing.ring().signing_kid
        new_kid = make_key(lab.config.keys_dir)
        assert gateway.signing.look()
        new = await signed_in(client, lab.user())
        both = [(await client.get(ME, headers=each)).status_code for each in (old, new)]
        served = (await client.get("/.well-known/jwks.json")).json()["keys"]
        (lab.config.keys_dir / f"{old_kid}.pem").unlink()
        assert gateway.signing.look()
        gateway.verifier.forget()
        after = [(await client.get(ME, headers=each)).status_code for each in (old, new)]
    header = jwt.get_unverified_header(new["authorization"].removeprefix("Bearer "))
    assert (header["kid"], {key["kid"] for key in served}) == (new_kid, {old_kid, new_kid})
    assert (both, after) == ([200, 200], [401, 200])
    assert all(key["kty"] == "RSA" and "d" not in key for key in served)
