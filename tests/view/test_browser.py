"""The pages in a real browser: live, hostile, narrow, without script, by keys alone."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest
from pyarrow import parquet as pq

from batchkit.annotation.row_answers import write_output_table
from batchkit.emulator.faults import answers, lines
from batchkit.engine.runtime import Runner
from batchkit.settings import load_settings
from batchkit.steps.split import SplitOptions
from batchkit.view.reviewing import CLAIM_SECONDS
from tests.reports.browsers import open_browser
from tests.reports.conftest import running
from tests.reports.test_browser import HOSTILE, HUGE, RAN
from tests.view.conftest import serving
from tests.view.labelled import annotate, right
from tests.workloads import chat_line, write_lines

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

WAIT = 20_000
NAME = "<img src=x onerror=alert(2)>"


@dataclass
class Visit:
    """A page in the browser, with a record of everything that it should not do."""

    page: Page
    trouble: list[str] = field(default_factory=list)
    asked: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def browser():
    """Start one browser for all tests."""
    with open_browser() as opened:
        yield opened


@pytest.fixture
def visit(browser):
    """Return a function that opens an address in a window of its own, and watches it."""
    contexts = []

    def open_page(url, *, width=1_200, scheme="light", **more):
        context = browser.new_context(viewport={"width": width, "height": 850}, color_scheme=scheme, **more)
        contexts.append(context)
        context.set_default_timeout(WAIT)
        seen = Visit(context.new_page())
        seen.page.on("pageerror", lambda error: seen.trouble.append(f"error {error}"))
        seen.page.on("console", lambda message: seen.trouble.append(f"console {message.text}"))

        def dismiss(dialog):
            seen.trouble.append("dialog")
            dialog.dismiss()

        seen.page.on("dialog", dismiss)
        seen.page.on("request", lambda request: seen.asked.append(request.url))
        seen.page.goto(url)
        return seen

    yield open_page
    for context in contexts:
        context.close()


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    """Serve a workload whose names, prompts, answers and errors are all hostile, one answer being a word of a megabyte."""
    folder: Path = tmp_path_factory.mktemp("hostile")
    faults = (
        answers.WrongAnswers(contents=("W" * HUGE, "other"), custom_ids=frozenset({"huge"})),
        lines.FailLines(
            custom_ids=frozenset({"refused"}), code=HOSTILE["script"], message="".join(HOSTILE.values()), type="x"
        ),
    )
    spoken = [{"role": "user", "content": text} for text in HOSTILE.values()]
    asked = [
        chat_line(f"<b>{''.join(filter(str.isprintable, HOSTILE['attribute']))}", messages=spoken),
        chat_line("echoed", "".join(HOSTILE.values())),
        chat_line("huge"),
        chat_line("refused"),
    ]
    with running(folder, *faults) as runner:
        source = write_lines(folder / "in.jsonl", asked)
        runner.process(runner.split([source], name=NAME, options=SplitOptions()).id)
    with serving(folder / "home", f"sqlite:///{folder / 'batchkit.db'}") as view:
        yield view


def pages(hostile):
    """Return the addresses of all pages of the hostile workload."""
    name = "name=%3Cimg+src%3Dx+onerror%3Dalert%282%29%3E"
    places = range(1, 5)
    urls = ["/", f"/workload?{name}", f"/requests?{name}", *(f"/request?{name}&place={place}" for place in places)]
    return [hostile.root + url for url in urls]


def test_nothing_that_a_model_wrote_runs_or_loads(hostile, visit):
    """No script, handler, link, frame or style of any page's content takes effect, even when everything is clicked and hovered."""
    seen = visit(hostile.root)
    for url in pages(hostile):
        page = seen.page
        page.goto(url)
        page.evaluate(
            """() => { for (const one of document.querySelectorAll('main *:not(a):not(button)'))
                for (const kind of ['mouseover', 'focus', 'click']) one.dispatchEvent(new Event(kind, { bubbles: true })); }"""
        )
        assert page.evaluate("window.ran") is None, url
        assert page.evaluate("document.querySelectorAll('img, iframe, object, base, link').length") == 0, url
        assert page.evaluate("[document.scripts.length, document.styleSheets.length]") == [1, 1], url
        assert page.evaluate("document.querySelectorAll('h1').length") == 1, url
        outside = page.evaluate("[...document.links].filter((one) => one.origin !== location.origin).length")
        assert outside == 0, url
    assert seen.trouble == []
    assert {re.sub(r"(?<=\d)/.*", "", asked) for asked in seen.asked} == {hostile.root}


def test_a_word_of_a_megabyte_does_not_flood(hostile, visit):
    """It is cut, and the page says how much is missing; the whole of it can be saved, as a file that no browser runs."""
    page = visit(pages(hostile)[5]).page
    assert page.locator("h1").inner_text() == "huge"
    assert page.evaluate("document.documentElement.outerHTML.length") < 400_000
    assert "more characters" in page.locator("main").inner_text()
    with page.expect_download() as saved:
        page.get_by_text("Save the whole answer").click()
    assert saved.value.path().stat().st_size > HUGE


def test_nothing_is_wider_than_the_window(hostile, visit):
    """No page needs horizontal scrolling, on a phone or a large screen."""
    page = visit(hostile.root, width=360, scheme="dark").page
    for url in pages(hostile):
        page.goto(url)
        for width in (360, 1_200):
            page.set_viewport_size({"width": width, "height": 850})
            assert page.evaluate("document.documentElement.scrollWidth") <= width, url


def test_everything_but_the_review_works_without_script(hostile, visit):
    """From the first page to a request by links and forms alone; the review says what else there is."""
    page = visit(hostile.root, java_script_enabled=False).page
    page.get_by_role("link", name=NAME).click()
    assert (
        "requests failed" in page.locator("main").inner_text()
        or "1 request failed" in page.locator("main").inner_text()
    )
    page.get_by_role("link", name="Requests", exact=True).click()
    page.get_by_label("State").select_option("failed")
    page.get_by_role("button", name="Apply").click()
    page.get_by_role("link", name="refused").click()
    assert HOSTILE["script"] in page.locator("main").inner_text()


def test_the_pages_are_walked_by_keys_and_named_for_ears(hostile, visit):
    """Keys move through rows, open and search; every field has a label, every page one heading, a language and landmarks."""
    seen = visit(hostile.root)
    page = seen.page
    page.keyboard.press("j")
    assert page.evaluate("document.activeElement.textContent") == NAME
    page.keyboard.press("Enter")
    page.wait_for_url("**/workload?**")
    page.get_by_role("link", name="Requests", exact=True).click()
    page.keyboard.press("/")
    page.keyboard.type("huge")
    page.keyboard.press("Enter")
    page.wait_for_url("**id=huge**")
    page.locator("#found .id").first.wait_for()
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url("**/request?**")
    page.keyboard.press("p")
    page.wait_for_url("**place=2")
    for url in pages(hostile)[:4]:
        page.goto(url)
        unlabelled = page.evaluate(
            "[...document.querySelectorAll('input:not([type=hidden]), select, textarea')].filter((one) => !one.labels.length).length"
        )
        assert unlabelled == 0, url
        assert page.evaluate("document.documentElement.lang") == "en"
        assert page.get_by_role("main").count() == 1
        assert page.get_by_role("navigation").count() >= 1
    page.keyboard.press("h")
    page.wait_for_url(f"{hostile.root}/")


def test_a_page_that_was_opened_before_a_run_shows_its_end(tmp_path, visit):
    """The list, the workload and its requests change by themselves: nothing is reloaded, and what is focused stays so."""
    with running(tmp_path) as runner:
        source = write_lines(tmp_path / "in.jsonl", [chat_line(f"row-{number}") for number in range(40)])
        workload = runner.split([source], name="late", options=SplitOptions(shard_lines=10))
        with serving(tmp_path / "home", f"sqlite:///{tmp_path / 'batchkit.db'}") as view:
            home, one = visit(f"{view.root}/"), visit(f"{view.root}/workload?name=late")
            table = visit(f"{view.root}/requests?name=late&state=in_flight")
            for seen in (home, one):
                seen.page.evaluate("window.kept = true")
                seen.page.locator("#live.on").wait_for()
            assert "running" in home.page.locator("[data-live=lists]").inner_text()
            home.page.get_by_role("link", name="late").focus()
            assert table.page.locator("#lines tr").count() == 40
            runner.process(workload.id)
            one.page.get_by_text("All 40 requests succeeded.").wait_for()
            home.page.locator(".pill.good", has_text="succeeded").wait_for()
            assert home.page.evaluate("[window.kept, document.activeElement.textContent]") == [True, "late"]
            assert one.page.evaluate("window.kept") is True
            assert home.trouble == one.trouble == []


@contextmanager
def away(server, name):
    """Cut all connections to a database, and accept none until the end of the block."""
    server._execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS false")
    server.cut_connections(name)
    try:
        yield
    finally:
        server._execute(f"ALTER DATABASE {name} WITH ALLOW_CONNECTIONS true")


def test_the_database_may_be_away_for_a_while(postgres_server, postgres_template, tmp_path, visit):
    """The page says so, keeps what it showed, and continues when the database is back."""
    name = postgres_server.create(template=postgres_template)
    with serving(tmp_path / "home", postgres_server.url_of(name)) as view:
        seen = visit(f"{view.root}/")
        seen.page.locator("#live.on").wait_for()
        with away(postgres_server, name):
            seen.page.locator("#live.away", has_text="the database cannot be read now").wait_for()
            assert "Workloads and suites" in seen.page.locator("h1").inner_text()
            assert view.get("/").status == 503
        seen.page.locator("#live.on").wait_for()
    postgres_server.drop(name)


def test_fifty_rows_are_settled_by_keys_alone(sqlite_url, tmp_path, visit):
    """What was chosen is in the output table, with a skip, an undo and a note on the way."""
    workload = annotate(tmp_path / "home", sqlite_url, tmp_path, 208)
    with serving(tmp_path / "home", sqlite_url) as view:
        seen = visit(f"{view.root}/review?name={workload.name}")
        page = seen.page
        page.keyboard.type("Ada")
        page.keyboard.press("Enter")

        def before_me():
            page.locator("#review:not([aria-busy])").wait_for()
            return int(re.sub(r"\D", "", page.locator("#row", has_text="Row ").inner_text().partition(":")[0]))

        def decided(count):
            page.locator("#count", has_text=re.compile(f"^{count} decided")).wait_for()

        chosen = {}
        for number in range(50):
            at = before_me()
            if number == 3:
                page.keyboard.press("s")
                page.locator("#row", has_not_text=f"Row {at}:").wait_for()
                at = before_me()
            if number == 4:
                page.keyboard.press("n")
                page.keyboard.type("1 s u: a note, no keys")
                page.keyboard.press("Escape")
            key = str(number % 3 + 1) if number % 2 else "pm"[number % 4 // 2]
            chosen[at] = {"1": "positive", "2": "negative", "3": "mixed", "p": "positive", "m": "mixed"}[key]
            page.keyboard.press(key)
            decided(len(chosen))
            if number == 6:
                before_me()
                page.keyboard.press("u")
                page.locator("#row", has_text=f"Row {at}:").wait_for()
                assert before_me() == at
                assert page.locator("[aria-pressed=true]").inner_text().endswith(chosen[at])
                page.keyboard.press("2")
                chosen[at] = "negative"
                decided(7)
        assert len(chosen) == 50
        assert seen.trouble == []
    target = tmp_path / "out.parquet"
    with Runner(load_settings(home=tmp_path / "home", database_url=sqlite_url)) as runner:
        write_output_table(runner, runner.find(workload.name), target)
    rows = pq.read_table(target).to_pylist()
    assert {number: row["answer"] for number, row in enumerate(rows, 1) if row["reviewed"]} == chosen
    assert rows[0]["answer"] == right(0)


@pytest.mark.slow
def test_a_killed_browser_leaves_its_row_to_the_next_one(sqlite_url, tmp_path, visit):
    """Two people have two rows; when the browser of one is gone for long enough, the other one gets that row, too."""
    workload = annotate(tmp_path / "home", sqlite_url, tmp_path, 12)
    with serving(tmp_path / "home", sqlite_url) as view:
        now = [1_760_000_000.0]
        view.server._view.reader.clock = lambda: now[0]
        people = [visit(f"{view.root}/review?name={workload.name}").page for _ in range(2)]
        for page, name in zip(people, ("Ada", "Bob"), strict=True):
            page.keyboard.type(name)
            page.keyboard.press("Enter")
            page.locator("#row", has_text="Row ").wait_for()
        ada, bob = people
        assert [page.locator("#row").inner_text() for page in people] == ["Row 2: disputed", "Row 6: disputed"]
        ada.context.close()
        bob.keyboard.press("1")
        bob.locator("#row", has_text="Row 10:").wait_for()
        now[0] += CLAIM_SECONDS + 1
        bob.keyboard.press("1")
        bob.locator("#row", has_text="Row 2:").wait_for()
        bob.keyboard.press("1")
        bob.get_by_role("heading", name="No row is left").wait_for()


def test_the_policy_would_block_an_injected_script(hostile, visit):
    """If a script got into a page nevertheless, the browser would refuse to run it."""
    seen = visit(hostile.root)
    seen.page.evaluate(
        f"""() => {{ const bad = document.createElement('script'); bad.textContent = "{RAN}"; document.body.append(bad);
            document.querySelector('main').insertAdjacentHTML('beforeend', `<img src=x onerror="{RAN}">`); }}"""
    )
    seen.page.wait_for_timeout(200)
    assert seen.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in one for one in seen.trouble)
