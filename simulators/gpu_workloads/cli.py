"""`python -m simulators.gpu_workloads.cli miner` or `server`: one workload as a process."""

import argparse
import asyncio
from collections.abc import Coroutine

import uvloop

from simulators.gpu_workloads.faults import Faults, parse_fault


def main() -> None:
    """Run the workload that the command line names."""
    asyncio.Runner(loop_factory=uvloop.new_event_loop).run(_workload(parser().parse_args()))


def _workload(args: argparse.Namespace) -> Coroutine[None, None, None]:
    faults = Faults(tuple(args.fault))
    if args.workload == "miner":
        from simulators.gpu_workloads.miner import MinerOptions, run_miner  # noqa: PLC0415  # spares the miner numpy

        options = MinerOptions(
            port=args.port,
            access_token=args.access_token,
            is_restricted=args.restricted,
            difficulty=args.difficulty,
            poll_ms=args.poll_ms,
            worker_id=args.worker_id,
            is_paused=args.paused,
            until_stdin_closes=args.until_stdin_closes,
            is_cuda=args.cuda,
        )
        return run_miner(options, faults)
    from simulators.gpu_workloads.server import ServerOptions, run_server  # noqa: PLC0415  # as above

    return run_server(
        ServerOptions(
            port=args.port,
            model=args.model,
            version=args.version,
            weights_mb=args.weights_mb,
            api_key=args.api_key,
            is_dev_mode=not args.no_dev_mode,
            is_sleep_enabled=not args.no_sleep_mode,
            has_own_load=args.own_load,
            is_paused=args.paused,
            until_stdin_closes=args.until_stdin_closes,
            is_cuda=args.cuda,
        ),
        faults,
    )


def parser() -> argparse.ArgumentParser:
    """Return what the command line may say."""
    shared = argparse.ArgumentParser(add_help=False)
    shared.add_argument("--port", type=int, default=0, help="0 takes a free one, printed as one line of JSON")
    shared.add_argument("--paused", action="store_true", help="begin paused")
    shared.add_argument("--fault", type=parse_fault, action="append", default=[], help="kind[:path[:times[:delay_ms]]]")
    shared.add_argument("--until-stdin-closes", action="store_true", help="end with the parent, however that ends")
    shared.add_argument("--cuda", action="store_true", help="work on the first NVIDIA GPU, through CuPy")
    top = argparse.ArgumentParser(prog="simulators.gpu_workloads.cli", description=__doc__)
    workloads = top.add_subparsers(dest="workload", required=True)
    miner = workloads.add_parser("miner", parents=[shared], help="hashes; xmrig's HTTP API")
    miner.add_argument("--access-token", default="")
    miner.add_argument("--restricted", action="store_true", help="refuse what changes something, xmrig's default")
    miner.add_argument("--difficulty", type=int, default=4, help="one share in so many hashes")
    miner.add_argument("--poll-ms", type=int, default=20, help="a paused miner looks so often whether to go on")
    miner.add_argument("--worker-id", default="rig-0")
    server = workloads.add_parser("server", parents=[shared], help="computes tokens; vLLM's HTTP API")
    server.add_argument("--model", default="hcp-canary")
    server.add_argument("--version", default="0.24.0")
    server.add_argument("--weights-mb", type=int, default=16)
    server.add_argument("--api-key", default="")
    server.add_argument("--no-dev-mode", action="store_true", help="as without VLLM_SERVER_DEV_MODE=1")
    server.add_argument("--no-sleep-mode", action="store_true", help="as without --enable-sleep-mode")
    server.add_argument("--own-load", action="store_true", help="keep one endless request running")
    return top


if __name__ == "__main__":
    main()
