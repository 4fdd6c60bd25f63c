"""The words that are never used again: in every help page, in every README, and in the code of the rooms listed here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from batchkit.cli.app import app
from tests.readmes import name_of, readmes

ROOT = Path(__file__).parents[2]

#: Words of batchkit's former dialect, and the plain word for each. Other meanings of these words are fine.
BANNED = {
    r"\b(ride|rides|rider|riders|rode|riding)\b": "attempt, request",
    r"\b(crew|errands?|desk|desks)\b": "threads, remote wave, (gone)",
    r"\bpatience\b": "retries, outage",
    r"\bfor good\b": "permanently",
    r"\bcarr(y|ies|ied) on\b": "resumes, continues",
    r"\bgo(es)? on\b": "continues",
    r"\bwhat is due\b": "pending work",
    r"\bpictures? of (now|a workload|the workload|where)\b": "snapshot",
    r"\bcome back: ": "resume: ",
    r"\bsee it through\b": "wait",
    r"\bwithout anything to do\b": "automatically",
}
_BANNED = re.compile("|".join(BANNED), re.IGNORECASE)
#: Rooms in which no line has such a word.
ROOMS = (
    *("batchkit/api", "batchkit/cli", "batchkit/engine", "flows"),
    *("batchkit/annotation", "batchkit/answers", "batchkit/datasets", "batchkit/evaluation", "batchkit/preflight"),
    *("batchkit/emulator", "batchkit/notifications", "batchkit/reports", "batchkit/stats", "batchkit/view"),
    *("tests/acceptance", "tests/annotation", "tests/answers", "tests/benchmarks", "tests/cli"),
    *("tests/datasets", "tests/emulator", "tests/evaluation", "tests/flows", "tests/notifications", "tests/proof"),
    *(
        "tests/properties",
        "tests/provider",
        "tests/reports",
        "tests/scale",
        "tests/sending",
        "tests/stats",
        "tests/steps",
        "tests/view",
    ),
    *("tests/store", "tests/surroundings", "tests/unit"),
    *(f"tests/{path.name}" for path in sorted((ROOT / "tests").glob("*.py"))),
)
#: The core: its rooms, and the modules beside them.
CORE = (
    "batchkit/engine", "batchkit/sending", "batchkit/steps", "batchkit/store", "batchkit/files", "batchkit/provider", "batchkit/models.py",
    "batchkit/lifecycle.py", "batchkit/errors.py", "batchkit/sharding.py", "batchkit/owners.py", "batchkit/backoff.py",
)  # fmt: skip
#: The core also avoids these words: a function returns something, it does not say, name or tell it.
_CORE_BANNED = re.compile(
    r'"""(say|name|tell|pick|bring|give (?!up|back|a shard back|the shards))\b|\b(tally|landing|pictures?|waits for nobody)\b'
    r"|\blook(s|ed|ing)? (at|into|through)\b|\b(a|another|several) looks?\b",
    re.IGNORECASE,
)
VERBS = (
    (), ("run",), ("submit",), ("watch",), ("status",), ("export",), ("report",), ("view",), ("eval",), ("annotate",), ("transcribe",),
    ("moderate",), ("cancel",), ("resubmit",), ("clean",), ("serve",), ("doctor",), ("demo",), ("emulator",), ("db",),
)  # fmt: skip


def found(text: str, banned: re.Pattern[str] = _BANNED) -> list[str]:
    """Return the lines that hold a banned word."""
    return [line.strip() for line in text.splitlines() if banned.search(line)]


def modules(path: Path) -> list[Path]:
    """Return the module itself, or the modules of a folder."""
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


@pytest.mark.parametrize("path", readmes(), ids=name_of)
def test_no_readme_uses_a_banned_word(path):
    """A newcomer needs no glossary."""
    assert found(path.read_text()) == []


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_no_help_page_uses_a_banned_word(verb):
    """The whole help page of each verb is checked."""
    page = CliRunner().invoke(app, [*verb, "--help"], env={"COLUMNS": "200"})
    assert page.exit_code == 0
    assert found(page.output) == []


@pytest.mark.parametrize("room", ROOMS)
def test_no_room_uses_a_banned_word(room):
    """The check covers names, docstrings, comments and messages."""
    lines = {f"{path.relative_to(ROOT)}: {line}" for path in modules(ROOT / room) for line in found(path.read_text())}
    assert lines == set()


@pytest.mark.parametrize("room", CORE)
def test_the_core_uses_plain_words(room):
    """The core avoids more words than the other rooms do."""
    lines = {
        f"{file.relative_to(ROOT)}: {line}"
        for file in modules(ROOT / room)
        for line in [*found(file.read_text()), *found(file.read_text(), _CORE_BANNED)]
    }
    assert lines == set()


def test_no_code_says_ride():
    """The word meant an attempt, a request, and being sent; JSON keeps ``expired_rides`` for one more version."""
    ride = re.compile(r"(?<!expired_)\b(ride|rides|rider|riders|rode|ridden)\b", re.IGNORECASE)
    lines = {
        f"{path.relative_to(ROOT)}: {line.strip()}"
        for folder in ("batchkit", "flows")
        for suffix in ("*.py", "*.html")
        for path in (ROOT / folder).rglob(suffix)
        for line in path.read_text().splitlines()
        if ride.search(line)
    }
    assert lines == set()


def test_the_banned_words_are_found():
    """The expressions match what they should, and no ordinary uses."""
    for text in (
        "109 rides expired",
        "The same command carries on.",
        "it goes on at the provider",
        "Patience: 5 tries",
    ):
        assert found(text) == [text]
    for text in ("override", "ORDER BY", "the desktop", "provides", "a picture"):
        assert found(text) == []


def test_the_words_of_the_core_are_found():
    """The expression matches what it should, and no ordinary uses."""
    for text in (
        '"""Say how long to wait."""',
        "after a look at all",
        "one picture",
        "the tally",
        "is looked at again",
    ):
        assert found(text, _CORE_BANNED) == [text]
    for text in ('"""Give up the leases."""', "the looks column", "look up a row", "it returns", "a file to look for"):
        assert found(text, _CORE_BANNED) == []
