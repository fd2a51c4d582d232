"""What a demo's customer types: who it is, in a file of this run's own, and the commands that follow a workload."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from gateway.accounts import NewUser, create_user
from gateway.migrations import prepare
from gateway.passwords import new_secret
from gateway.principals import Kind, Role
from hcp.model.facilities import Fleet

FILE_NAME: Final = "session.env"
OWNER_ONLY: Final = 0o600
COMMANDS: Final = """\
JSON='Content-Type: application/json'
TOKEN=$(curl -s "$URL/api/v1/auth/token" -H "$JSON" -d '{"grant_type":"password","email":"'$EMAIL'","password":"'$PASSWORD'"}' | jq -r .access_token)
AUTH="Authorization: Bearer $TOKEN"
WANTS='{"workload_type":"inference_interactive","requirements":{"device_class":"h100","price_usd_micros_per_device_hour_max":9000000}}'
ID=$(curl -s "$URL/api/v1/workloads" -H "$AUTH" -H "$JSON" -H "Idempotency-Key: demo-$RANDOM" -d "$WANTS" | jq -r .workload_id)
.venv/bin/hcp live $ID --url $URL --token $TOKEN --until started
curl -sw "\\n" "$URL/api/v1/workloads/$ID/v1/completions" -H "$AUTH" -H "$JSON" -d '{"prompt":"Once upon a time","max_tokens":8}'
.venv/bin/hcp live $ID --url $URL --token $TOKEN --until usage
curl -sw "\\n" -X DELETE "$URL/api/v1/workloads/$ID" -H "$AUTH"
.venv/bin/hcp live $ID --url $URL --token $TOKEN --until cancelled
curl -sw "\\n" "$URL/api/v1/billing/usage" -H "$AUTH"
curl -sw "\\n" "$URL/api/v1/billing/invoices" -H "$AUTH"
"""  # noqa: E501  # a command is one line
"""docs/gateway.md shows them too, and a test runs them as they are printed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One run's customer and admin.

    Attributes:
        url: The gateway.
        file: Shell variables URL, EMAIL and PASSWORD (and ADMIN_EMAIL, ADMIN_PASSWORD), for its owner's eyes only.
    """

    url: str
    file: Path

    def __str__(self) -> str:
        """Write what is to be typed."""
        return f". {self.file}\n{COMMANDS}"


def make_session(dsn: str, fleet: Fleet, *, url: str, folder: Path, began_ms: int) -> Session:
    """Make the gateway's database, and a customer and an admin in it whose passwords nobody else knows.

    A demo that kept its database has the users of earlier runs; those of this one are named by its beginning.

    Raises:
        StoreError: The database is away or refuses.
    """
    prepare(dsn, fleet)
    lines = [f"URL={url}"]
    for role, prefix in ((Role.CUSTOMER, ""), (Role.ADMIN, "ADMIN_")):
        name = f"{role.value}-{began_ms}"
        email, secret = f"{name}@example.com", new_secret()
        create_user(dsn, NewUser(email=email, secret=secret, kind=Kind.PERSON, role=role, customer_name=name))
        lines += [f"{prefix}EMAIL={email}", f"{prefix}PASSWORD={secret}"]
    file = folder / FILE_NAME
    file.touch(mode=OWNER_ONLY)
    file.chmod(OWNER_ONLY)  # of one that an earlier run left
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return Session(url=url, file=file)
