"""`python -m simulators.nvml.cli run --gpus 8 -- COMMAND`: any program on simulated GPUs, for trying things by hand.

While it runs, `show`, `load`, `fault`, `xid` and `mend` change what it sees, from another shell and the same --state.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from hcp.errors import HcpError
from hcp.model.units import Celsius, Ratio, Watts
from simulators.nvml.build import build_library, environment
from simulators.nvml.layout import FOREVER, GPUS_MAX, Call, NvmlReturn
from simulators.nvml.models import MODELS
from simulators.nvml.state import FakeGpu, NvmlSimulator

_STATE: Final = Path(".hcp/nvml/state")


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    top = argparse.ArgumentParser(prog="simulators.nvml.cli", description=__doc__)
    verbs = top.add_subparsers(dest="verb", required=True)
    for name, help_text in (
        ("run", "run a command on simulated GPUs"),
        ("show", "print the GPUs"),
        ("load", "set power, load and temperature of a GPU"),
        ("fault", "let a GPU answer with an error, get lost or hang"),
        ("xid", "let a GPU report an Xid"),
        ("mend", "take back every fault of a GPU"),
    ):
        verb = verbs.add_parser(name, help=help_text)
        verb.add_argument("--state", type=Path, default=_STATE, help="the state file; default: %(default)s")
        if name not in {"run", "show"}:
            verb.add_argument("--gpu", type=int, default=0)
    run, load, fault = verbs.choices["run"], verbs.choices["load"], verbs.choices["fault"]
    run.add_argument("--gpus", type=int, default=8, choices=range(1, GPUS_MAX + 1), metavar=f"1..{GPUS_MAX}")
    run.add_argument("--model", choices=sorted(MODELS), default="h100")
    run.add_argument("--new", action="store_true", help="begin with a new state file even where there is one")
    run.add_argument("command", nargs="+")
    load.add_argument("--power-watts", type=float, required=True)
    load.add_argument("--utilisation-ratio", type=float, default=1.0)
    load.add_argument("--temperature-celsius", type=float, default=None)
    fault.add_argument("what", choices=["lost", "off-bus", "hang", "slow", *(code.name.lower() for code in NvmlReturn)])
    fault.add_argument("--call", choices=[call.name.lower() for call in Call], default=Call.ANY.name.lower())
    fault.add_argument("--times", type=int, default=FOREVER)
    fault.add_argument("--slow-ms", type=int, default=1_000)
    verbs.choices["xid"].add_argument("xid", type=int)
    return top


def _run(given: argparse.Namespace) -> int:
    if given.new or not given.state.exists():
        NvmlSimulator.create(given.state, models=(MODELS[given.model],) * given.gpus).close()
    library = build_library(given.state.absolute().parent)
    variables = [f"{name}={value}" for name, value in environment(library=library, state=given.state).items()]
    sys.stdout.flush()
    os.execvp("env", ["env", *variables, *given.command])  # noqa: S606  # becomes the command; no shell between


def _show(simulator: NvmlSimulator) -> None:
    for gpu in simulator.gpus:
        print(f"{gpu.index} {gpu.uuid} {gpu.power_watts:.0f} W of {gpu.power_limit_watts:.0f} W")  # noqa: T201


def _load(gpu: FakeGpu, given: argparse.Namespace) -> None:
    gpu.set_load(power_watts=Watts(given.power_watts), utilisation_ratio=Ratio(given.utilisation_ratio))
    if given.temperature_celsius is not None:
        gpu.set_temperature(Celsius(given.temperature_celsius))


def _fault(gpu: FakeGpu, given: argparse.Namespace) -> None:
    call = Call[given.call.upper()]
    special: dict[str, Callable[[], None]] = {
        "lost": gpu.lose,
        "off-bus": gpu.fall_off_the_bus,
        "hang": lambda: gpu.ask_hang(call=call),
        "slow": lambda: gpu.ask_slow(given.slow_ms, call=call),
    }
    if given.what in special:
        special[given.what]()
    else:
        gpu.ask_fault(NvmlReturn[given.what.upper()], call=call, times=given.times)


def _mend(gpu: FakeGpu) -> None:
    gpu.mend()
    gpu.recover()


def main() -> int:
    """Do what the command line says."""
    given = parser().parse_args()
    if given.verb == "run":
        return _run(given)
    with NvmlSimulator(given.state) as simulator:
        if given.verb == "show":
            _show(simulator)
            return 0
        if not 0 <= given.gpu < len(simulator.gpus):
            raise HcpError(f"--gpu must be 0 to {len(simulator.gpus) - 1}, was {given.gpu}")
        gpu = simulator.gpu(given.gpu)
        match given.verb:
            case "load":
                _load(gpu, given)
            case "fault":
                _fault(gpu, given)
            case "xid":
                simulator.raise_xid(given.gpu, given.xid)
            case _:
                _mend(gpu)
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except HcpError as error:
        sys.exit(f"error: {error}")
