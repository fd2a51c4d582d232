"""Inference through the gateway: a customer's request to the server that runs on its workload's device."""

from typing import Final

from litestar import post
from litestar.params import JSONBody
from litestar.response import Stream

from gateway import workloads
from gateway.cursors import uuid_of
from gateway.edge import caller_of
from gateway.limits import Limit
from gateway.principals import Access
from gateway.problems import ProblemError, not_found
from gateway.records import Completion
from gateway.routes.shared import SIGNED_IN, AnyRequest, Parts, WorkloadId, errors, marked
from gateway.tracing import request_id_of
from hcp.model.workloads import WorkloadStatus, WorkloadType

BODY_BYTES_MAX: Final = 1024 * 1024
"""A long prompt is longer than anything else that the API takes."""


@post(
    "/workloads/{workload_id:str}/v1/completions",
    name="complete",
    status_code=200,
    opt=marked(Access.SIGNED_IN, Limit.READ),
    security=SIGNED_IN,
    request_max_body_size=BODY_BYTES_MAX,
    responses=errors(401, 404, 409, 413, 415, 502, 504),
)
async def complete(
    data: JSONBody[Completion],  # noqa: ARG001  # checked, then sent on as it came, with what only the server knows
    workload_id: WorkloadId,
    request: AnyRequest,
    gateway: Parts,
) -> Stream:
    """Ask your running inference workload for a completion (OpenAI's and vLLM's form); the answer is the server's.

    A workload is its owner's: an admin sees it, and its requests are none of his business.
    """
    identity = uuid_of(workload_id, "workload_id")
    caller = caller_of(request.scope)
    workload = await workloads.one(gateway.database, identity, caller=caller)
    if workload.customer_id != caller.customer_id:
        raise not_found("workload", workload_id)
    if workload.workload_type is WorkloadType.BATCH:
        raise ProblemError(409, "no_inference", f"workload_type must be one of inference, was {workload.workload_type}")
    if workload.status is not WorkloadStatus.RUNNING or not workload.device_ids:
        raise ProblemError(409, "not_running", f"workload must be running, was {workload.status}")
    body, request_id = await request.body(), request_id_of(request.scope)
    answer = await gateway.inference.complete(workload.device_ids[0], body, request_id=request_id)
    return Stream(answer.content, media_type=answer.media_type)


HANDLERS: Final = [complete]
