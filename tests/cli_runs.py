"""`hcp ...` within the test's own process: the same commands, without the seconds that starting Python takes."""

from dataclasses import dataclass

from typer.testing import CliRunner

from hcp.cli.main import app
from hcp.errors import HcpError
from hcp.stack import StackAddresses


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a command left behind.

    Attributes:
        code: Its exit code.
        out: Standard output.
        err: Standard error; the words of an HcpError, which `main` prints as one line and exit code 1.
    """

    code: int
    out: str
    err: str


def hcp(
    services: StackAddresses, *arguments: str, stdin: str | None = None, environment: dict[str, str] | None = None
) -> Said:
    """Run a command against the broker of this run; what is no error of HCP's own is raised."""
    known = {"HCP_KAFKA_BOOTSTRAP": services.kafka_bootstrap, **(environment or {})}
    result = CliRunner().invoke(app, list(arguments), input=stdin, env=known)
    if isinstance(result.exception, HcpError):
        return Said(code=1, out=result.stdout, err=str(result.exception))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(code=result.exit_code, out=result.stdout, err=result.stderr)
