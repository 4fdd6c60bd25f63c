"""Building the parts of a runner from the settings: spool, provider, and the values for the steps and the driver."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.engine import promising
from batchkit.engine.polling import Pacing
from batchkit.errors import AccountRefused, ConfigurationError, UsageError, WrongAddress
from batchkit.files.remote import RemoteFiles
from batchkit.files.shared_spool import SharedSpool
from batchkit.files.spool import Spool
from batchkit.models import Lane, LaneChoice
from batchkit.provider.call_verdicts import CallVerdict, judge
from batchkit.provider.calls import CallClient, CallOptions
from batchkit.provider.client import BatchApi
from batchkit.provider.options import HttpOptions
from batchkit.sending.gates import Gates
from batchkit.sending.lane import SyncLane
from batchkit.sending.limits import KnownLimits
from batchkit.steps.context import Timing
from batchkit.steps.split import SplitDefaults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pydantic import SecretStr

    from batchkit.engine.deadline import DeadlinePlan
    from batchkit.errors import BatchkitError
    from batchkit.preflight import LineRules, ModelShare
    from batchkit.provider.call_reply import CallReply
    from batchkit.provider.call_verdicts import CallJudgement
    from batchkit.provider.dialect import Dialect
    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions


def open_spool(settings: Settings, owner: str) -> Spool:
    """Open the local spool, or the shared one when the settings name its address."""
    if not settings.spool_url:
        return Spool(settings.home)
    return SharedSpool(settings.home, RemoteFiles(settings.spool_url), owner=owner)


def build_provider(settings: Settings, dialect: Dialect | None = None) -> BatchApi:
    """Build the client of the batch API, by default with the provider's dialect. Raises ``ConfigurationError`` when there is no key."""
    return BatchApi(
        dialect or settings.dialect,
        base_url=settings.address,
        api_key=_key(settings),
        options=_http_options(settings),
    )


def _key(settings: Settings) -> SecretStr:
    if settings.api_key is None or not settings.api_key.get_secret_value():
        raise ConfigurationError("there is no API key", hint=settings.dialect.key_hint)
    return settings.api_key


def _http_options(settings: Settings) -> HttpOptions:
    return HttpOptions(
        connect_timeout_seconds=settings.connect_timeout_seconds,
        read_timeout_seconds=settings.http_timeout_seconds,
        attempts=settings.http_attempts,
        allow_insecure_http=settings.allow_insecure_http,
    )


def known_limits(settings: Settings) -> KnownLimits:
    """Return the limits of single calls that the user gave, for each model."""
    return KnownLimits(
        requests_per_minute=settings.rpm,
        tokens_per_minute=settings.tpm,
        requests_per_day=settings.rpd,
        tokens_per_day=settings.tpd,
    )


def build_lane(settings: Settings, clock: Callable[[], float]) -> SyncLane:
    """Build the sync lane of a process. ``clock`` returns Unix seconds. Raises ``ConfigurationError`` when there is no key."""
    dialect = settings.dialect
    known = known_limits(settings)
    http = _http_options(settings)
    return SyncLane(
        CallClient(
            settings.address,
            _key(settings),
            auth=dialect.key.auth,
            options=CallOptions(
                http=http,
                first_byte_seconds=settings.call_timeout_seconds,
                total_seconds=settings.call_timeout_seconds * 1.5,
            ),
        ),
        Gates(lambda _key: known, most=settings.max_in_flight),
        clock=clock,
        judge=lambda reply: judge(reply, dialect=dialect, now=clock()),
        refused=_refused_call,
    )


def _refused_call(reply: CallReply, judgement: CallJudgement) -> BatchkitError:
    """Return the error of a refusal that concerns all calls."""
    match judgement.verdict:
        case CallVerdict.ACCOUNT:
            return AccountRefused(judgement.message, hint=judgement.hint, status=reply.status or 0, code=judgement.code)
        case CallVerdict.WRONG_ADDRESS:
            return WrongAddress(judgement.message, hint=judgement.hint)
        case _:
            return ConfigurationError(judgement.message, hint=judgement.hint)


def split_defaults(settings: Settings) -> SplitDefaults:
    """Return the values that a split uses for options that are not given."""
    dialect = settings.dialect
    return SplitDefaults(
        window=settings.window or dialect.windows.shortest,
        max_window=settings.max_window or dialect.windows.longest,
        shard_lines=settings.shard_lines,
        shard_bytes=settings.shard_bytes or dialect.limits.default_bytes,
        max_attempts=settings.max_attempts,
        max_expiries=settings.max_expiries,
        dialect=dialect,
        lane=settings.lane,
        small=settings.small,
        max_cost=settings.max_cost,
        max_total_tokens=settings.max_total_tokens,
    )


def deadline_plan(
    settings: Settings, options: SplitOptions, shares: Mapping[str, ModelShare], *, lane: Lane, now: float
) -> DeadlinePlan | None:
    """Return what the deadline that the options name means for requests, by model; None when they name none.

    Without it they would travel in ``lane``.
    """
    if not options.has_deadline:
        return None
    return promising.deadline_plan(shares, options, settings, known_limits(settings), lane=lane, now=now)


def lane_of(settings: Settings, options: SplitOptions, models: Iterable[str]) -> Callable[[int], Lane]:
    """Return a function from a number of requests to these models to their lane."""
    known = settings.dialect.rules.model_endpoints
    # Models that batches do not have: an open lane is the one that does.
    are_single = any(known.get(model.lower()) == () for model in models)
    if are_single and (options.lane or settings.lane) is LaneChoice.AUTO:
        return lambda _requests: Lane.SYNC
    return lambda requests: options.lane_of(lambda: requests, default=settings.lane, default_small=settings.small)


def rules_of(settings: Settings, options: SplitOptions) -> LineRules:
    """Return the rules of requests whose number, which may decide their lane, is not known yet."""
    choice = options.lane or settings.lane
    return settings.dialect.rules.of_lane(Lane.BATCH if choice is LaneChoice.BATCH else Lane.SYNC)


def check_sizes(settings: Settings, options: SplitOptions) -> None:
    """Refuse windows and sizes of files that the provider does not take. Raises ``UsageError``."""
    problems = settings.dialect.problems_of_sizes(
        window=options.window,
        max_window=options.max_window,
        shard_lines=options.shard_lines,
        shard_bytes=options.shard_bytes,
    )
    if problems:
        raise UsageError("; ".join(f"{name}: {reason}" for name, reason in problems.items()), hint="nothing was sent")


def reuse_scope(settings: Settings, options: SplitOptions) -> str:
    """Return what answers have in common that may be reused: the provider, its address, and what the options say."""
    return f"{settings.provider} {settings.address.rstrip('/').lower()} {options.reuse_scope}".rstrip()


def timing_of(settings: Settings) -> Timing:
    """Return the waits of the steps."""
    return Timing(
        lease_seconds=settings.lease_seconds,
        settle_seconds=settings.settle_seconds,
        stuck_seconds=settings.stuck_seconds,
        resubmit_linger_seconds=settings.resubmit_linger_seconds,
        capacity_wait_seconds=settings.capacity_wait_seconds,
    )


def pacing_of(settings: Settings) -> Pacing:
    """Return the waits of the driver."""
    return Pacing(
        poll_interval_seconds=settings.poll_interval_seconds,
        max_poll_interval_seconds=settings.max_poll_interval_seconds,
        outage_seconds=settings.outage_seconds,
        cancel_seconds=settings.cancel_seconds,
    )
