"""The page in a real browser: hostile model text runs nothing, requests nothing and overflows nothing; a keyboard can search it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from batchkit.emulator.faults import answers, lines
from batchkit.reports.writing import write_report
from batchkit.steps.split import SplitOptions
from tests.reports.browsers import open_browser
from tests.reports.conftest import running
from tests.workloads import chat_line, write_lines

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page

RAN = "window.ran = (window.ran || 0) + 1"
HOSTILE = {
    "script": f"<script>{RAN}; alert(1)</script>",
    "closing": f"</script><script>{RAN}</script></style><script>{RAN}</script>",
    "closing table": f"</p></td></tr></table></main><script>{RAN}</script><h1>taken over</h1>",
    "image": f'<img src="x" onerror="{RAN}"><img src=https://example.com/leak.png>',
    "svg": f'<svg onload="{RAN}"><animate onbegin="{RAN}"/></svg>',
    "attribute": f'" onmouseover="{RAN}" autofocus onfocus="{RAN}" x="',
    "apostrophe": f"' onclick='{RAN}' '",
    "link": f'<a href="javascript:{RAN}">click me</a> javascript:{RAN}',
    "frame": f'<iframe srcdoc="<script>parent.{RAN}</script>"></iframe><object data="https://example.com/x"></object>',
    "style": "<style>* { display: none !important }</style><link rel=stylesheet href=https://example.com/x.css>",
    "base": '<base href="https://example.com/"><meta http-equiv="refresh" content="0;url=https://example.com/">',
    "template": "{{ 7 * 7 }} {% raw %} ${7 * 7} {{ config.__class__ }}",
    "comment": f"<!-- --!> <script>{RAN}</script> <![CDATA[ ]]>",
    "override": "user\u202excod.exe\u202c and \u2066isolated, never closed",
    "control": "bell \x07 null \x00 escape \x1b[31m back \x08 delete \x7f c1 \x9f",
    "separators": "line\u2028paragraph\u2029end",
    "emoji": "\U0001f469\u200d\U0001f680 \U0001f1f5\U0001f1ea e\u0301 " + "a" + "\u0301" * 200,
    "zero width": "in\u200bvisi\u200cble\ufeff" + "\u200b" * 500,
    "one word": "W" * 3_900,
    "one url": "https://example.com/" + "path/" * 700,
    "many lines": "\n" * 300 + "the end",
    "wide": "\ufdfd" * 300,
}
HUGE = 1_000_000
_NAME = "<img src=x onerror=alert(2)>"


@dataclass
class Watched:
    """A page in the browser, with a record of everything that it should not do."""

    page: Page
    trouble: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Write the report of a workload whose names, prompts, answers and errors are all hostile."""
    folder = tmp_path_factory.mktemp("hostile")
    faults = (
        answers.WrongAnswers(contents=("W" * HUGE, "other"), custom_ids=frozenset({"huge"})),
        lines.FailLines(
            custom_ids=frozenset({"refused"}), code=HOSTILE["script"], message="".join(HOSTILE.values()), type="x"
        ),
    )
    names = {name: "".join(filter(str.isprintable, text[:40])) for name, text in HOSTILE.items()}
    prompts = [chat_line(f"{names[name]} {name}", text) for name, text in HOSTILE.items()]
    with running(folder, *faults) as runner:
        source = write_lines(
            folder / "in.jsonl", [*prompts, chat_line("huge"), chat_line("refused", HOSTILE["closing"])]
        )
        workload = runner.split([source], name=_NAME, options=SplitOptions())
        runner.process(workload.id)
        return write_report(runner, _NAME, folder / "page.html", rows=500)


@pytest.fixture(scope="module")
def browser():
    """Start one browser for all tests."""
    with open_browser() as opened:
        yield opened


@pytest.fixture
def visit(browser):
    """Return a function that opens a page in a window of some width, and watches it."""
    opened = []

    def open_page(path, *, width=1_400, scheme="light"):
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
        opened.append(page)
        watched = Watched(page)
        # A dialog without a listener is dismissed at once.
        page.add_init_script(
            "for (const name of ['alert', 'confirm', 'prompt']) window[name] = () => console.log(name)"
        )
        page.on("pageerror", lambda error: watched.trouble.append(f"error {error}"))
        page.on("console", lambda message: watched.trouble.append(f"console {message.text}"))
        page.on("popup", lambda _: watched.trouble.append("popup"))
        page.on("request", lambda request: watched.requests.append(request.url))
        page.goto(path.as_uri())
        return watched

    yield open_page
    for page in opened:
        page.close()


def test_nothing_that_a_model_wrote_runs_or_loads(report, visit):
    """No script, handler, link, frame or style in the content takes effect, even when everything is clicked and hovered."""
    watched = visit(report)
    page = watched.page
    page.evaluate(
        """() => { for (const one of document.querySelectorAll('#rows *'))
            for (const kind of ['mouseover', 'focus', 'click']) one.dispatchEvent(new Event(kind, { bubbles: true })); }"""
    )

    assert page.evaluate("window.ran") is None
    assert watched.trouble == []
    assert watched.requests == [report.as_uri()]
    allowed = page.evaluate(
        "document.querySelectorAll('img, iframe, object, base, link, a[href]:not([href^=\"#\"])').length"
    )
    assert allowed == 0
    assert page.evaluate("[document.scripts.length, document.styleSheets.length]") == [1, 1]
    assert page.evaluate("document.querySelectorAll('h1').length") == 1


def test_foreign_text_is_readable_as_written(report, visit):
    """Markup is shown literally; control characters are visible, and a long answer states how much is missing."""
    page = visit(report).page
    text = page.locator("#rows").inner_text()

    for name in ("script", "image", "template", "link", "base"):
        assert HOSTILE[name] in text
    assert "user[U+202E]xcod.exe" in text
    assert "bell ␇ null ␀ escape ␛[31m back ␈ delete ␡" in text
    assert "more characters" in text
    assert page.locator("h1").inner_text() == _NAME


def test_the_policy_would_block_an_injected_script(report, visit, tmp_path):
    """If a script got into the page nevertheless, the browser would refuse to run it."""
    broken = tmp_path / "broken.html"
    broken.write_text(report.read_text().replace("<main>", f"<main><script>{RAN}</script><img src=x onerror='{RAN}'>"))
    watched = visit(broken)

    assert watched.page.evaluate("window.ran") is None
    assert any("Content Security Policy" in trouble for trouble in watched.trouble)


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (360, "dark"), (1_400, "light")])
def test_nothing_is_wider_than_the_window(report, visit, width, scheme):
    """The page needs no horizontal scrolling on a phone or a large screen, and no text extends beyond its cell."""
    page = visit(report, width=width, scheme=scheme).page

    assert page.evaluate("document.documentElement.scrollWidth") <= width
    outside = page.evaluate(
        """() => [...document.querySelectorAll('main *:not(svg *):not(.unseen):not(thead):not(thead *)')]
            .filter((one) => one.getBoundingClientRect().right > innerWidth + 0.5)
            .map((one) => one.outerHTML.slice(0, 80))"""
    )
    assert outside == []


def test_heaped_accents_stay_in_their_row(report, visit):
    """Two hundred accents on one letter do not cover other text: the row above looks the same without them."""
    page = visit(report, width=360).page
    row = page.locator("#rows tbody tr", has_text="emoji")
    above = row.locator("xpath=preceding-sibling::tr[1]")
    above.scroll_into_view_if_needed()
    with_accents = above.screenshot()
    row.evaluate("(row) => { row.style.visibility = 'hidden'; }")

    assert above.screenshot() == with_accents


def test_rows_are_found_by_keyboard(report, visit):
    """A slash focuses the search, words filter the rows, Escape clears the filter, and Enter opens a long text."""
    page = visit(report).page
    visible = page.locator("#rows tbody tr:visible")
    total = visible.count()

    page.keyboard.press("/")
    page.keyboard.type("ONERROR image")

    assert page.evaluate("document.activeElement.id") == "search"
    assert visible.count() == 1
    assert page.locator("#found").inner_text() == f"1 of {total} rows"
    page.keyboard.press("Escape")
    assert visible.count() == total
    page.keyboard.press("Tab")
    page.keyboard.type("f")
    assert page.evaluate("document.activeElement.value") == "failed"
    assert visible.count() == 1

    page.locator("#kind").select_option("")
    button = page.locator(".long > button:visible").first
    before = button.locator("xpath=..").bounding_box()
    button.focus()
    page.keyboard.press("Enter")
    after = button.locator("xpath=..").bounding_box()
    assert button.get_attribute("aria-expanded") == "true"
    assert after["height"] > before["height"]


def test_the_printed_page_has_the_first_hundred_rows(report, visit, tmp_path):
    """Controls are not printed, and a long report does not fill a book."""
    text = report.read_text()
    start, end = text.index('<tr role="row" data-kinds'), text.rindex("</tbody>")
    (tmp_path / "long.html").write_text(text[:start] + text[start:end] * 6 + text[end:])
    page = visit(tmp_path / "long.html").page
    assert page.locator("#rows tbody tr:visible").count() == 6 * (len(HOSTILE) + 2)
    page.emulate_media(media="print")

    assert page.locator("#rows tbody tr:visible").count() == 100
    assert not page.locator(".tools").is_visible()
    assert page.locator(".paper").is_visible()
