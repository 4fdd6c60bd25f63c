"""``provider check`` against every emulated provider, and against servers that differ from their profile."""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from batchkit.api.provider_check import check_provider
from batchkit.emulator import Emulator, Scenario, Timing
from batchkit.emulator.faults import batches, calls, lines
from batchkit.errors import UsageError
from batchkit.provider.check_report import Verdict
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
    with ExitStack() as stack:

        def start(emulated: str, *, provider: str | None = None, **scenario: Any) -> tuple[Emulator, Settings]:
            script = Scenario(**scenario)
            emulator = stack.enter_context(
                Emulator(tmp_path / "emulator", script, speed=SPEED, provider=emulated, api_key="key-of-tests")
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
    assert {"models", "upload", "a new file", "list of files", "creation", "metadata", "an output line"} <= tried
    assert left_files(emulator) == []
    assert emulator.ledger().totals.requests_executed == 1


#: Long enough to be seen, a tenth of a second here.
SEEN = 40_000.0


@pytest.mark.parametrize(
    ("emulated", "provider", "script", "expected", "corrections"),
    [
        ("azure", "openai", {"timing": Timing(file_ready_seconds=SEEN)}, {"a new file"}, {"ready": ["processed"]}),
        ("qwen", "openai", {}, {"metadata"}, {"metadata": "none"}),
        (
            "openai",
            "custom",
            {"faults": (batches.RenameStatus(shown="odd"),), "timing": Timing(seconds_per_line=SEEN)},
            {"statuses"},
            {"statuses": {"odd": None}},
        ),
        ("openai", "openai", {"faults": (lines.DropLines(count=1),)}, {"an output line"}, {}),
        ("openai", "kimi", {}, {"creation"}, {"windows": [24, 168]}),
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
    assert [batch.endpoint for batch in emulator.ledger().batches] == ["/v1/chat/ds-test"]


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
