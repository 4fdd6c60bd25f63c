"""The page as a file: its content, its independence of other files, and its readability."""

from __future__ import annotations

import base64
import hashlib
import re
from html.parser import HTMLParser
from importlib.resources import files

import pytest

from batchkit.cli.render import outcome
from batchkit.emulator.faults import lines
from batchkit.errors import UnknownWorkload, UsageError
from batchkit.models import RequestState, ShardState
from batchkit.reports.headline import headline
from batchkit.reports.views import usd
from batchkit.reports.writing import default_target, write_report
from batchkit.steps.split import SplitOptions
from tests.factories import add_shard, add_workload
from tests.reports.conftest import running
from tests.workloads import write_mixed


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """Return a runner with a finished workload with some failures, and some expired requests."""
    folder = tmp_path_factory.mktemp("faulty")
    faults = (
        lines.FailLines(fraction=0.1, code="invalid_request", message="Not like this."),
        lines.ExpireLines(fraction=0.2, attempts=1),
    )
    with running(folder, *faults) as runner:
        workload = runner.split(
            [write_mixed(folder / "in.jsonl", 60)], name="nightly run", options=SplitOptions(shard_lines=20)
        )
        runner.process(workload.id)
        yield runner


def written(runner, name, folder, *, rows=500):
    """Write a report and read it back."""
    return write_report(runner, name, folder / "page.html", rows=rows).read_text()


def test_the_page_shows_the_state_and_the_reasons(faulty, tmp_path, page_text):
    """State, counts, exit code, reasons, expiry, tokens, cost and rows are there, and match the store."""
    progress = faulty.progress(faulty.find("nightly run").id)
    text = page_text(written(faulty, "nightly run", tmp_path))

    counts = progress.counts
    assert f"{counts.succeeded} of 60 requests succeeded; {counts.failed} failed permanently." in text
    assert "batchkit resubmit 'nightly run' --failed" in text
    assert f"{counts.failed} requests failed, all with invalid_request" in text
    assert f"{progress.expired_attempts} batch_expired" not in text
    assert "Not like this." in text
    assert "An attempt is unanswered if its batch expired" in text
    assert "returned no answer, by window and shard size" in text
    assert f"{progress.usage.prompt_tokens:,}" in text
    assert "genai-prices" in text
    assert "Recordings are billed by the second and are not included." in text
    assert "All requests, the worst first" in text


def test_the_worst_rows_are_first_and_the_rest_is_counted(faulty, tmp_path, page_text):
    """With few rows only failed requests are shown, and the page states how many more there are."""
    page = written(faulty, "nightly run", tmp_path, rows=2)

    assert re.findall(r'data-kinds="(\w+)"', page) == ["failed", "failed"]
    assert "58 more are not on this page: batchkit export nightly run writes all of them." in page_text(page)


def test_a_page_without_rows_is_a_page(faulty, tmp_path):
    """A page may omit all prompts."""
    page = written(faulty, "nightly run", tmp_path, rows=0)

    assert '<table id="rows"' not in page
    assert "60 requests" in page


def test_the_page_is_self_contained_and_has_a_policy(faulty, tmp_path):
    """There is no address to load from, and the policy allows exactly the style and the script of the page."""
    page = written(faulty, "nightly run", tmp_path)
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]+)">', page)

    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src &#39;sha256-{digest}&#39;" in policy
    assert policy.startswith("default-src &#39;none&#39;;")
    assert not re.search(r"\b(src|href|action|style|on\w+)=(?!\"#)", page.partition("</style>")[2])
    assert "url(" not in page
    assert "@import" not in page


class Outline(HTMLParser):
    """Reads what assistive technology uses."""

    def __init__(self):
        super().__init__()
        self.headings: list[int] = []
        self.tables = self.captions = self.unlabelled = 0

    def handle_starttag(self, tag, attrs):
        """Record headings, tables, captions and charts without a description."""
        given = dict(attrs)
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        self.tables += tag == "table"
        self.captions += tag == "caption"
        is_nested = tag == "svg" and "viewbox" in given
        if tag == "svg" and not is_nested:
            self.unlabelled += given.get("aria-hidden") != "true" and not (
                given.get("role") == "img" and given.get("aria-label")
            )


def test_the_page_is_accessible(faulty, tmp_path):
    """It has one first-level heading without gaps below it, a caption per table, and a description per chart."""
    outline = Outline()
    outline.feed(written(faulty, "nightly run", tmp_path))

    assert outline.headings[0] == 1
    assert set(outline.headings[1:]) == {2}
    assert outline.tables == outline.captions > 3
    assert outline.unlabelled == 0


def luminance(colour):
    """Return the brightness of a colour (WCAG 2.2, "relative luminance")."""
    parts = [int(colour[place : place + 2], 16) / 255 for place in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_contrasts_with_its_background(scheme):
    """Every text colour has the contrast of 4.5 to 1 that WCAG 2.2 requires (AA), and charts have 3 to 1."""
    sheet = files("batchkit.reports").joinpath("assets", "page.css").read_text()
    light, dark = re.findall(r":root \{(.*?)\}", sheet, re.DOTALL)[:2]
    colours = dict(re.findall(r"--([\w-]+): (#\w{6});", light))
    if scheme == "dark":
        colours |= dict(re.findall(r"--([\w-]+): (#\w{6});", dark))

    def contrast(one, other):
        low, high = sorted((luminance(colours[one]), luminance(colours[other])))
        return (high + 0.05) / (low + 0.05)

    for text in ("ink", "quiet", "good", "bad", "void", "main"):
        assert contrast(text, "panel") >= 4.5, text
        assert contrast(text, "page") >= 4.5, text
    for text, wash in (("good", "good-wash"), ("bad", "bad-wash"), ("main", "open-wash"), ("void", "void-wash")):
        assert contrast(text, wash) >= 4.5, text
    for shape in ("main", "good", "bad", "late", "void", "near", "idle"):
        assert contrast(shape, "panel") >= 3, shape


def test_an_unfinished_workload_has_a_page_too(runner, tmp_path, page_text):
    """The page shows the results so far and how to resume."""
    with runner.store.write() as connection:
        workload = add_workload(connection, "slow")
        add_shard(connection, workload, state=ShardState.MERGED, lines=3)
        add_shard(connection, workload, state=ShardState.SUBMITTED, lines=5)
    text = page_text(written(runner, "slow", tmp_path))

    assert "3 of 8 answered (37.5 %), 3 downloaded, last news from the provider at " in text
    assert "waiting for 1 batch at the provider" in text
    assert "worked on by nobody" in text
    assert "Exit code 4: not finished. This resumes it: batchkit watch slow" in text
    assert "in flight · line 4" in text


def test_the_page_shows_nothing_of_an_ended_batch_as_in_flight(runner, tmp_path, page_text):
    """The batch ended without answers, and is not merged yet."""
    with runner.store.write() as connection:
        workload = add_workload(connection, "ended")
        add_shard(connection, workload, state=ShardState.ENDED, lines=5)
    text = page_text(written(runner, "ended", tmp_path))
    assert "5 unanswered in ended batches" in text or "unanswered in ended batches 5" in text
    assert "5 in flight" not in text


def test_a_workload_that_is_not_split_has_a_page_too(sqlite_runner, tmp_path, page_text):
    """Nothing is known yet, and no error occurs."""
    with sqlite_runner.store.write() as connection:
        add_workload(connection, "new", split=False)

    assert "The split of the input was interrupted" in page_text(written(sqlite_runner, "new", tmp_path))


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (RequestState.SUCCEEDED, "Exit code 0"),
        (RequestState.FAILED, "Exit code 3"),
        (RequestState.CANCELLED, "Exit code 3"),
        (RequestState.PENDING, "Exit code 4"),
    ],
)
def test_the_exit_code_is_that_of_the_command_line(sqlite_runner, state, words):
    """The page and ``status --exit-code`` show the same code."""
    with sqlite_runner.store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload, state=ShardState.MERGED, lines=2, request_state=state)
    progress = sqlite_runner.progress(workload.id)

    assert headline(progress).meaning.startswith(words)
    assert words.endswith(str(outcome.exit_code(progress)))


def test_an_unknown_name_has_no_page(sqlite_runner, tmp_path):
    """An unknown name and too many rows are refused, and nothing is written."""
    with pytest.raises(UnknownWorkload):
        write_report(sqlite_runner, "nothing", tmp_path / "page.html", rows=5)
    with pytest.raises(UsageError, match="0 to 2,000 rows"):
        write_report(sqlite_runner, "nothing", tmp_path / "page.html", rows=2_001)
    assert not (tmp_path / "page.html").exists()


@pytest.mark.parametrize(
    ("name", "file"),
    [("nightly", "nightly.report.html"), ("../a b/ü", "a-b-ü.report.html"), ("///", "batchkit.report.html")],
)
def test_a_page_is_named_after_its_workload(name, file):
    """A name never leads out of the folder."""
    assert str(default_target(name)) == file


@pytest.mark.parametrize(
    ("amount", "words"),
    [
        (None, "unknown"),
        (0.0, "$0.00"),
        (0.00001, "less than $0.0001"),
        (0.00123, "$0.0012"),
        (12.345, "$12.35"),
        (12_345.6, "$12,345.60"),
    ],
)
def test_small_amounts_are_shown(amount, words):
    """An unknown amount is not zero, and a small amount is not rounded to zero."""
    assert usd(amount) == words
