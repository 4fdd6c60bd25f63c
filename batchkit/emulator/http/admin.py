"""The emulator's own routes beside the provider's: the ledger and the scenario, for a test in another process."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import orjson
from starlette.concurrency import run_in_threadpool
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from batchkit.emulator.contract.replies import ApiError, json_reply
from batchkit.emulator.faults import fault_catalogue
from batchkit.emulator.scenarios.scenario import ScenarioError, load_scenario, parse_scenario, scenario_names
from batchkit.emulator.state.ledger import execution_lines, synchronous_lines, take_ledger

if TYPE_CHECKING:
    from starlette.requests import Request

    from batchkit.emulator.scenarios.scenario import Scenario
    from batchkit.emulator.state.world import World


def routes(world: World) -> list[Route]:
    """Return the routes under ``/_emulator``; they need no key."""

    async def ledger(_request: Request) -> Response:
        taken = asdict(await run_in_threadpool(take_ledger, world, with_executions=False))
        del taken["executed"], taken["successes"], taken["synchronous_executed"]
        return json_reply({"time": world.clock.now(), "speed": world.clock.speed, **taken})

    async def executions(_request: Request) -> Response:
        return StreamingResponse(execution_lines(world), media_type="application/jsonl")

    async def synchronous(_request: Request) -> Response:
        return StreamingResponse(synchronous_lines(world), media_type="application/jsonl")

    async def show_scenario(_request: Request) -> Response:
        return Response(world.script.scenario.model_dump_json(), media_type="application/json")

    async def put_scenario(request: Request) -> Response:
        try:
            scenario = _given_scenario(orjson.loads(await request.body()))
        except (orjson.JSONDecodeError, ScenarioError) as error:
            return ApiError(400, str(error)).reply()
        await run_in_threadpool(world.set_scenario, scenario)
        return await show_scenario(request)

    async def faults(_request: Request) -> Response:
        return json_reply([asdict(info) for info in fault_catalogue()])

    return [
        Route("/_emulator/ledger", ledger, methods=["GET"]),
        Route("/_emulator/executions", executions, methods=["GET"]),
        Route("/_emulator/synchronous", synchronous, methods=["GET"]),
        Route("/_emulator/scenario", show_scenario, methods=["GET"]),
        Route("/_emulator/scenario", put_scenario, methods=["PUT"]),
        Route("/_emulator/faults", faults, methods=["GET"]),
    ]


def _given_scenario(given: Any) -> Scenario:
    """Read a scenario from JSON: an object, or the name of a ready-made one."""
    if not isinstance(given, str):
        return parse_scenario(given, "scenario")
    # A path would let a client probe the files of this machine, so only names are accepted.
    if given not in scenario_names():
        raise ScenarioError(f"unknown scenario {given!r}; there are: {', '.join(scenario_names())}")
    return load_scenario(given)
