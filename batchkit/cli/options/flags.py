"""The options that go together, declared once as dataclasses, and how they become a verb's own.

A verb that takes one of them is decorated with ``spread``: each field is then an option of its command line.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from enum import StrEnum
from functools import wraps
from typing import TYPE_CHECKING, Any, TypeVar, get_type_hints

from batchkit.cli.options import common, tables, times
from batchkit.errors import UsageError

if TYPE_CHECKING:
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions

Verb = Callable[..., None]
Choice = TypeVar("Choice", bound=StrEnum)


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetFlags:
    """What a workload may cost."""

    max_cost: common.MaxCost = None
    max_total_tokens: common.MaxTotalTokens = None

    def options(self) -> SplitOptions:
        """Return them as the options of a split."""
        from batchkit.steps.split import SplitOptions  # noqa: PLC0415 - --help need not wait for it

        return SplitOptions(max_cost=self.max_cost, max_total_tokens=self.max_total_tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlineFlags:
    """By when a workload is to be finished, and what happens if it is not."""

    deadline: common.Deadline = None
    within: common.Within = None
    late: common.Late = None

    def deadline_options(self) -> SplitOptions:
        """Return them as options. Raises ``UsageError``."""
        from batchkit.models import OnLate  # noqa: PLC0415 - --help need not wait for it
        from batchkit.steps.split import SplitOptions  # noqa: PLC0415 - as above

        return SplitOptions(
            deadline=times.moment_of(self.deadline, "--deadline"),
            within_seconds=times.span_of(self.within, "--within"),
            late=_chosen("--late", self.late, OnLate),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class CutFlags(DeadlineFlags):
    """The size of a workload's batches, its retries, its budget, and which requests are not sent because their answer is known."""

    window: common.Window = None
    max_window: common.MaxWindow = None
    shard_lines: common.ShardLines = None
    shard_bytes: common.ShardBytes = None
    max_attempts: common.MaxAttempts = None
    max_expiries: common.MaxExpiries = None
    lane: common.Lane = None
    small: common.Small = None
    tier: common.Tier = None
    on_doubt: common.OnDoubt = None
    rpm: common.Rpm = None
    tpm: common.Tpm = None
    max_cost: common.MaxCost = None
    max_total_tokens: common.MaxTotalTokens = None
    reuse: common.Reuse = None
    reuse_urls: common.ReuseUrls = False

    @property
    def limits(self) -> dict[str, Any]:
        """The flags that are settings, too."""
        return {name: value for name, value in asdict(self).items() if name not in _ONLY_OPTIONS}

    def options(self) -> SplitOptions:
        """Return them as the options of a split. Raises ``UsageError`` for flags that contradict each other."""
        from batchkit.models import LaneChoice, OnDoubt, ReuseMode  # noqa: PLC0415 - --help need not wait for it

        if self.reuse_urls and self.reuse is False:
            raise UsageError("--no-reuse and --reuse-urls contradict each other", hint="leave out one of them")
        mode = None if self.reuse is None else ReuseMode.ON if self.reuse else ReuseMode.OFF
        limits = {name: value for name, value in self.limits.items() if name not in _ONLY_SETTINGS}
        return replace(
            self.deadline_options(),
            **limits | {"lane": _chosen("--lane", self.lane, LaneChoice)},
            reuse=ReuseMode.URLS if self.reuse_urls else mode,
            tiers=self.tier,
            on_doubt=_chosen("--on-doubt", self.on_doubt, OnDoubt),
        )


#: The flags of ``CutFlags`` that are no settings, and those that are nothing else.
_ONLY_OPTIONS = frozenset({"reuse", "reuse_urls", "tier", "on_doubt", "deadline", "within", "late"})
_ONLY_SETTINGS = frozenset({"rpm", "tpm"})


def _chosen(option: str, value: str | None, choices: type[Choice]) -> Choice | None:
    """Return the choice that a flag names, None without one. Raises ``UsageError``."""
    if value is None:
        return None
    try:
        return choices(value)
    except ValueError:
        names = ", ".join(choices)
        raise UsageError(f"{option} {value}: there is no such choice", hint=f"choose one of {names}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class TableFlags:
    """Which rows of a table are taken, and where they go with their answers; and the file that holds what other flags say."""

    recipe: tables.RecipeFile = None
    print_recipe: tables.PrintRecipe = False
    query: tables.Query = None
    separator: tables.Separator = None
    key: tables.Key = None
    limit: tables.Limit = None
    on_empty: tables.OnEmpty = None
    bad_rows: tables.BadRows = None
    name: tables.Name = None
    output: tables.Output = None
    raw_csv: common.RawCsv = False
    dry_run: tables.DryRun = False
    submit_only: tables.SubmitOnly = False


@dataclass(frozen=True, slots=True, kw_only=True)
class DriveFlags:
    """How a command drives workloads, where their data is, and for whom it prints."""

    json: common.Json = False
    no_prefect: common.NoPrefect = False
    verbose: common.Verbose = False
    poll_interval: common.PollInterval = None
    timeout: common.Timeout = None
    on_finish: common.OnFinish = None
    home: common.Home = None
    database_url: common.DatabaseUrl = None
    provider: common.Provider = None
    base_url: common.BaseUrl = None
    accept_other_key: common.AcceptOtherKey = False

    @property
    def where(self) -> common.Where:
        """The flags that name places."""
        return common.Where(self.home, self.database_url, self.provider, self.base_url, self.accept_other_key)

    def settings(self, cut: CutFlags | None = None) -> Settings:
        """Read the settings under these flags. Raises ``ConfigurationError``."""
        given = {} if cut is None else cut.limits
        return self.where.settings(poll_interval_seconds=self.poll_interval, on_finish=self.on_finish, **given)


def spread(verb: Verb) -> Verb:
    """Make the fields of a verb's dataclass parameters options of their own, in their place."""
    signature = inspect.signature(verb, eval_str=True)
    groups: dict[str, type[Any]] = {
        name: taken.annotation
        for name, taken in signature.parameters.items()
        if isinstance(taken.annotation, type) and is_dataclass(taken.annotation)
    }
    parameters = [
        parameter
        for name, taken in signature.parameters.items()
        for parameter in (_options_of(groups[name]) if name in groups else (taken,))
    ]

    @wraps(verb)
    def command(**given: Any) -> None:
        grouped = {
            name: kind(**{field.name: given.pop(field.name) for field in fields(kind)}) for name, kind in groups.items()
        }
        verb(**given, **grouped)

    # What a reader of signatures, Typer for one, is to see.
    command.__signature__ = signature.replace(parameters=parameters)  # type: ignore[attr-defined] # read by inspect
    command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def _options_of(group: type[Any]) -> list[inspect.Parameter]:
    kinds = get_type_hints(group, include_extras=True)
    return [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=kinds[field.name]
        )
        for field in fields(group)
    ]
