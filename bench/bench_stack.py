"""Start and stop times of the embedded services; `--cold` installs into a throwaway cache first (downloads 130 MB)."""

import argparse
import tempfile
import time
from pathlib import Path

from bench.report import against, machine, show, table
from hcp.kafka.admin import ensure_topics
from hcp.settings import load_settings
from hcp.stack import Stack, default_cache_dir, install
from hcp.topics import all_topics

WARM_SECONDS_LIMIT = 10.0
COLD_SECONDS_LIMIT = 180.0


def parser() -> argparse.ArgumentParser:
    """Return what the command line takes."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--cold", action="store_true", help="install into an empty cache first")
    return made


def main() -> None:
    """Print the table."""
    arguments = parser().parse_args()
    found = table("embedded stack", "what", "seconds", "limit", "ratio")

    def row(what: str, began: float, limit: float) -> None:
        took = time.perf_counter() - began
        found.add_row(what, f"{took:.1f}", *against(took, limit))

    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:  # a random name within
        Path(folder).chmod(0o755)
        cache = Path(folder) / "cache" if arguments.cold else default_cache_dir(load_settings().cache_dir)
        if arguments.cold:
            began = time.perf_counter()
            install(cache, lambda _: None)
            row("install, empty cache", began, COLD_SECONDS_LIMIT)
        stack = Stack(Path(folder) / "stacks" / "bench", cache)
        for what in ("first start (format, initdb)", "warm start"):
            began = time.perf_counter()
            addresses = stack.up(attached=True)
            row(what, began, WARM_SECONDS_LIMIT)
            if what.startswith("first"):
                began = time.perf_counter()
                topics = tuple(all_topics())
                ensure_topics(addresses.kafka_bootstrap, topics)
                row(
                    f"{len(topics)} topics, {sum(topic.partitions for topic in topics)} partitions",
                    began,
                    WARM_SECONDS_LIMIT,
                )
            began = time.perf_counter()
            stack.down()
            row("stop", began, WARM_SECONDS_LIMIT)
    show(machine(), found)


if __name__ == "__main__":
    main()
