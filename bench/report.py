"""What every benchmark prints, in one shape: the machine it ran on, and figures beside the limit of the same run."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from statistics import quantiles
from typing import Final

from rich.console import Console
from rich.table import Table

WIDTH: Final = 120
BYTES_PER_GIB: Final = 2**30


def show(*parts: Table | str) -> None:
    """Print tables and lines."""
    console = Console(width=WIDTH, highlight=False)
    for part in parts:
        console.print(part)


def table(title: str, *columns: str) -> Table:
    """Return an empty table: the first column says what, the others hold figures."""
    made = Table(title=title)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left")
    return made


def machine() -> str:
    """Return what the figures depend on: cores, memory, system, Python, and how busy it was when asked."""
    memory_gib = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / BYTES_PER_GIB
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), {memory_gib:.0f} GiB, {platform.system()} "
        f"{platform.release()}, Python {platform.python_version()}, load average {os.getloadavg()[0]:.1f}"
    )


def p50_p99(values: Sequence[float]) -> tuple[float, float]:
    """Return the median and the 99th percentile of two values or more, in their unit."""
    cuts = quantiles(values, n=100, method="inclusive")
    return cuts[49], cuts[98]


def timed_ms(work: Callable[[], object], rounds: int) -> list[float]:
    """Return the milliseconds of each round."""
    taken: list[float] = []
    for _ in range(rounds):
        begun = time.perf_counter_ns()
        work()
        taken.append((time.perf_counter_ns() - begun) / 1e6)
    return taken


def against(figure: float, limit: float) -> tuple[str, str]:
    """Return two cells: the limit, and what share of it the figure is."""
    return f"{limit:,.0f}", f"{figure / limit:.2f}"
