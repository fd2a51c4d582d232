"""`python -m controllers.drivers.commission --url … --model …`: learn a server's canary, once, when it is set up."""

import argparse
import asyncio
import sys
from pathlib import Path
from typing import Final

from controllers.drivers.gpu_config import canary_toml
from controllers.drivers.http import open_session
from controllers.drivers.vllm import CANARY_TOKENS_MAX, Canary, VllmConfig, VllmWorkload
from controllers.ports import Applied

DEADLINE_MS: Final = 60_000
"""The first request of a cold server compiles; nobody waits for this one but a person."""


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    top = argparse.ArgumentParser(prog="controllers.drivers.commission", description=__doc__)
    top.add_argument("--url", required=True, help="root of the server's API; it must serve, and nothing else must run")
    top.add_argument("--model", required=True, help="served model name")
    top.add_argument("--api-key-file", type=Path, default=None)
    top.add_argument("--prompt", default="The capital of France is", help="one with an answer beyond doubt")
    top.add_argument("--tokens-max", type=int, default=4, choices=range(1, CANARY_TOKENS_MAX + 1), metavar="1..16")
    return top


async def learn(given: argparse.Namespace) -> str | None:
    """Return the canary as a line of TOML, or None after saying why there is none."""
    nothing = Canary(prompt=given.prompt, tokens_max=given.tokens_max, text="")
    key = "" if given.api_key_file is None else given.api_key_file.read_text(encoding="utf-8").strip()
    async with open_session() as session:
        workload = VllmWorkload(VllmConfig(url=given.url, model=given.model, canary=nothing, api_key=key), session)
        learned = await workload.learn_canary(prompt=given.prompt, tokens_max=given.tokens_max, deadline_ms=DEADLINE_MS)
    if isinstance(learned, Canary):
        return canary_toml(learned)
    assert not isinstance(learned, Applied), "a canary is the only success"
    sys.stderr.write(f"{learned.detail}\n")
    return None


def main() -> int:
    """Print the line; the exit status is 1 when there is none."""
    line = asyncio.run(learn(parser().parse_args()))
    if line is None:
        return 1
    sys.stdout.write(f"{line}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
