"""``provider check`` against every emulated provider, and against servers that differ from their profile."""

from __future__ import annotations

from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.api.provider_check import check_provider
from batchkit.emulator import Emulator, Scenario, Timing
from batchkit.emulator.faults import batches, calls, lines
from batchkit.emulator.state import file_store
from batchkit.errors import RateLimited, UsageError
from batchkit.provider import check_calls, check_trials
from batchkit.provider.check_report import Verdict
from batchkit.provider.client import BatchApi
from batchkit.provider.dialects import names
from batchkit.provider.profiles import PlainProfile
from batchkit.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batchkit.provider.check_report import CheckReport
    from batchkit.settings import Settings

    Open = Callable[..., tuple[Emulator, Settings]]

#: A provider day takes a fifth of a second.
SPEED = 432_000.0
EMULATED = [name for name in names() if name != "custom"]


@pytest.fixture
def serve(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Open]:
    """Return a function that starts an emulated provider and returns it with settings for it, by default its own dialect's."""
    monkeypatch.chdir(tmp_path)
    numbers = count()
    with ExitStack() as stack:

        def start(emulated: str, *, provider: str | None = None, **scenario: Any) -> tuple[Emulator, Settings]:
            script = Scenario(**scenario)
            emulator = stack.enter_context(
                Emulator(
                    tmp_path / f"emulator-{next(numbers)}",
                    script,
                    speed=SPEED,
                    provider=emulated,
                    api_key="key-of-tests",
                )
            )
            settings = load_settings(
                provider=provider or emulated,
                base_url=emulator.base_url,
                api_key="key-of-tests",
                poll_interval_seconds=0.02,
                http_attempts=1,
            )
            return emulator, settings

        yield start


def check(settings: Settings, **more: Any) -> CheckReport:
    """Check with a batch, whatever it costs."""
    return check_provider(settings, **{"may_create": lambda _model, _usd: True, "patience_seconds": 5.0, **more})


def differing(report: CheckReport) -> dict[str, str]:
    """Return what differs, with what the server did."""
    return {fact.subject: fact.found for fact in report.facts if fact.verdict is Verdict.DIFFERS}


def left_files(emulator: Emulator) -> list[str]:
    """Return the uploads that are still there."""
    return [upload.filename for upload in emulator.ledger().uploads if not upload.deleted]


@pytest.mark.parametrize("provider", EMULATED)
def test_every_emulated_provider_does_what_its_profile_says(serve: Open, provider: str) -> None:
    """Every call was tried, the line was answered, and nothing is left."""
    emulator, settings = serve(provider)
    report = check(settings)
    assert (report.problem, differing(report), report.left) == (None, {}, [])
    tried = {fact.subject for fact in report.facts if fact.verdict is Verdict.SAME}
    assert {
        "models",
        "upload",
        "a new file",
        "list of files",
        "creation",
        "metadata",
        "an output line",
        "order of the list",
        "list by input file",
    } <= tried
    assert not any(fact.verdict is Verdict.OPEN for fact in report.facts), report.facts
    assert left_files(emulator) == []
    assert emulator.ledger().totals.requests_executed <= 1 + check_trials.LINES


#: Long enough to be seen, a tenth of a second here.
SEEN = 40_000.0


@pytest.mark.parametrize(
    ("emulated", "provider", "script", "expected", "corrections"),
    [
        ("azure", "openai", {"timing": Timing(file_ready_seconds=SEEN)}, {"a new file"}, {"ready": ["processed"]}),
        (
            "qwen",
            "openai",
            {},
            {"metadata", "list by input file"},
            {"metadata": "none", "files_per_lookup": 1},
        ),
        (
            "openai",
            "custom",
            {"faults": (batches.RenameStatus(shown="odd"),), "timing": Timing(seconds_per_line=SEEN)},
            {"statuses"},
            {"statuses": {"odd": None}},
        ),
        ("openai", "openai", {"faults": (lines.DropLines(count=1),)}, {"an output line"}, {}),
        ("openai", "kimi", {}, {"creation", "a window of 48h", "a window of 168h"}, {"windows": [24, 24]}),
        ("openai", "openai", {"faults": (calls.FileLag(),)}, set(), {}),
    ],
)
def test_a_deviation_is_found(
    serve: Open,
    emulated: str,
    provider: str,
    script: dict[str, Any],
    expected: set[str],
    corrections: dict[str, Any],
) -> None:
    """Another server than the profile describes, or one with a fault; what it did is a correction of the profile."""
    emulator, settings = serve(emulated, provider=provider, **script)
    report = check(settings)
    assert report.problem is None
    assert set(differing(report)) == expected
    assert report.corrections == corrections
    assert left_files(emulator) == []


@pytest.mark.parametrize(
    ("wrong", "expected", "corrections"),
    [
        ({"listing": "page"}, {"pages of lists"}, {"listing": "after"}),
        ({"listing": "whole"}, {"pages of lists"}, {"listing": "after"}),
        ({"ids_per_status_call": 20}, {"batches by their ids"}, {"ids_per_status_call": 0}),
        ({"purpose": "fine-tune"}, None, {}),
    ],
)
def test_a_wrong_profile_of_ones_own_is_corrected(
    serve: Open, wrong: dict[str, Any], expected: set[str] | None, corrections: dict[str, Any]
) -> None:
    """How lists are paged, whether batches are found by their ids; without the right purpose nothing can be tried."""
    emulator, settings = serve("openai", provider="custom")
    check(settings)
    report = check(settings.model_copy(update={"provider_profile": PlainProfile.model_validate(wrong)}))
    assert (report.problem is None) == (expected is not None)
    assert set(differing(report)) == (expected or set())
    assert report.corrections == corrections
    assert left_files(emulator) == []


def test_what_is_saved_is_a_profile_with_which_nothing_differs(serve: Open, tmp_path: Path) -> None:
    """As batchkit.toml it is used instead of the provider's own profile; it overwrites nothing."""
    emulator, settings = serve("azure", provider="openai", timing=Timing(file_ready_seconds=SEEN))
    saved = tmp_path / "batchkit.toml"
    assert differing(check(settings, save=saved))
    found = load_settings(api_key="key-of-tests", poll_interval_seconds=0.02)
    assert (found.provider, found.address) == ("openai", emulator.base_url)
    assert found.dialect.api.ready_statuses == {"processed"}
    assert differing(check(found)) == {}
    with pytest.raises(UsageError, match="exists; nothing was sent"):
        check(found, save=saved)


def test_free_leaves_out_what_costs(serve: Open) -> None:
    """Without a batch the rest is tried; a model that costs nothing needs no question."""
    emulator, settings = serve("openai")
    asked: list[tuple[str, float | None]] = []

    def refuse(model: str, usd: float | None) -> bool:
        asked.append((model, usd))
        return False

    report = check(settings, may_create=refuse)
    assert (report.problem, differing(report)) == (None, {})
    assert emulator.ledger().batches == ()
    assert asked[0][0] == "gpt-4.1-mini"
    assert 0 < (asked[0][1] or 0) < 0.01


def test_a_free_model_needs_no_question(serve: Open) -> None:
    """Qwen's test model answers a request without a price."""
    emulator, settings = serve("qwen")
    report = check(settings, may_create=lambda _model, _usd: False)
    assert differing(report) == {}
    assert {batch.endpoint for batch in emulator.ledger().batches} == {"/v1/chat/ds-test"}
    assert "chat.completions" not in emulator.ledger().calls


@pytest.mark.parametrize("at", ["interrupt", "lost creation", "no end"])
def test_what_ends_a_check_early_leaves_nothing_behind(serve: Open, at: str) -> None:
    """An interrupt, a creation that was not answered, a batch that does not end: it is cancelled, its file is deleted."""
    emulator, settings = serve("openai", timing=Timing(validating_seconds=1e9))

    def interrupted(*_: object) -> bool:
        raise KeyboardInterrupt

    emulator.set_scenario(
        Scenario(
            faults=(calls.LoseReply(on=("batches.create",)),) if at == "lost creation" else (),
            timing=Timing(validating_seconds=1e9),
        )
    )
    if at == "interrupt":
        with pytest.raises(KeyboardInterrupt):
            check(settings, may_create=interrupted)
    elif at == "lost creation":
        assert "sent, but not answered" in (check(settings).problem or "")
    else:
        report = check(settings, patience_seconds=0.05)
        assert "cancelled" in str(report.facts)
    assert {batch.status for batch in emulator.ledger().batches} <= {"cancelling", "cancelled"}
    assert left_files(emulator) == []


def test_a_server_that_cannot_be_used_says_why(serve: Open) -> None:
    """The reason is the server's; what was tried until then is kept."""
    _, settings = serve("openai", faults=(calls.PlanGate(),))
    report = check(settings)
    assert report.problem is not None
    assert report.facts == []
    elsewhere = check(settings.model_copy(update={"base_url": f"{settings.address}/nowhere"}))
    assert "there is no batch API at" in (elsewhere.problem or "")


def test_a_server_of_another_shape_is_told_by_its_list(serve: Open) -> None:
    """Together's list is bare: that is said, and why the rest could not be tried."""
    emulator, settings = serve("together", provider="custom")
    report = check(settings)
    assert (set(differing(report)), report.corrections) == ({"pages of lists"}, {"listing": "whole"})
    assert "POST /files" in (report.problem or "")
    assert left_files(emulator) == []


def noted(report: CheckReport) -> dict[str, str]:
    """Return what the server did where a profile says nothing."""
    return {fact.subject: fact.found for fact in report.facts if fact.verdict is Verdict.NOTED}


#: Slow enough for a cancellation to come first; its end takes 12 ms.
RUNNING = Timing(validating_seconds=0, seconds_per_line=SEEN, finalizing_seconds=0)


@pytest.mark.parametrize(
    ("script", "subject", "plain", "deviating"),
    [
        (
            {"faults": (batches.AllowDuplicateIds(),)},
            "a custom_id that repeats",
            "0 lines for it, failed: duplicate_custom_id",
            "2 lines for it, completed",
        ),
        (
            {"faults": (batches.SkipBadLines(),)},
            "a bad line",
            "the batch fails: missing_required_parameter",
            "the batch ends as completed, the good line is answered, the bad one is in no file: missing_",
        ),
        ({"faults": (batches.ErrorsShape(),)}, "shape of errors", "a list", "an object with data"),
        ({"faults": (batches.ErrorsShape(shape="null"),)}, "shape of errors", "a list", "null"),
        (
            {"faults": (calls.UnknownFileRefused(),)},
            "a file that does not exist",
            "taken, and later failed: invalid_request",
            "refused at the creation: POST /batches: HTTP 404",
        ),
        (
            {"faults": (calls.UnknownFileRefused(),)},
            "a window of 2d",
            "taken",
            "not told: the file is refused first",
        ),
        ({"faults": (batches.CancelEnded(status=200),)}, "cancelling an ended batch", "status 409", "status 200"),
        ({"faults": (batches.CancelEnded(status=400),)}, "cancelling an ended batch", "status 409", "status 400"),
        (
            {"faults": (lines.FailLines(custom_ids=frozenset({"refused"}), bare=True),)},
            "a line that is refused",
            "in the error file: status 400, with a request_id, error null",
            "in the error file: status 400, without a request_id, no member error",
        ),
        (
            {"faults": (batches.LostInput(),)},
            "its input deleted after the creation",
            "is answered all the same, completed",
            "is not answered, failed: ",
        ),
        ({"timing": RUNNING}, "a cancelled batch", "completed, 3 in the output file", "cancelled, 3 in the error file"),
        (
            {"timing": RUNNING, "faults": (batches.UnlistedLines(),)},
            "a cancelled batch",
            "completed, 3 in the output file",
            "cancelled, no line in its files",
        ),
    ],
)
def test_what_a_server_makes_of_odd_files_and_batches_is_noted(
    serve: Open, script: dict[str, Any], subject: str, plain: str, deviating: str
) -> None:
    """Where the documentation is silent there is no right and wrong: both ways of doing it are told."""
    _, settings = serve("groq")
    assert noted(check(settings))[subject].startswith(plain)
    emulator, settings = serve("groq", **script)
    report = check(settings)
    assert noted(report)[subject].startswith(deviating)
    assert (report.problem, report.left, left_files(emulator)) == (None, [], [])


@pytest.mark.parametrize(
    ("emulated", "provider", "own", "expected", "corrections"),
    [
        (
            "groq",
            "custom",
            {"listing": "cursor", "ids_per_status_call": 200, "windows": [24, 336]},
            {"a window of 336h"},
            {"windows": [24, 48]},
        ),
        ("together", "together", {"custom_id_chars": 70}, {"a custom_id of 70 characters"}, {"custom_id_chars": None}),
        ("qwen", "qwen", {"files_per_lookup": 0}, {"list by input file"}, {"files_per_lookup": 1}),
        ("openai", "openai", {"files_per_lookup": 20}, {"list by input file"}, {"files_per_lookup": 0}),
        (
            "openai",
            "openai",
            {"idempotency_field": "idempotency_key"},
            {"creation"},
            {},
        ),
    ],
)
def test_a_value_of_a_profile_that_the_server_contradicts_is_found(
    serve: Open, emulated: str, provider: str, own: dict[str, Any], expected: set[str], corrections: dict[str, Any]
) -> None:
    """Limits, filters and windows; what is certain is a correction, what only a person can know is left to fill in."""
    emulator, settings = serve(emulated, provider=provider)
    report = check(settings.model_copy(update={"provider_profile": PlainProfile.model_validate(own)}))
    assert (set(differing(report)), report.corrections) == (expected, corrections)
    assert (report.problem, left_files(emulator)) == (None, [])


@pytest.mark.parametrize(("days", "differs"), [(30, False), (7, True)])
def test_the_expiry_of_files_is_compared_where_the_server_tells_it(
    serve: Open, monkeypatch: pytest.MonkeyPatch, days: int, *, differs: bool
) -> None:
    """The days from a file's creation to its end are those for which results are kept."""
    shown = file_store.file_object

    def with_expiry(*args: Any) -> dict[str, Any]:
        told = shown(*args)
        return {**told, "expires_at": told["created_at"] + days * 86_400}

    monkeypatch.setattr(file_store, "file_object", with_expiry)
    _, settings = serve("groq")
    report = check(settings)
    both = {"expiry of an input file", "expiry of an output file"}
    assert set(differing(report)) == (both if differs else set())
    assert report.corrections == ({"input_days": 7, "output_days": 7} if differs else {})


def test_audio_lines_are_tried_only_with_a_recording(serve: Open) -> None:
    """Their endpoint, a mixed file, and a transcript as text; without one the report says how to try them."""
    emulator, settings = serve("groq")
    silent = check(settings)
    assert not any("audio" in fact.subject for fact in silent.facts)
    assert any("--audio" in entry.reason for entry in silent.unanswered)
    assert {batch.endpoint for batch in emulator.ledger().batches} == {"/v1/chat/completions"}
    report = check(settings, audio="https://audio.example/short.wav")
    found = noted(report)
    assert found["audio lines, endpoint /v1/audio/transcriptions"].startswith(
        "completed, in the output file: status 200"
    )
    assert found["a transcript as text"] == "a body that is a string"
    assert found["a mixed file, endpoint /v1/chat/completions"] == "both lines are answered, completed"
    assert not any("--audio" in entry.reason for entry in report.unanswered)
    _, alone = serve("groq", faults=(batches.SingleEndpoint(),))
    refused = noted(check(alone, audio="https://audio.example/short.wav"))
    assert refused["a mixed file, endpoint /v1/chat/completions"].startswith("not both lines are answered, failed")


def test_what_is_not_answered_is_told_with_its_reason(serve: Open) -> None:
    """Without batches there is more of it."""
    emulator, settings = serve("groq")
    whole, free = check(settings), check(settings, may_create=lambda _model, _usd: False)
    assert len(free.unanswered) == len(whole.unanswered) + 1
    assert "leave out --free" in free.unanswered[0].reason
    assert any("expired batch" in entry.question and "24h" in entry.reason for entry in whole.unanswered)
    assert emulator.ledger().calls["chat.completions"] == check_calls.CALLS


def test_the_price_that_is_asked_for_covers_everything(serve: Open) -> None:
    """No more lines and calls are executed than were counted, and a recording is counted where one is given."""
    emulator, settings = serve("groq", models=frozenset({"openai/gpt-oss-20b"}))
    asked: list[float | None] = []

    def accept(_model: str, usd: float | None) -> bool:
        asked.append(usd)
        return True

    check(settings, may_create=accept)
    assert emulator.ledger().totals.requests_executed <= 1 + check_trials.LINES
    check(settings, may_create=accept, audio="https://audio.example/short.wav")
    assert 0 < (asked[0] or 0) < (asked[1] or 0) < 0.01


def test_a_refusal_of_the_account_in_mid_check_ends_the_further_batches_alone(
    serve: Open, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was begun until then is concluded and cleaned up, and the rest of the check is made."""
    create, made = BatchApi.create_batch, []

    def limited(api: BatchApi, **given: Any) -> Any:
        made.append(given)
        if len(made) > 3:
            raise RateLimited("POST /batches: HTTP 429: too many batches", status=429)
        return create(api, **given)

    monkeypatch.setattr(BatchApi, "create_batch", limited)
    emulator, settings = serve("openai")
    report = check(settings)
    open_facts = {fact.subject: fact.found for fact in report.facts if fact.verdict is Verdict.OPEN}
    assert "too many batches" in open_facts["further batches"]
    assert "a bad line" in noted(report)
    assert (report.problem, report.left, left_files(emulator)) == (None, [], [])
