"""A suite: the questions for the models, the scorers of their answers, and the alarms."""

from __future__ import annotations

import hashlib
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from batchkit.annotation.parameters import Parameters
from batchkit.annotation.recipe import Recipe
from batchkit.answers.tool_calls import ToolChecks
from batchkit.errors import UsageError
from batchkit.evaluation.scorers import Judge, Scorer, SuiteFacts
from batchkit.evaluation.suite_dataset import DATASET, Dataset, as_tuple
from batchkit.evaluation.suite_examples import Examples, as_examples
from batchkit.evaluation.suite_parts import PromptMessages, PromptText, SuiteAnswers
from batchkit.files import jsonl
from batchkit.steps.split import SplitOptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchkit.files.checked_yaml import Place

#: These fields affect neither a request nor a score, so a change makes no new version.
_OUTSIDE_THE_VERSION = {
    "folder",
    "schedule",
    "alarms",
    "report",
    "against",
    "slices",
    "missing",
    "allow_paths",
    "min_scored",
    "min_paired",
    "max_cost",
    "max_total_tokens",
}
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_CRON_FIELDS = 5


def _cron(value: str) -> str:
    fields = value.split()
    if len(fields) != _CRON_FIELDS:
        raise ValueError("a cron expression has five fields: minute hour day month weekday")
    from cronsim import CronSim, CronSimError  # noqa: PLC0415 - only where a suite has a schedule

    try:
        next(CronSim(value, datetime(2024, 1, 1, tzinfo=UTC)))
    except CronSimError as error:
        raise ValueError(f"not a cron expression: {error}") from None
    except StopIteration:
        raise ValueError(f"the cron expression {value!r} has no time: there is no such day") from None
    return value


def _timezone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"there is no time zone {value!r}; write one like Europe/Berlin") from None
    return value


def _slug(value: str) -> str:
    if _NAME.fullmatch(value) is None:
        raise ValueError("a name is made of letters, digits, dots, dashes and underscores")
    return value


class _SuitePart(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Schedule(_SuitePart):
    """The times at which the suite runs: five fields of cron, in a time zone."""

    cron: Annotated[str, AfterValidator(_cron)]
    timezone: Annotated[str, AfterValidator(_timezone)] = "UTC"


class Alarm(_SuitePart):
    """An alarm for a fall of a scorer's mean, significant at ``level``.

    It applies to each prompt with each model, or to those that are named; with ``slice`` to each value of that column instead of
    all rows. With the ``bound`` ``estimate`` the mean must have fallen by at least ``fall`` and a fall of any size must be
    significant; with ``truth`` it must be significant that the true fall is larger than ``fall``. It compares with the run that the
    suite compares ``against``. With ``over`` it finds a slow decay instead: of the last ``over`` passed runs and the present one, it
    compares the mean of the last third with that of the first.
    """

    scorer: str
    fall: float = Field(ge=0)
    level: float = Field(default=0.01, gt=0, lt=1)
    model: str | None = None
    prompt: str | None = None
    slice: str | None = None
    bound: Literal["estimate", "truth"] = "estimate"
    over: int | None = Field(default=None, ge=3, le=1_000)

    @model_validator(mode="before")
    @classmethod
    def _without_former_fields(cls, value: Any) -> Any:
        """Leave out fields that earlier versions stored with every suite, at values that mean nothing."""
        if isinstance(value, dict) and value.get("baseline") == "against":
            return {name: given for name, given in value.items() if name not in {"baseline", "of_last"}}
        return value

    def concerns(self, scorer: str, prompt: str, model: str) -> bool:
        """Whether the alarm applies to this metric."""
        return self.scorer == scorer and self.prompt in {None, prompt} and self.model in {None, model}


class Suite(_SuitePart):
    """A suite as in its YAML file; paths are relative to ``folder``, the folder of the file.

    Files of ``images`` are read only below ``folder``, unless ``allow_paths`` is set.

    ``missing`` is the value of a failed answer: ``zero``, a wrong answer, or ``ignore``, no answer. ``against`` is the run to compare
    with: the last one that ``passed``, the ``previous`` finished one, or a run by name. A scorer that scored less than ``min_scored``
    of the answers whose rows have an expected value makes the run ``unscored``; a comparison of less than ``min_paired`` of the
    smaller run's scored rows makes it ``incomparable``. ``max_cost`` (USD) and ``max_total_tokens`` are the budget of a run, its judges
    included.
    """

    name: Annotated[str, AfterValidator(_slug)] = Field(max_length=60)
    dataset: Annotated[
        Dataset, BeforeValidator(lambda value: {"path": value} if isinstance(value, str | list) else value)
    ]
    prompt: PromptText | None = None
    prompts: dict[str, PromptText] = Field(default_factory=dict)
    examples: Annotated[Examples | None, BeforeValidator(as_examples)] = None
    models: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = Field(min_length=1)
    samples: int = Field(default=1, ge=1)
    images: tuple[str, ...] = ()
    allow_paths: bool = False
    parameters: Parameters = Parameters()
    answers: SuiteAnswers = SuiteAnswers()
    expected: str | None = None
    slices: Annotated[tuple[str, ...], BeforeValidator(as_tuple)] = Field(default=(), validate_default=True)
    missing: Literal["zero", "ignore"] = "zero"
    scorers: Annotated[
        tuple[
            Annotated[Scorer, BeforeValidator(lambda value: {"kind": value} if isinstance(value, str) else value)], ...
        ],
        Field(min_length=1),
    ]
    alarms: tuple[Alarm, ...] = ()
    against: str = "passed"
    min_scored: float = Field(default=0.95, ge=0, le=1)
    min_paired: float = Field(default=0.5, ge=0, le=1)
    max_cost: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    max_total_tokens: int | None = Field(default=None, gt=0)
    schedule: Schedule | None = None
    report: str | None = None
    folder: str = "."

    @field_validator("slices")
    @classmethod
    def _with_datasets(cls, slices: tuple[str, ...], info: ValidationInfo) -> tuple[str, ...]:
        dataset = info.data.get("dataset")
        has_several = dataset is not None and dataset.datasets
        return (*slices, DATASET) if has_several and DATASET not in slices else slices

    @property
    def judges(self) -> tuple[Judge, ...]:
        """The scorers that call a model."""
        return tuple(scorer for scorer in self.scorers if isinstance(scorer, Judge))

    def with_budget(self, options: SplitOptions | None) -> SplitOptions:
        """Return options with the suite's budget, where they have none of their own."""
        return (options or SplitOptions()).or_budget(self.max_cost, self.max_total_tokens)

    def version(self) -> str:
        """Return a SHA-256 in hex of the questions and the scorers; it does not depend on the file's folder.

        Fields with default values do not count, so that a later version with more fields gives the same one.
        """
        content = self.model_dump(mode="json", exclude=_OUTSIDE_THE_VERSION, by_alias=True, exclude_defaults=True)
        # The kind of a scorer is the default of its field.
        content["scorers"] = [self.scorer_definition(scorer) for scorer in self.scorers]
        for rows in (content["dataset"], *content["dataset"].get("datasets", ())):
            rows.pop("cluster", None)
        return hashlib.sha256(jsonl.dumps(content)).hexdigest()

    @staticmethod
    def scorer_definition(scorer: Scorer) -> dict[str, Any]:
        """Return the fields of a scorer that differ from the defaults, and its kind."""
        return {"kind": scorer.kind, **scorer.model_dump(mode="json", by_alias=True, exclude_defaults=True)}

    @property
    def watched(self) -> frozenset[str]:
        """The labels of the scorers that decide the verdict: those with an alarm, or all of a suite without alarms."""
        return frozenset(alarm.scorer for alarm in self.alarms) or frozenset(scorer.label for scorer in self.scorers)

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns of the expected values, the suite's own first."""
        named = (self.expected, *(scorer.expected for scorer in self.scorers))
        return tuple(dict.fromkeys(column for column in named if column is not None))

    @property
    def named_prompts(self) -> dict[str, PromptMessages]:
        """The prompts by name; the only one of a suite is called ``prompt``."""
        return {"prompt": self.prompt} if self.prompt is not None else self.prompts

    def table_parts(self) -> list[str]:
        """Return the parts of the tables' addresses, with paths of files relative to this process."""
        return [part for rows in self.dataset.tables for part in rows.parts(self.folder)]

    def recipe(self, *, table: str, table_digest: str) -> Recipe:
        """Return the recipe of a run's requests, without the examples, which are in a table (see ``suite_tables``)."""
        return Recipe(
            kind="evaluate",
            prompts=tuple(prompt.named(name) for name, prompt in self.named_prompts.items()),
            models=self.models,
            samples=self.samples,
            key=self.dataset.key,
            parameters=self.parameters,
            images=self.images,
            allow_paths=self.allow_paths,
            rules=self.answers.rules(),
            table=table,
            table_digest=table_digest,
            limit=self.dataset.limit,
            paths=tuple(str(Path(part).absolute()) for part in self.table_parts() if "://" not in part),
        )

    def contradictions(self) -> Iterator[tuple[Place, str]]:
        """Yield the contradictions between fields that are valid by themselves, and scorers that cannot run, each with its place.

        Functions of the user's are imported for it, in processes of their own.
        """
        if (self.prompt is None) == (not self.prompts):
            yield ("prompts",), "a suite has either `prompt`, or `messages`, or `prompts` by name"
        labels = [scorer.label for scorer in self.scorers]
        yield from self.dataset.contradictions()
        if self.examples is not None:
            yield from self.examples.contradictions(self.named_prompts, has_images=bool(self.images))
        for name in self.prompts:
            if _NAME.fullmatch(name) is None:
                yield ("prompts", name), "a prompt's name is made of letters, digits, dots, dashes and underscores"
        for place, model in enumerate(self.models):
            if model in self.models[:place]:
                yield ("models", place), f"the model {model!r} occurs twice"
        try:
            ToolChecks(self.parameters.tools)
        except UsageError as error:
            yield ("parameters", "tools"), error.message
        for place, scorer in enumerate(self.scorers):
            yield from self._contradictions_of(place, scorer, labels)
        for place, alarm in enumerate(self.alarms):
            yield from self._contradictions_of_alarm(place, alarm, labels)

    def _contradictions_of_alarm(self, place: int, alarm: Alarm, labels: Sequence[str]) -> Iterator[tuple[Place, str]]:
        names = sorted(self.named_prompts)
        for field, value, known in (
            ("scorer", alarm.scorer, labels),
            ("prompt", alarm.prompt, names),
            ("model", alarm.model, self.models),
            ("slice", alarm.slice, self.slices),
        ):
            if value is not None and value not in known:
                there_are = f"there are: {', '.join(known)}" if known else "there are none"
                yield ("alarms", place, field), f"there is no {field} {value!r}; {there_are}"
        of = [scorer for scorer in self.scorers if scorer.label == alarm.scorer]
        arms = [(name, model) for name in names for model in self.models if alarm.concerns(alarm.scorer, name, model)]
        if of and arms and not any(of[0].concerns(*arm) for arm in arms):
            yield (
                ("alarms", place),
                f"{alarm.scorer!r} has no scores of these answers: it compares others with them",
            )
        if alarm.over is not None and self.dataset.key is None:
            yield (
                ("alarms", place, "over"),
                "an alarm over several runs needs `dataset: {key: ...}` to find its rows",
            )

    def _contradictions_of(self, place: int, scorer: Scorer, labels: Sequence[str]) -> Iterator[tuple[Place, str]]:
        where: Place = ("scorers", place)
        if scorer.label in labels[:place]:
            yield where, f"two scorers are called {scorer.label!r}: give one of them another `name`"
        has_own_text = getattr(scorer, "text", None) is not None
        if scorer.needs_expected and not has_own_text and (scorer.expected or self.expected) is None:
            yield where, f"{scorer.kind} compares with a column: name it in `expected`"
        if scorer.needs_format is not None and self.answers.rules().format != scorer.needs_format:
            yield where, f"{scorer.kind} needs `answers: {{format: {scorer.needs_format}}}`"
        within = SuiteFacts(self.models, tuple(self.prompts), self.samples, tuple(labels))
        for inner, problem in (*scorer.contradictions(), *scorer.contradictions_within(within)):
            yield (*where, *inner), problem
        if isinstance(scorer, Judge):
            rules = scorer.answers.rules()
            if rules.format not in {"choice", "number", "json"}:
                yield (
                    (*where, "answers"),
                    "a judge answers with one of `choices`, a number from `minimum` to `maximum`, or JSON",
                )
            elif (rules.format == "json") != (scorer.verdict is not None):
                yield where, "`verdict` is the place of the verdict in the judge's JSON; the two belong together"
            elif rules.format == "choice" and set(scorer.scores) != set(rules.choices):
                yield (*where, "scores"), f"give each choice a score: {', '.join(rules.choices)}"

    def unknown_columns(self, columns: Sequence[str]) -> Iterator[tuple[Place, str]]:
        """Yield the columns that the suite names and the table does not have."""
        named: list[tuple[Place, str | None]] = [*self.dataset.columns(), (("expected",), self.expected)]
        named += [(("slices", place), column) for place, column in enumerate(self.slices)]
        for place, scorer in enumerate(self.scorers):
            named += [(("scorers", place, *inner), column) for inner, column in scorer.columns()]
        for where, column in named:
            if column is not None and column not in columns:
                yield where, f"the table has no column {column!r}; it has: {', '.join(columns)}"
        for judge in self.judges:
            for column in judge.columns_beside:
                if column in columns:
                    where = ("scorers", self.scorers.index(judge))
                    yield where, f"the table's column {column!r} has the name of a judge's column: rename it"
