"""The models that are served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.emulator.contract.models import no_such_model
from batchkit.emulator.contract.replies import ApiError, json_reply
from batchkit.emulator.dialects.objects import model_shown

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.requests import Request
    from starlette.responses import Response

    from batchkit.emulator.faults import Call, HttpFault
    from batchkit.emulator.state.world import World


async def list_models(world: World, _request: Request, _call: Call, _faults: Sequence[HttpFault]) -> Response:
    """List the models that are served at the current provider time."""
    ids = sorted(world.listed_models(world.clock.now()))
    data = [model_shown(world.dialect, model_id) for model_id in ids]
    return json_reply(data if world.dialect.list_style == "bare" else {"object": "list", "data": data})


async def get_model(world: World, _request: Request, call: Call, _faults: Sequence[HttpFault]) -> Response:
    """Return one model. Raises ``ApiError`` 404 for an unknown or retired one."""
    served = world.served_models(world.clock.now())
    if served is not None and call.object_id not in served:
        raise ApiError(404, no_such_model(call.object_id), code="model_not_found")
    return json_reply(model_shown(world.dialect, call.object_id))
