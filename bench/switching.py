"""What the benchmarks of the switch protocol share: the stack they start, and their tables of phases."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from rich.table import Table

from bench.report import against, p50_p99, table
from controllers.executor import BUDGETS_MS, DeviceReport
from hcp.settings import load_settings
from hcp.stack import StackAddresses, default_cache_dir, running_stack


@contextmanager
def bench_stack(name: str) -> Iterator[StackAddresses]:
    """Run a stack of a benchmark's own and remove it afterwards."""
    settings = load_settings()
    directory = settings.state_dir.absolute() / "stacks" / name
    with running_stack(directory, default_cache_dir(settings.cache_dir), keep=False) as addresses:
        yield addresses


def phase_table(title: str, reports: Sequence[DeviceReport], limit_ms: float) -> Table:
    """Return p50 and p99 of each phase against its budget, and of the whole against `limit_ms`."""
    columns = ("phase", "p50 ms", "p99 ms", "budget ms", "p99 / budget")
    found = table(f"{title}, {len(reports)} switches", *columns)
    for phase, budget_ms in BUDGETS_MS.items():
        add_timing(found, phase, [report.phases_ms[phase] for report in reports], float(budget_ms))
    add_timing(found, "total", [sum(report.phases_ms.values()) for report in reports], limit_ms)
    return found


def add_timing(to: Table, name: str, values_ms: Sequence[float], limit_ms: float) -> None:
    """Add a row: name, p50, p99, the limit, and the share of it that p99 is."""
    p50, p99 = p50_p99(values_ms)
    to.add_row(name, f"{p50:.2f}", f"{p99:.2f}", *against(p99, limit_ms))
