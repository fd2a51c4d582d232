"""`python -m controllers`: one controller until SIGTERM, set up by the environment."""

import argparse
import sys

from controllers.service import run_controller
from hcp.errors import HcpError
from hcp.fleet import load_fleet
from hcp.logs import configure_logs
from hcp.settings import load_settings
from hcp.telemetry import serve_metrics


def main() -> int:
    """Run a controller; 1 and one line on standard error when it cannot."""
    parser = argparse.ArgumentParser(prog="python -m controllers", description=__doc__)
    parser.add_argument("--facility", action="append", default=[], help="Drive only this site; may be given again.")
    arguments = parser.parse_args()
    try:
        settings = load_settings()
        configure_logs(level=settings.log_level, log_format=settings.log_format, process="controller")
        fleet = load_fleet(settings.fleet_file)
        serve_metrics(settings.metrics_port)
        return run_controller(settings=settings, fleet=fleet, facilities=tuple(arguments.facility))
    except HcpError as error:
        print(error, file=sys.stderr)  # noqa: T201  # a person reads it
        return 1


if __name__ == "__main__":
    sys.exit(main())
