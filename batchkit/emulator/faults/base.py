"""The base of faults: a fault has a name, parameters and a one-sentence explanation.

A fault belongs to one of three families, by where it acts: lines of a batch (``LineFault``), the life and the object of a
batch (``BatchFault``), and HTTP calls (``HttpFault``). Faults are not random: what they hit follows from their parameters and
the scenario's seed. Each class registers itself under its ``name``; the registry serves scenario files and the catalogue
that the command line prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from difflib import get_close_matches
from inspect import getdoc
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer

from batchkit.emulator.contract.endpoints import OPERATION_OF
from batchkit.emulator.contract.ids import fraction_of

if TYPE_CHECKING:
    from starlette.responses import Response

    from batchkit.emulator.contract.outcome import EmulatedOutcome
    from batchkit.emulator.contract.rules import BatchRules

Fraction = Annotated[float, Field(ge=0, le=1)]

ON = "operations such as batches.create, families such as files, synchronous (all that call a model), or *"

OPERATIONS = (
    "files.create",
    "files.list",
    "files.retrieve",
    "files.content",
    "files.delete",
    "batches.create",
    "batches.list",
    "batches.retrieve",
    "batches.cancel",
    "chat.completions",
    "audio.speech",
    "audio.transcriptions",
    "audio.translations",
    "completions.create",
    "embeddings.create",
    "moderations.create",
    "responses.create",
    "models.list",
    "models.retrieve",
)


SYNCHRONOUS = frozenset(OPERATION_OF.values())
"""The operations that call a model, which ``synchronous`` stands for in ``on``."""


class Fault(BaseModel):
    """The base of all faults."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    registry: ClassVar[dict[str, type[Fault]]] = {}

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Register every class that has its own name."""
        super().__pydantic_init_subclass__(**kwargs)
        if "name" in vars(cls):
            cls.registry[cls.name] = cls

    @model_serializer(mode="wrap")
    def _with_name(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {"fault": self.name, **handler(self)}


@dataclass(frozen=True, slots=True)
class Selectable:
    """The properties by which a line is chosen: ``number`` is the 1-based line, ``attempt`` starts at 0."""

    custom_id: str
    number: int
    total: int
    attempt: int
    model: str


class LineFault(Fault):
    """A fault in lines of a batch. Without a selection it hits every line; selections given together must all hold."""

    custom_ids: frozenset[str] = Field(default=frozenset(), description="only these custom_ids")
    models: frozenset[str] = Field(default=frozenset(), description="only requests to these models")
    fraction: Fraction | None = Field(
        default=None, description="only this share of the custom_ids, chosen by the scenario's seed"
    )
    count: int | None = Field(
        default=None, ge=0, description="only this many lines of each batch, evenly spread over it"
    )
    attempts: int | None = Field(
        default=None, ge=1, description="only the first times that a batch carries the custom_id, up to this number"
    )

    def selects(self, line: Selectable, seed: int) -> bool:
        """Return whether the fault hits a line."""
        if self.attempts is not None and line.attempt >= self.attempts:
            return False
        if self.custom_ids and line.custom_id not in self.custom_ids:
            return False
        if self.models and line.model not in self.models:
            return False
        if self.fraction is not None and fraction_of(seed, self.name, line.custom_id) >= self.fraction:
            return False
        if self.count is not None:
            wanted = min(self.count, line.total)
            return line.number * wanted // line.total != (line.number - 1) * wanted // line.total
        return True

    def apply(self, outcome: EmulatedOutcome) -> None:
        """Change the line's entries in the batch's files and the ledger. Each kind of line fault has its own."""
        raise NotImplementedError  # abstract: see the docstring


class BatchFault(Fault):
    """A fault in the life or the object of a batch. Without a selection it hits every batch; selections given together must all hold."""

    batches: frozenset[int] = Field(
        default=frozenset(), description="only the batches created as the n-th (from 1) since the scenario was set"
    )
    fraction: Fraction | None = Field(
        default=None, description="only this share of the batches, chosen by the scenario's seed"
    )

    def hits(self, ordinal: int, seed: int) -> bool:
        """Return whether the fault hits the ``ordinal``-th created batch."""
        if self.batches and ordinal not in self.batches:
            return False
        return self.fraction is None or fraction_of(seed, self.name, ordinal) < self.fraction

    def govern(self, rules: BatchRules) -> BatchRules:
        """Return the rules for the batch."""
        return rules

    def show(self, shown: dict[str, Any]) -> None:
        """Change the JSON object that a client sees."""

    def show_listed(self, shown: dict[str, Any], listings: int) -> None:
        """Change the JSON object that a list holds; ``listings`` counts list calls since the batch was created."""

    def hides(self, status: str, listings: int, *, in_list: bool) -> bool:  # noqa: ARG002 - the hook's signature
        """Return whether a batch cannot be found; ``listings`` counts list calls since its creation, by id or of everything.

        ``in_list`` is True for a list of everything, and False for a read by id.
        """
        return False


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP call. Ordinals start at 1 and count since the scenario was set, refused calls included.

    ``at`` is provider time, ``elapsed`` the provider seconds since the scenario was set.
    """

    operation: str
    ordinal: int
    object_id: str = ""
    object_ordinal: int = 1
    body: dict[str, Any] = field(default_factory=dict)
    at: float = 0.0
    elapsed: float = 0.0


class HttpFault(Fault):
    """A fault in HTTP calls. Without ``times``, ``every`` or ``fraction`` it hits every call of the operations in ``on``."""

    on: tuple[str, ...] = Field(description=ON)
    times: int | None = Field(default=None, ge=1, description="only this many calls of each operation")
    skip: int = Field(default=0, ge=0, description="the number of calls of each operation that pass first")
    every: int = Field(default=1, ge=1, description="only each n-th call")
    fraction: Fraction | None = Field(
        default=None, description="only this share of the calls, chosen by the scenario's seed"
    )
    per_object: bool = Field(default=False, description="count calls for each file or batch of its own")
    models: frozenset[str] = Field(default=frozenset(), description="only calls of these models")
    from_seconds: float = Field(
        default=0.0, ge=0, description="only from this many provider seconds after the scenario was set"
    )
    to_seconds: float | None = Field(
        default=None, ge=0, description="only until this many provider seconds after the scenario was set"
    )
    repeat_seconds: float | None = Field(
        default=None, gt=0, description="the two times count anew after this many provider seconds"
    )

    def model_post_init(self, _context: Any, /) -> None:
        """Refuse operations that do not exist."""
        families = {operation.partition(".")[0] for operation in OPERATIONS}
        known = {*OPERATIONS, *families, "synchronous", "*"}
        for operation in self.on:
            if operation not in known:
                raise ValueError(f"unknown operation {operation!r}{suggestion(operation, known)}")

    def hits(self, call: Call, seed: int) -> bool:
        """Return whether the fault hits a call."""
        if not self._concerns(call.operation) or not self._is_time(call.elapsed):
            return False
        if self.models and call.body.get("model") not in self.models:
            return False
        position = (call.object_ordinal if self.per_object else call.ordinal) - self.skip
        if position < 1 or position % self.every:
            return False
        if self.times is not None and position > self.times * self.every:
            return False
        return (
            self.fraction is None
            or fraction_of(seed, self.name, call.operation, call.object_id, position) < self.fraction
        )

    def _concerns(self, operation: str) -> bool:
        chosen = self.on
        if operation in chosen or "*" in chosen or operation.partition(".")[0] in chosen:
            return True
        return operation in SYNCHRONOUS and "synchronous" in chosen

    def _is_time(self, elapsed: float) -> bool:
        if self.repeat_seconds is not None:
            elapsed %= self.repeat_seconds
        return self.from_seconds <= elapsed and (self.to_seconds is None or elapsed < self.to_seconds)

    def refuse(self, call: Call) -> Response | None:  # noqa: ARG002 - the hook's signature
        """Return an answer that replaces the execution of the call, or None to execute it."""
        return None

    def alter(self, call: Call, response: Response) -> Response:  # noqa: ARG002 - the hook's signature
        """Return the answer that the client gets after the call was executed."""
        return response

    def delay_seconds(self, call: Call) -> float:  # noqa: ARG002 - the hook's signature
        """Return the real seconds to wait before answering."""
        return 0.0


def suggestion(word: str, known: set[str]) -> str:
    """Return ``; did you mean ...?`` with the nearest known word, or nothing."""
    near = get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


@dataclass(frozen=True, slots=True)
class FaultInfo:
    """One entry of the catalogue; ``parameters`` maps each parameter to its meaning and default."""

    name: str
    family: str
    explanation: str
    parameters: dict[str, str]


@dataclass(frozen=True, slots=True)
class FamilyInfo:
    """A family of faults; ``parameters`` are common to all of its faults, unless a fault overrides them."""

    name: str
    explanation: str
    parameters: dict[str, str]


def describe(kind: type[Fault]) -> FaultInfo:
    """Return the description of a fault, from its docstring and its fields."""
    family = next(label for base, label in _FAMILIES.items() if issubclass(kind, base))
    return FaultInfo(kind.name, family, _explanation(kind), _parameters(kind))


def fault_families() -> list[FamilyInfo]:
    """Return the families: lines, batches, calls."""
    return [FamilyInfo(name, _explanation(base), _parameters(base)) for base, name in _FAMILIES.items()]


def _explanation(kind: type[Fault]) -> str:
    return " ".join((getdoc(kind) or "").split("\n\n")[0].replace("``", "").split())


def _parameters(kind: type[Fault]) -> dict[str, str]:
    parameters = {}
    for field_name, info in kind.model_fields.items():
        default = info.get_default(call_default_factory=False)
        shown = "required" if info.is_required() else f"default {_plain(default)}"
        parameters[field_name] = f"{info.description or ''} ({shown})".strip()
    return parameters


def _plain(value: object) -> str:
    if isinstance(value, (frozenset, tuple)):
        return ", ".join(map(str, sorted(value))) or "all"
    if value is None or value == "":
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value)


_FAMILIES: dict[type[Fault], str] = {LineFault: "lines", BatchFault: "batches", HttpFault: "calls"}
