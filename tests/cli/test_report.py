"""``report``: an HTML page from the command line and from Python."""

from __future__ import annotations

import webbrowser
from pathlib import Path

import batchkit as package
from batchkit.cli.render import exits


def test_a_report_is_written_to_the_given_place(batchkit, open_emulator, source):
    """The default is beside the results, under the workload's name; --output names another place, created if necessary."""
    open_emulator()
    assert batchkit("run", source, "--no-prefect").code == exits.SUCCEEDED

    ended = batchkit("report", "input")
    assert (ended.code, ended.out) == (exits.SUCCEEDED, "report written to input.report.html\n")
    assert "All 30 requests succeeded." in Path("input.report.html").read_text()

    assert batchkit("report", "input", "--output", "pages/today.html", "--rows", 3).code == exits.SUCCEEDED
    assert Path("pages/today.html").read_text().count('<tr role="row" data-kinds') == 3
    assert not list(Path().rglob("*.part"))


def test_a_report_needs_no_key_and_no_provider(batchkit, open_emulator, source, monkeypatch):
    """Reading the database is enough, also while the workload is under way."""
    open_emulator()
    assert batchkit("submit", source, "--no-prefect").code == exits.SUCCEEDED
    monkeypatch.delenv("GROQ_API_KEY")
    monkeypatch.setenv("BATCHKIT_BASE_URL", "http://127.0.0.1:9/openai/v1")

    assert batchkit("report", "input").code == exits.SUCCEEDED
    assert "of 30 answered" in Path("input.report.html").read_text()


def test_an_unknown_name_is_exit_code_2(batchkit, open_emulator):
    """The error says how to list the names, and no page is written."""
    open_emulator()

    ended = batchkit("report", "nothing")
    assert ended.code == exits.USAGE
    assert "there is no workload 'nothing'" in ended.err
    assert "batchkit status" in ended.err
    assert not list(Path().glob("*.html"))


def test_reading_creates_nothing(batchkit):
    """Without a database, a report creates none."""
    assert batchkit("report", "nothing").code == exits.USAGE
    assert list(Path().iterdir()) == []


def test_the_page_is_opened_on_request(batchkit, open_emulator, source, monkeypatch):
    """The browser gets the page's address; without a browser the address is printed."""
    open_emulator()
    batchkit("submit", source, "--no-prefect")
    opened: list[str] = []

    def open_first(url):
        opened.append(url)
        return len(opened) == 1

    monkeypatch.setattr(webbrowser, "open", open_first)

    assert batchkit("report", "input", "--open").err == ""
    assert opened == [Path("input.report.html").absolute().as_uri()]
    assert opened[0] in batchkit("report", "input", "--open").err


def test_without_its_extra_the_error_names_the_package(batchkit, monkeypatch):
    """The hint is a command that can be pasted."""
    monkeypatch.setattr("batchkit.datasets.find_spec", lambda _name: None)
    ended = batchkit("report", "input")

    assert ended.code == exits.USAGE
    assert "pip install 'groq-batchkit[annotate]'" in ended.err


def test_the_verb_is_a_function_too(batchkit, open_emulator, source):
    """Python writes the same page, and returns its path."""
    open_emulator()
    batchkit("submit", source, "--no-prefect")

    page = package.report("input", rows=2)

    assert page == Path("input.report.html").absolute()
    assert page.read_text().count('<tr role="row" data-kinds') == 2
