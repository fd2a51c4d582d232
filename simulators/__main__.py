"""`python -m simulators market|fleet`: one simulator as a process, for tests; people use `hcp simulate`."""

import argparse
import sys
from pathlib import Path

from hcp.clock import wall_ms
from hcp.errors import HcpError
from hcp.fleet import load_fleet
from hcp.logs import configure_logs
from hcp.model.units import EpochMs
from hcp.settings import load_settings
from simulators.fleet import run_fleet
from simulators.market import run_market, sample_start_ms


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="simulators", description=__doc__)
    parser.add_argument("simulator", choices=("market", "fleet"))
    parser.add_argument("--fleet-file", type=Path, default=None)
    parser.add_argument("--speed", type=float, default=1.0, help="event seconds a wall second; 0: no waiting (market)")
    parser.add_argument("--origin-ms", type=int, default=sample_start_ms())
    parser.add_argument("--started-ms", type=int, default=None)
    parser.add_argument("--source", type=Path, default=None)
    parser.add_argument("--synthetic-seed", type=int, default=None)
    parser.add_argument("--loop", action="store_true")
    parser.add_argument("--tick-ms", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--fault", action="append", default=[])
    parser.add_argument("--nvml", action="append", default=[], metavar="SHARD=FILE")
    parser.add_argument("--without", action="append", default=[], metavar="CLUSTER")
    return parser.parse_args()


def main() -> int:
    """Run what the command line names."""
    given = _arguments()
    settings = load_settings(fleet_file=given.fleet_file)
    configure_logs(level=settings.log_level, log_format=settings.log_format, process=f"simulate.{given.simulator}")
    fleet = load_fleet(settings.fleet_file)
    started_ms = EpochMs(given.started_ms) if given.started_ms is not None else wall_ms()
    if given.simulator == "market":
        return run_market(
            settings=settings,
            fleet=fleet,
            speed_ratio=given.speed,
            source=given.source,
            synthetic_seed=given.synthetic_seed,
            origin_ms=EpochMs(given.origin_ms),
            started_ms=started_ms,
            loop=given.loop,
        )
    return run_fleet(
        settings=settings,
        fleet=fleet,
        tick_ms=given.tick_ms,
        seed=given.seed,
        speed_ratio=given.speed,
        origin_ms=EpochMs(given.origin_ms),
        started_ms=started_ms,
        faults=tuple(given.fault),
        nvml=tuple(given.nvml),
        without=tuple(given.without),
    )


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HcpError as error:
        sys.exit(f"error: {error}")
