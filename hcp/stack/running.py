"""A stack for the length of a `with` block, for tests and the demo; and which stacks there are."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from hcp.errors import StackError
from hcp.stack.stack import DATABASE_MEMORY_MB, Stack, silent
from hcp.stack.values import Progress, StackAddresses


@contextmanager
def running_stack(
    directory: Path,
    cache_dir: Path,
    *,
    keep: bool = True,
    java_home: Path | None = None,
    progress: Progress = silent,
    database_memory_mb: int = DATABASE_MEMORY_MB,
) -> Iterator[StackAddresses]:
    """Run an attached stack for the length of a `with` block.

    Args:
        directory: The stack's own folder.
        cache_dir: Where the programs are, or will be installed.
        keep: Keep the data for the next time; otherwise it all goes, even when this process is killed.
        java_home: A Java to prefer.
        progress: Told what is being done.
        database_memory_mb: Shared memory of TimescaleDB.

    Raises:
        StackError: It cannot be started, or it runs already for somebody else.
    """
    stack = Stack(directory, cache_dir, java_home=java_home, progress=progress, database_memory_mb=database_memory_mb)
    if stack.is_running():
        raise StackError(f"stack {directory.name} runs already; `hcp stack down --name {directory.name}` first")
    addresses = stack.up(attached=True, wipe=not keep)
    try:
        yield addresses
    finally:
        stack.down()
        if not keep:
            stack.wipe()


def stacks_in(state_dir: Path) -> tuple[Path, ...]:
    """Return the directories of all stacks that were ever started under a state directory and not wiped."""
    return tuple(sorted(path.parent for path in (state_dir / "stacks").glob("*/stack.json")))
