"""The synchronous endpoints: chat, responses, embeddings, audio and whatever else of a provider calls a model.

They do not go through the web framework: a call is one function in the event loop, so that one core answers thousands a
second. Its order is that of the other calls: it is counted, its key is checked, the scenario may refuse it, the rate limits
admit it, it is executed, and the scenario may change its answer, delay it, or lose it.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Protocol

import orjson
from starlette.responses import Response

from batchkit.emulator.answers.answers import answer
from batchkit.emulator.answers.demand import HEARING, demand_of, tokens_used
from batchkit.emulator.answers.model_request import ModelRequest
from batchkit.emulator.contract.endpoints import OPERATION_OF
from batchkit.emulator.contract.ids import fresh_entropy, type_id
from batchkit.emulator.contract.outcome import EmulatedOutcome
from batchkit.emulator.contract.replies import ApiError, CutReply, HangUp, Refusal
from batchkit.emulator.dialects.refusals import refusal_body
from batchkit.emulator.faults import Selectable
from batchkit.emulator.faults.calls import FlexFull, flex_is_full
from batchkit.emulator.faults.replies import LimitedCapacity
from batchkit.emulator.http.capacity import Room
from batchkit.emulator.http.events import events
from batchkit.emulator.http.keys import check_key
from batchkit.emulator.state.rate_limits import RateLimits, Reservation

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchkit.emulator.faults import Call, HttpFault
    from batchkit.emulator.scenarios.script import Script
    from batchkit.emulator.state.world import World

_OK = 200
_ERROR_CLASS = 400
_SAVE_SECONDS = 0.02
_JSON = "application/json"
_WAV = "audio/wav"
_MAX_JSON_BYTES = 32_000_000
_MAX_REQUEST_CHARACTERS = 200
_OWN_HEADERS = frozenset({"content-type", "content-length"})
_TIERS = ("on_demand", "flex", "auto", "performance")


class Peer(Protocol):
    """The connection that a call came in on."""

    @property
    def is_open(self) -> bool:
        """Return whether an answer can still be sent."""
        ...

    def reply(self, data: bytes, *, close: bool = False) -> None:
        """Send a whole answer; with ``close`` the connection ends after it."""
        ...

    def hang_up(self, *, reset: bool) -> None:
        """End the connection without an answer."""
        ...


@dataclass(slots=True)
class Incoming:
    """A call as it came in: ``body`` is its JSON or its form, or the refusal of what could not be read.

    ``digest`` names the body, headers have lower-case names; ``closes`` is whether the client wants no further answer.
    """

    url: str
    headers: dict[str, str]
    body: dict[str, Any] | ApiError
    digest: str
    closes: bool = False


@dataclass(slots=True)
class _Exchange:
    """A call that is being answered. ``request`` is its name in the ledger once it was executed."""

    incoming: Incoming
    peer: Peer
    call: Call
    faults: list[HttpFault]
    request_id: str
    delay: float = 0.0
    tier: str = "on_demand"
    model: str = ""
    reservation: Reservation | None = None
    used_tokens: int = 0
    request: str | None = None


@dataclass(slots=True)
class _Reply:
    status: int
    body: bytes
    kind: str = _JSON
    headers: tuple[tuple[str, str], ...] = ()
    kept: bytes | None = None


class Synchronous:
    """Answers synchronous calls; every method runs in the event loop's thread."""

    def __init__(self, world: World, api_key: str | None) -> None:
        self._world = world
        self._dialect = world.dialect
        self._api_key = api_key
        self._is_groq = world.dialect.shape == "groq"
        self._script: Script | None = None
        self._saving = False
        base = world.dialect.base_path
        self.urls = {
            (base + url.removeprefix("/v1")).encode(): url
            for url in (*world.dialect.endpoints, *world.dialect.also_synchronous)
        }
        region = "x-groq-region: emulator\r\n" if self._is_groq else ""
        self._head_end = (
            f"{region}cache-control: private, max-age=0, no-store, no-cache, must-revalidate\r\nvary: Origin\r\n"
        )

    def max_body_bytes(self, url: str) -> int:
        """Return the size of the largest JSON, or of the largest audio file, that a call may have."""
        return self._world.script.plan.max_audio_bytes if url in HEARING else _MAX_JSON_BYTES

    def begin(self, incoming: Incoming, peer: Peer) -> None:
        """Answer a call, at once or later."""
        self._follow_scenario()
        body = incoming.body if isinstance(incoming.body, dict) else {}
        call = self._world.arrive(OPERATION_OF[incoming.url], "", body)
        faults = self._world.script.call_faults(call)
        exchange = _Exchange(incoming, peer, call, faults, type_id("req", call.at, fresh_entropy()))
        self._world.synchronous.arrived()
        try:
            check_key(incoming.headers, self._dialect.key_headers, self._api_key)
            for fault in faults:
                exchange.delay += fault.delay_seconds(call)
                refusal = fault.refuse(call)
                if refusal is not None:
                    self._deliver(exchange, refusal)
                    return
            if isinstance(incoming.body, ApiError):
                raise incoming.body
            self._admit(exchange, body)
        except ApiError as error:
            self._deliver(exchange, error.reply())
            return
        self._enter(exchange)

    def _follow_scenario(self) -> None:
        script = self._world.script
        if script is not self._script:
            self._script = script
            organization = f"org_{self._world.project_id.partition('_')[2]}"
            self._limits = RateLimits(script.scenario, organization, daily=self._dialect.requests_header == "day")
            self._rooms: dict[int, Room[_Exchange]] = {}

    def _admit(self, exchange: _Exchange, body: dict[str, Any]) -> None:
        """Check the model and the tier, and reserve what the request asks for. Raises ``ApiError``."""
        model, url, now = body.get("model"), exchange.incoming.url, exchange.call.at
        if not isinstance(model, str) or not model:
            # The answer will say so; no model's limits count it.
            return
        served = self._world.served_models(now)
        if served is not None and model not in served:
            return
        exchange.model = model
        exchange.tier = self._tier(body.get("service_tier"))
        scenario = self._world.script.scenario
        demand = demand_of(url, body, scenario.rates.completion_tokens)
        reservation = self._limits.admit(model, exchange.tier, demand, now, hears=url in HEARING)
        exchange.reservation = reservation
        falls_to_flex = reservation.tier == "flex" and exchange.tier == "auto"
        exchange.tier = reservation.tier
        if falls_to_flex and any(isinstance(fault, FlexFull) for fault in exchange.faults):
            raise flex_is_full()

    def _tier(self, wanted: Any) -> str:
        """Return the tier that a request names. Raises ``ApiError`` 400 for one that the plan does not have."""
        if wanted is None or not self._is_groq:
            return "on_demand"
        if wanted not in _TIERS:
            choices = ", ".join(_TIERS)
            raise ApiError(400, f"'service_tier' : value must be one of {choices}", param="service_tier")
        if wanted not in self._world.script.plan.tiers:
            raise ApiError(400, f"`service_tier` `{wanted}` is not available for this org", param="service_tier")
        return str(wanted)

    def _enter(self, exchange: _Exchange) -> None:
        """Execute a call, when there is room for it."""
        capacity = next((fault for fault in exchange.faults if isinstance(fault, LimitedCapacity)), None)
        if capacity is None:
            self._execute(exchange)
            return
        room = self._rooms.get(id(capacity))
        if room is None:
            room = Room(capacity, self._elapsed, self._execute, lambda waiting: waiting.peer.is_open, self._abandon)
            self._rooms[id(capacity)] = room
        if not room.enter(exchange):
            self._deliver(exchange, capacity.refusal().reply())

    def _elapsed(self) -> float:
        return self._world.clock.now() - self._world.scenario_at

    def _execute(self, exchange: _Exchange) -> None:
        """Answer a call that was admitted; from here on it counts as executed, whatever becomes of its answer."""
        incoming, world = exchange.incoming, self._world
        body: dict[str, Any] = incoming.body  # type: ignore[assignment] # what could not be read was refused
        now = world.clock.now()
        asked = ModelRequest(
            incoming.url,
            body,
            fresh_entropy(),
            exchange.request_id,
            int(now),
            exchange.tier,
            world.script.replies,
            world.served_models(now),
            world.dialect,
        )
        request = incoming.headers.get("x-client-request-id", "")[:_MAX_REQUEST_CHARACTERS] or incoming.digest
        status, answered = answer(asked)
        if world.script.lines:
            status, answered = self._with_line_faults(exchange, request, status, answered)
        succeeded = status < _ERROR_CLASS
        exchange.request = request
        world.synchronous.executed(request, succeeded=succeeded)
        if succeeded:
            exchange.used_tokens = tokens_used(incoming.url, body, answered)
            seconds = exchange.reservation.demand.seconds if exchange.reservation is not None else 0.0
            world.synchronous.used(exchange.model, exchange.tier, exchange.used_tokens, seconds)
        reply = self._written(asked, status, answered)
        if not exchange.faults:
            self._later(exchange.delay, self._finish, exchange, reply)
            return
        response = Response(reply.body, reply.status, media_type=reply.kind)
        for fault in exchange.faults:
            response = fault.alter(exchange.call, response)
        self._deliver(exchange, response)

    def _with_line_faults(self, exchange: _Exchange, request: str, status: int, answered: Any) -> tuple[int, Any]:
        """Apply the faults of single lines that concern an answer; one that leaves a line without an answer has no effect here."""
        script, model = self._world.script, exchange.model
        attempt = self._world.synchronous.executions(request) if any(fault.attempts for fault in script.lines) else 0
        line = Selectable(request, 1, 1, attempt, model)
        for fault in script.lines:
            if fault.count is None and fault.selects(line, script.seed):
                outcome = EmulatedOutcome("", request, exchange.request_id, status, answered)
                outcome.settle()
                fault.apply(outcome)
                if outcome.executed and not outcome.held and outcome.status >= _OK:
                    status, answered = outcome.status, outcome.body
        return status, answered

    def _written(self, asked: ModelRequest, status: int, answered: Any) -> _Reply:
        if isinstance(answered, bytes):
            return _Reply(status, answered, _WAV)
        if isinstance(answered, str):
            return _Reply(status, answered.encode(), "text/plain; charset=utf-8")
        if status >= _ERROR_CLASS:
            status, answered = refusal_body(self._dialect, status, answered["error"])
        elif asked.body.get("stream") and "choices" in answered:
            return _Reply(status, b"".join(events(answered, asked)), "text/event-stream")
        return _Reply(status, orjson.dumps(answered))

    def _deliver(self, exchange: _Exchange, response: Response) -> None:
        """Send a refusal, or an answer that a fault has changed."""
        if isinstance(response, HangUp):
            self._later(exchange.delay + response.seconds, self._hang_up, exchange, response.reset)
            return
        if isinstance(response, Refusal):
            status, body = refusal_body(self._dialect, response.status_code, response.error)
            reply = _Reply(status, orjson.dumps(body), headers=tuple(response.given_headers.items()))
        else:
            kept = response.kept if isinstance(response, CutReply) else None
            further = tuple((name, value) for name, value in response.headers.items() if name not in _OWN_HEADERS)
            kind = response.headers.get("content-type", _JSON)
            reply = _Reply(response.status_code, bytes(response.body), kind, further, kept)
        self._later(exchange.delay, self._finish, exchange, reply)

    def _later(self, delay: float, act: Callable[..., None], *arguments: Any) -> None:
        if delay:
            asyncio.get_running_loop().call_later(delay, act, *arguments)
        else:
            act(*arguments)

    def _finish(self, exchange: _Exchange, reply: _Reply) -> None:
        now = self._world.clock.now()
        self._settle(exchange)
        first = (
            f"HTTP/1.1 {reply.status} {_phrase(reply.status)}\r\ncontent-type: {reply.kind}\r\n"
            f"content-length: {len(reply.body)}\r\nx-request-id: {exchange.request_id}\r\n"
        )
        head = [first]
        named = [name for name, _ in reply.headers]
        for name, value in (*reply.headers, *self._limits.headers(exchange.model, exchange.tier, now)):
            head.append(f"{name}: {value}\r\n")
        if "date" not in named:
            head.append(f"date: {_date(int(now))}\r\n")
        head.append(self._head_end)
        close = reply.kept is not None or exchange.incoming.closes
        head.append("connection: close\r\n\r\n" if close else "\r\n")
        body = reply.body if reply.kept is None else reply.kept
        delivered = exchange.request if exchange.peer.is_open and reply.kept is None else None
        self._world.synchronous.ended(str(reply.status), now, delivered=delivered)
        self._save_soon()
        exchange.peer.reply("".join(head).encode("latin-1", "replace") + body, close=close)

    def _abandon(self, exchange: _Exchange) -> None:
        """End a call that nobody waits for, and that was not executed."""
        self._hang_up(exchange, False)

    def _hang_up(self, exchange: _Exchange, reset: bool) -> None:
        self._settle(exchange)
        self._world.synchronous.ended("none", self._world.clock.now())
        self._save_soon()
        exchange.peer.hang_up(reset=reset)

    def _settle(self, exchange: _Exchange) -> None:
        if exchange.reservation is not None:
            exchange.reservation.settle(exchange.used_tokens)

    def _save_soon(self) -> None:
        if not self._saving:
            self._saving = True
            asyncio.get_running_loop().call_later(_SAVE_SECONDS, self._save)

    def _save(self) -> None:
        self._saving = False
        self._world.save()


@lru_cache(maxsize=64)
def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Error"


@lru_cache(maxsize=4)
def _date(seconds: int) -> str:
    """Return the provider time: created_at is on the same clock."""
    return formatdate(seconds, usegmt=True)
