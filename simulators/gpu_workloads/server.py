"""An inference server with vLLM's HTTP API: the paths, parameters, defaults and status codes that a controller meets.

Followed: vLLM 0.17 and later, as read in its sources of 2026 (docs/hardware.md says which endpoints, and which traps).
"""

import asyncio
import time
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final

import msgspec
from aiohttp import web
from aiohttp.typedefs import Handler

from simulators.gpu_workloads.cuda import load_cupy
from simulators.gpu_workloads.cuda_model import CudaModel
from simulators.gpu_workloads.engine import TOKENS_MAX, Engine, PauseMode, Request
from simulators.gpu_workloads.faults import FaultKind, Faults, control_app, fault_middleware
from simulators.gpu_workloads.model import CpuModel, Model, Tag, text_of, tokens_of
from simulators.gpu_workloads.process import serve

BODY_BYTES_MAX: Final = 1 << 20
RELOAD_METHOD: Final = "reload_weights"


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """How the server is run.

    Attributes:
        port: Port of the API; 0 takes a free one.
        model: Name under which the model is served.
        version: What `/version` says.
        weights_mb: Size of the weights, 1 or more; a token costs about 0.1 ms for each.
        api_key: Bearer token for `/v1`; "" asks for none. The development endpoints ask for none ever.
        is_dev_mode: VLLM_SERVER_DEV_MODE=1: pause, resume, sleep and wake exist.
        is_sleep_enabled: --enable-sleep-mode: sleep deeper than level 0 exists.
        has_own_load: One endless request runs.
        is_paused: Begin paused.
        until_stdin_closes: End with the parent.
        is_cuda: Compute on the GPU, weights in its memory.
    """

    port: int = 0
    model: str = "hcp-canary"
    version: str = "0.24.0"
    weights_mb: int = 16
    api_key: str = ""
    is_dev_mode: bool = True
    is_sleep_enabled: bool = True
    has_own_load: bool = False
    is_paused: bool = False
    until_stdin_closes: bool = False
    is_cuda: bool = False


class _Completion(msgspec.Struct, frozen=True):
    prompt: str | list[int]
    model: str = ""
    max_tokens: int = 16
    temperature: float = 1.0
    return_token_ids: bool = False


class _Rpc(msgspec.Struct, frozen=True):
    method: str


def _error(status: HTTPStatus, message: str, kind: str, param: str | None = None) -> web.Response:
    error = {"message": message, "type": kind, "param": param, "code": int(status)}
    return web.json_response({"error": error}, status=int(status))


def _model(options: ServerOptions) -> Model:
    if options.is_cuda:
        return CudaModel(weights_mb=options.weights_mb, cupy=load_cupy())
    return CpuModel(weights_mb=options.weights_mb)


class Server:
    """The API over one engine."""

    def __init__(self, options: ServerOptions, faults: Faults) -> None:
        """Load the model."""
        self.options = options
        self.engine = Engine(_model(options), has_own_load=options.has_own_load)
        self._faults = faults
        self._served = 0
        self._is_corrupt = False
        if options.is_paused:
            self.engine.pause(PauseMode.KEEP)

    def mend(self) -> None:
        """Compute right tokens again."""
        if self._is_corrupt:
            self.engine.model.corrupt()
            self._is_corrupt = False

    def truth(self) -> dict[str, object]:
        """Return what the engine does, for the control port."""
        engine = self.engine
        return {
            "is_working": engine.is_stepping,
            "work": engine.tokens_total,
            "is_paused": engine.is_paused,
            "sleep_level": engine.model.sleep_level,
        }

    async def health(self, _request: web.Request) -> web.Response:
        """Answer 200 with nothing, whatever the tokens are worth."""
        return web.Response()

    async def version(self, _request: web.Request) -> web.Response:
        """Say the version."""
        return web.json_response({"version": self.options.version})

    async def models(self, _request: web.Request) -> web.Response:
        """List the one model."""
        name = self.options.model
        card = {"id": name, "object": "model", "created": 0, "owned_by": "vllm", "root": name, "parent": None}
        return web.json_response({"object": "list", "data": [{**card, "max_model_len": TOKENS_MAX}]})

    async def metrics(self, _request: web.Request) -> web.Response:
        """Say counts and how deep the engine sleeps, for Prometheus."""
        running, waiting = self.engine.counts
        label = f'engine="0",model_name="{self.options.model}"'
        lines = [
            f"vllm:num_requests_running{{{label}}} {running}",
            f"vllm:num_requests_waiting{{{label}}} {waiting}",
            f"vllm:generation_tokens_total{{{label}}} {self.engine.tokens_total}",
        ]
        level = self.engine.model.sleep_level
        for number, state in enumerate(("awake", "weights_offloaded", "discard_all")):
            lines.append(f'vllm:engine_sleep_state{{{label},sleep_state="{state}"}} {float(level == number)}')
        return web.Response(text="\n".join([*lines, ""]), content_type="text/plain")

    async def completions(self, request: web.Request) -> web.Response:
        """Compute tokens; while the engine is paused a request waits, as in the real one, until its client gives up."""
        try:
            asked = msgspec.json.decode(await request.read(), type=_Completion)
        except msgspec.MsgspecError as error:
            return _error(HTTPStatus.BAD_REQUEST, str(error), "Bad Request")
        if asked.model and asked.model != self.options.model:
            message = f"The model `{asked.model}` does not exist."
            return _error(HTTPStatus.NOT_FOUND, message, "NotFoundError", "model")
        if not 1 <= asked.max_tokens <= TOKENS_MAX:
            message = f"max_tokens must be from 1 to {TOKENS_MAX}, was {asked.max_tokens}"
            return _error(HTTPStatus.BAD_REQUEST, message, "BadRequestError", "max_tokens")
        prompt = tokens_of(asked.prompt) if isinstance(asked.prompt, str) else tuple(asked.prompt)
        wanted = len(prompt) + asked.max_tokens
        if wanted > TOKENS_MAX:
            message = f"prompt and max_tokens must be at most {TOKENS_MAX} tokens, were {wanted}"
            return _error(HTTPStatus.BAD_REQUEST, message, "BadRequestError", "prompt")
        loop = asyncio.get_running_loop()
        ended: asyncio.Future[str] = loop.create_future()

        def tell(reason: str) -> None:
            loop.call_soon_threadsafe(_tell, ended, reason)

        work = Request(prompt, tokens_max=asked.max_tokens, on_end=tell)
        if not self.engine.submit(work):
            return _error(HTTPStatus.SERVICE_UNAVAILABLE, "too many requests wait", "ServiceUnavailableError")
        try:
            reason = await ended
        except asyncio.CancelledError:
            self.engine.abort(work)
            raise
        return web.json_response(self._answer(asked, work, reason))

    def _answer(self, asked: _Completion, work: Request, reason: str) -> dict[str, object]:
        self._served += 1
        tokens = work.sequence.generated
        choice: dict[str, object] = {
            "index": 0,
            "text": "".join(text_of(token) for token in tokens),
            "logprobs": None,
            "finish_reason": reason,
            "stop_reason": None,
        }
        if asked.return_token_ids:
            choice |= {"token_ids": list(tokens), "prompt_token_ids": list(work.sequence.prompt)}
        counts = (len(work.sequence.prompt), len(tokens))
        return {
            "id": f"cmpl-{self._served}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": self.options.model,
            "choices": [choice],
            "usage": {"prompt_tokens": counts[0], "completion_tokens": counts[1], "total_tokens": sum(counts)},
        }

    async def pause(self, request: web.Request) -> web.Response:
        """Pause scheduling; `mode` is abort unless told otherwise."""
        mode = request.query.get("mode", PauseMode.ABORT)
        if mode not in set(PauseMode):
            return _error(HTTPStatus.BAD_REQUEST, f"mode must be keep, wait or abort, was {mode}", "Bad Request")
        await asyncio.to_thread(self.engine.pause, PauseMode(mode))
        return web.json_response({"status": "paused"})

    async def resume(self, request: web.Request) -> web.Response:
        """Schedule again; it wakes nothing."""
        self._meet_corruption(request.path)
        self.engine.resume()
        return web.json_response({"status": "resumed"})

    async def is_paused(self, _request: web.Request) -> web.Response:
        """Say whether scheduling is paused."""
        return web.json_response({"is_paused": self.engine.is_paused})

    async def sleep(self, request: web.Request) -> web.Response:
        """Pause, and from level 1 on give back memory; level is 1 and mode abort unless told otherwise."""
        level, mode = request.query.get("level", "1"), request.query.get("mode", PauseMode.ABORT)
        is_known = level in {"0", "1", "2"} and mode in set(PauseMode)
        if not is_known or (level != "0" and not self.options.is_sleep_enabled):
            return web.Response(status=500, text="Internal Server Error")
        await asyncio.to_thread(self.engine.sleep, int(level), PauseMode(mode))
        return web.Response()

    async def wake_up(self, request: web.Request) -> web.Response:
        """Take back memory, all of it or what `tags` name."""
        tags = request.query.getall("tags", [])
        if not set(tags) <= {*Tag, "scheduling"}:
            return web.Response(status=500, text="Internal Server Error")
        self._meet_corruption(request.path)
        wanted = {Tag(tag) for tag in tags if tag != "scheduling"} if tags else None
        await asyncio.to_thread(self.engine.wake, wanted)
        return web.Response()

    async def is_sleeping(self, _request: web.Request) -> web.Response:
        """Say whether memory is given back, or scheduling is paused: one word for both, as in the real one."""
        return web.json_response({"is_sleeping": bool(self.engine.model.sleeping) or self.engine.is_paused})

    async def collective_rpc(self, request: web.Request) -> web.Response:
        """Do the one worker call that a controller needs: reload the weights after level 2."""
        try:
            asked = msgspec.json.decode(await request.read(), type=_Rpc)
        except msgspec.MsgspecError as error:
            return _error(HTTPStatus.BAD_REQUEST, str(error), "Bad Request")
        if asked.method != RELOAD_METHOD or Tag.WEIGHTS in self.engine.model.sleeping:
            return web.Response(status=500, text="Internal Server Error")
        await asyncio.to_thread(self.engine.model.reload)
        self._is_corrupt = False
        return web.json_response({"results": [None]})

    def _meet_corruption(self, path: str) -> None:
        if not self._is_corrupt and self._faults.take(FaultKind.CORRUPT, path=path) is not None:
            self.engine.model.corrupt()
            self._is_corrupt = True


def _tell(ended: "asyncio.Future[str]", reason: str) -> None:
    if not ended.done():
        ended.set_result(reason)


def server_app(server: Server, faults: Faults) -> web.Application:
    """Return the API of vLLM; without the development mode only what customers may call."""

    @web.middleware
    async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
        key = server.options.api_key
        if key and request.path.startswith("/v1") and request.headers.get("Authorization") != f"Bearer {key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        try:
            return await handler(request)
        except web.HTTPNotFound:
            return web.json_response({"detail": "Not Found"}, status=404)

    app = web.Application(
        middlewares=[fault_middleware(faults), guard],
        client_max_size=BODY_BYTES_MAX,
        handler_args={"handler_cancellation": True},
    )
    app.add_routes(
        [
            web.get("/health", server.health),
            web.get("/version", server.version),
            web.get("/metrics", server.metrics),
            web.get("/v1/models", server.models),
            web.post("/v1/completions", server.completions),
        ]
    )
    if server.options.is_dev_mode:
        app.add_routes(
            [
                web.post("/pause", server.pause),
                web.post("/resume", server.resume),
                web.get("/is_paused", server.is_paused),
                web.post("/sleep", server.sleep),
                web.post("/wake_up", server.wake_up),
                web.get("/is_sleeping", server.is_sleeping),
                web.post("/collective_rpc", server.collective_rpc),
            ]
        )
    return app


async def run_server(options: ServerOptions, faults: Faults) -> None:
    """Serve until told to end."""
    server = Server(options, faults)
    server.engine.start()
    try:
        await serve(
            api=server_app(server, faults),
            control=control_app(faults, mend=server.mend, describe=server.truth),
            port=options.port,
            until_stdin_closes=options.until_stdin_closes,
        )
    finally:
        await asyncio.to_thread(server.engine.close)
