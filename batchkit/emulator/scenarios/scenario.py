"""Scenarios: the speed of the emulated provider, its limits, and its faults.

A scenario file is TOML, or JSON of the same shape; every key may be left out::

    seed = 7
    plan = "free"               # or "developer"
    models = ["openai/gpt-oss-20b", "my/own-model"]  # the models that are served, instead of the provider's

    [timing]                    # provider seconds
    seconds_per_line = 0.5

    [limits]
    max_bytes = 100_000_000

    [rates]                     # of synchronous calls, instead of the plan's
    requests_per_minute = 30

    [[replies]]                 # the answers of models to prompts that match; the first match counts
    match = "(?i)love|great"
    content = "positive"

    [[faults]]
    fault = "expire-lines"
    fraction = 0.3
    attempts = 1

``fault_catalogue`` lists the faults and their parameters.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, ClassVar, Self

import orjson
from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, field_validator

from batchkit.emulator.contract.rates import PlanName, Rates
from batchkit.emulator.faults import Fault, suggestion
from batchkit.errors import BatchkitError


class ScenarioError(BatchkitError):
    """A scenario is unknown, unreadable or malformed."""

    exit_code: ClassVar[int] = 2


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Timing(_Section):
    """The durations of a batch in provider seconds; the emulator's speed converts them to real time.

    ``file_ready_seconds`` is how long a new file cannot be used yet; None is what the provider is known for.
    """

    validating_seconds: float = Field(default=1.0, ge=0)
    seconds_per_line: float = Field(default=0.01, ge=0)
    finalizing_seconds: float = Field(default=1.0, ge=0)
    cancelling_seconds: float = Field(default=5.0, ge=0)
    file_ready_seconds: float | None = Field(default=None, ge=0)


class ScenarioLimits(_Section):
    """The limits; None takes the provider's own. How many ids fit a query of Groq's is its SDK's word, errors shown are ours."""

    max_lines: int | None = Field(default=None, ge=1)
    max_bytes: int | None = Field(default=None, ge=1)
    max_line_bytes: int | None = Field(default=None, ge=1)
    max_files: int | None = Field(default=None, ge=1)
    ids_per_query: int = Field(default=200, ge=1)
    page_size: int | None = Field(default=None, ge=1)
    errors_shown: int = Field(default=500, ge=1)


class RateSection(Rates):
    """The rate limits of synchronous calls: of every model, or in ``models`` of one; what is left out is the plan's.

    ``completion_tokens`` are reserved for a request that names no limit of its own. With ``give_back`` a request's reservation
    shrinks to what it used, once it is answered.
    """

    models: dict[str, Rates] = Field(default={})
    completion_tokens: int = Field(default=1_024, ge=1)
    give_back: bool = True


class Reply(_Section):
    """The answer of chat models if their last user message matches; ``models`` empty means all models."""

    match: str
    content: str
    models: frozenset[str] = frozenset()

    @field_validator("match")
    @classmethod
    def _is_pattern(cls, value: str) -> str:
        try:
            re.compile(value)
        except re.error as error:
            raise ValueError(f"not a regular expression: {error}") from None
        return value

    def says(self, model: str, prompt: str) -> bool:
        """Return whether this is the reply of a model to a prompt."""
        return (not self.models or model in self.models) and re.search(self.match, prompt) is not None


class Scenario(_Section):
    """A script for the emulator. ``seed`` decides every choice that a fault makes by share.

    ``models`` are the ids that are listed; None lists the provider's. Requests to others are answered 404 model_not_found, unless
    ``any_model`` is set. ``plan`` decides the rate limits, the service tiers, and whether batches are offered; None refuses nothing.
    """

    name: str = "unnamed"
    description: str = ""
    seed: int = 0
    timing: Timing = Timing()
    limits: ScenarioLimits = ScenarioLimits()
    models: frozenset[str] | None = None
    any_model: bool = False
    plan: PlanName | None = None
    rates: RateSection = RateSection()
    replies: tuple[Reply, ...] = ()
    faults: tuple[SerializeAsAny[Fault], ...] = ()

    @field_validator("faults", mode="before")
    @classmethod
    def _by_name(cls, value: Any) -> Any:
        """Convert ``{"fault": name, parameters...}`` into faults."""
        return tuple(map(_build_fault, value)) if isinstance(value, (list, tuple)) else value

    def with_faults(self, *faults: Fault) -> Self:
        """Return a copy with further faults."""
        return self.model_copy(update={"faults": (*self.faults, *faults)})


def _build_fault(item: Any) -> Any:
    if not isinstance(item, dict):
        return item
    parameters = dict(item)
    name = parameters.pop("fault", None)
    if name is None:
        raise ValueError("a fault needs its name under the key 'fault'")
    kind = Fault.registry.get(name)
    if kind is None:
        raise ValueError(f"unknown fault {name!r}{suggestion(str(name), set(Fault.registry))}")
    try:
        return kind.model_validate(parameters)
    except ValidationError as error:
        raise ValueError(f"fault {name!r}: {_explain(error, kind)}") from None


def parse_scenario(data: Any, source: str) -> Scenario:
    """Read a scenario from parsed JSON or TOML; ``source`` names it in errors. Raises ``ScenarioError``."""
    try:
        return Scenario.model_validate(data)
    except ValidationError as error:
        raise ScenarioError(f"{source}: {_explain(error, Scenario)}") from None


def load_scenario(source: Scenario | str | Path | None) -> Scenario:
    """Return a scenario: the given one, a ready-made one by name, or one from a ``.toml`` or ``.json`` file; None means ``clean``.

    Raises ``ScenarioError`` for unknown names, files that cannot be read and contents that make no sense.
    """
    from batchkit.emulator.scenarios.ready_made import READY_MADE  # noqa: PLC0415 - the ready-made ones are built from this module

    if source is None:
        return READY_MADE["clean"]
    if isinstance(source, Scenario):
        return source
    if isinstance(source, str) and source in READY_MADE:
        return READY_MADE[source]
    path = Path(source)
    if path.suffix not in {".toml", ".json"}:
        hint = f"give a .toml or .json file, or one of: {', '.join(READY_MADE)}"
        raise ScenarioError(f"unknown scenario {str(source)!r}{suggestion(str(source), set(READY_MADE))}", hint=hint)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise ScenarioError(f"scenario {path} cannot be read: {error.strerror}") from error
    try:
        data = tomllib.loads(raw.decode()) if path.suffix == ".toml" else orjson.loads(raw)
    except ValueError as error:
        raise ScenarioError(f"scenario {path} is not valid {path.suffix[1:].upper()}: {error}") from error
    return parse_scenario(data, str(path))


def scenario_names() -> list[str]:
    """Return the names of the ready-made scenarios, simplest first."""
    from batchkit.emulator.scenarios.ready_made import READY_MADE  # noqa: PLC0415 - as above

    return list(READY_MADE)


def _explain(error: ValidationError, model: type[BaseModel]) -> str:
    """Return one line with the place and the problem."""
    problems = []
    for item in error.errors(include_url=False):
        where = ".".join(map(str, item["loc"]))
        if item["type"] == "extra_forbidden":
            last = str(item["loc"][-1])
            known = set(_fields_at(model, item["loc"][:-1]))
            problems.append(f"unknown key {where!r}{suggestion(last, known)}")
        else:
            message = item["msg"].removeprefix("Value error, ")
            problems.append(f"{where}: {message}" if where else message)
    return "; ".join(problems)


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> list[str]:
    for part in location:
        info = model.model_fields.get(str(part))
        if info is None or not (isinstance(info.annotation, type) and issubclass(info.annotation, BaseModel)):
            return []
        model = info.annotation
    return list(model.model_fields)
