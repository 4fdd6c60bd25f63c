"""The ready-made scenarios."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchkit.emulator.faults import Fault, answers, batches, calls, lines, replies
from batchkit.emulator.scenarios.scenario import Scenario, Timing

if TYPE_CHECKING:
    from batchkit.emulator.contract.rates import PlanName

_REFUSED = lines.FailLines(
    fraction=0.03,
    code="invalid_request",
    message="The emulator refuses this request permanently: sending it again will not help.",
)


def _scenario(
    name: str, description: str, *faults: Fault, timing: Timing | None = None, plan: PlanName | None = None
) -> Scenario:
    return Scenario(name=name, description=description, faults=faults, timing=timing or Timing(), plan=plan)


READY_MADE: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        _scenario("clean", "Every request succeeds at once; results come in the order of the requests."),
        _scenario("out-of-order", "Results come in another order than the requests.", batches.ShuffleOutput()),
        _scenario(
            "demo",
            "3 % of the requests are refused with 400, 10 % expire the first time, results are shuffled.",
            _REFUSED,
            lines.ExpireLines(fraction=0.10, attempts=1),
            batches.ShuffleOutput(),
            timing=Timing(validating_seconds=300, seconds_per_line=0.5, finalizing_seconds=120),
        ),
        _scenario(
            "expire-30", "30 % of the requests expire the first time.", lines.ExpireLines(fraction=0.30, attempts=1)
        ),
        _scenario(
            "expire-30-unlisted",
            "30 % of the requests expire the first time and are in neither file.",
            lines.ExpireLines(fraction=0.30, attempts=1),
            batches.UnlistedLines(),
        ),
        _scenario("expire-all", "Every request expires the first time.", lines.ExpireLines(attempts=1)),
        _scenario("fail-all", "Every request is refused with 400, so there is no output file.", lines.FailLines()),
        _scenario(
            "missing-lines",
            "5 requests of each batch are in neither file the first time.",
            lines.DropLines(count=5, attempts=1),
        ),
        _scenario(
            "strange-lines",
            "Result files with duplicate, unknown, broken and hollow lines and raw Unicode separators.",
            answers.RawSeparators(fraction=0.5),
            lines.DuplicateLines(count=3, second="other"),
            lines.UnknownLines(count=2),
            lines.BreakLines(count=2, attempts=1),
            lines.ZeroStatusLines(fraction=0.02, attempts=1),
            batches.ShuffleOutput(),
        ),
        _scenario(
            "server-errors",
            "5 % of the requests fail with 503 the first time.",
            lines.FailLines(
                fraction=0.05, attempts=1, status=503, type="internal_server_error", message="Service Unavailable"
            ),
        ),
        _scenario(
            "lost-replies",
            "The replies of the first upload, create and cancel are lost although the calls were carried out.",
            calls.LoseReply(on=("files.create", "batches.create", "batches.cancel")),
        ),
        _scenario(
            "flaky-network",
            "A tenth of all calls is dropped, refused by the gateway or slow, and first downloads are cut.",
            calls.DropConnection(on=("files", "batches.list", "batches.retrieve"), fraction=0.05),
            calls.GatewayErrors(on=("files", "batches.list", "batches.retrieve"), fraction=0.05),
            calls.SlowReplies(fraction=0.1, seconds=0.05),
            calls.CutDownloads(times=1, per_object=True),
        ),
        _scenario(
            "rate-limited",
            "Every third upload and create is refused with 429 first.",
            calls.RateLimit(on=("files.create", "batches.create"), times=None, every=3, retry_after=0.05, wait="50ms"),
        ),
        _scenario(
            "cut-downloads",
            "The first download of each file silently lacks its second half.",
            calls.CutDownloads(times=1, per_object=True, how="close-delimited"),
        ),
        _scenario(
            "free-plan",
            "Files and batches are refused with 403; synchronous calls have the free plan's rate limits.",
            plan="free",
        ),
        _scenario(
            "flaky-calls",
            "A tenth of the synchronous calls is lost, reset, cut, refused with 500 or 503, or answered late.",
            calls.DropConnection(on=("synchronous",), fraction=0.02, how="reset"),
            calls.LoseReply(on=("synchronous",), times=None, fraction=0.02, how="reset"),
            replies.CutReplies(fraction=0.01),
            replies.StrangeReplies(fraction=0.01),
            calls.RefuseCalls(on=("synchronous",), fraction=0.02),
            calls.GatewayErrors(on=("synchronous",), fraction=0.02, status=503),
            calls.SlowReplies(on=("synchronous",), fraction=0.02, seconds=0.05, up_to=0.5),
        ),
        _scenario(
            "stuck", "The first batch stays in in_progress forever.", batches.StuckBatches(batches=frozenset({1}))
        ),
        _scenario("lagging", "New files and batches are not visible at first.", calls.FileLag(), batches.ListLag()),
        _scenario(
            "odd-objects",
            "Batch objects with lying counts, sparse times, skipped statuses, extra and odd fields.",
            batches.LyingCounts(say="none-failed"),
            batches.SparseTimestamps(),
            batches.SkipStatuses(),
            batches.ExtraFields(),
            batches.NoFileAs(value="object"),
            batches.ErrorsShape(shape="empty-object"),
        ),
        _scenario(
            "queue-full",
            "The first batch is accepted and then fails with token_limit_exceeded.",
            batches.FailBatches(batches=frozenset({1})),
        ),
    )
}
