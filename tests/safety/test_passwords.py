"""A database's password is never shown, wherever it is in the URL and however it is written."""

from __future__ import annotations

import os
from urllib.parse import quote

import pytest
from sqlalchemy import make_url

from batchkit.child_environment import environment_for_others
from batchkit.settings import load_settings
from tests.safety.needles import PASSWORD, leaks
from tests.workloads import write_mixed

AWAY = "127.0.0.1:1/name"
ESCAPED = quote(PASSWORD, safe="")
#: The places of a password; the last one is the usual mistake: an @ that should have been written as %40.
URLS = {
    "before the host": f"postgresql+psycopg://me:{ESCAPED}@{AWAY}",
    "as an option": f"postgresql://{AWAY}?user=me&password={ESCAPED}",
    "of a client certificate": f"postgresql://me@{AWAY}?sslpassword={ESCAPED}&connect_timeout=2",
    "with an @": f"postgresql://me:{PASSWORD}@{AWAY}",
}
VERBS = {
    "status": ("status",),
    "status of one": ("status", "nightly"),
    "export": ("export", "nightly", "out.csv", "-v"),
    "run": ("run", "input.jsonl", "--no-prefect", "-v"),
    "submit": ("submit", "input.jsonl", "--no-prefect", "-v"),
    "watch": ("watch", "-v"),
    "cancel": ("cancel", "nightly", "-v"),
    "resubmit": ("resubmit", "nightly", "-v"),
    "clean": ("clean", "nightly", "--yes", "-v"),
    "check": ("db", "check"),
    "upgrade": ("db", "upgrade"),
}


@pytest.mark.patient
@pytest.mark.parametrize("url", URLS.values(), ids=URLS)
def test_no_verb_shows_the_password_of_an_unreachable_database(batchkit, monkeypatch, tmp_path, url):
    """Every verb reports that the database cannot be used, with and without a traceback, and does not show the password."""
    write_mixed(tmp_path / "work" / "input.jsonl", 3)
    monkeypatch.setenv("GROQ_API_KEY", "gsk_made_up")
    monkeypatch.setenv("BATCHKIT_OUTAGE_SECONDS", "0.01")
    for verb, words in VERBS.items():
        ended = batchkit(*words, "--database-url", url)
        assert ended.code in {2, 4}, ended.err
        assert "database" in ended.err
        assert leaks(verb, (ended.out + ended.err).encode(), PASSWORD) == []
        # A URL parser ends the password at the @, so the rest would count as the host.
        assert "p/a+s" not in ended.out + ended.err


@pytest.mark.parametrize("place", ["user", "option"])
def test_commands_to_copy_omit_the_password(batchkit, open_emulator, source, postgres_url, place):
    """A command prints the same text about its database and how to resume, without the password."""
    open_emulator()
    url = make_url(postgres_url)
    url = url.set(password=PASSWORD) if place == "user" else url.update_query_dict({"password": PASSWORD})
    where = ("--database-url", url.render_as_string(hide_password=False))

    ended = [
        batchkit("run", source, "--no-prefect", "--timeout", "0", *where),
        batchkit("status", "nothing", *where),
        batchkit("cancel", "nothing", *where),
        batchkit("db", "check", *where),
        batchkit("run", source, "--no-prefect", *where),
        batchkit("status", "input", *where),
        batchkit("clean", "input", *where),
    ]

    assert [one.code for one in ended] == [4, 2, 2, 0, 0, 0, 2]
    said = "".join(one.out + one.err for one in ended)
    assert said.count("--database-url") == 2
    assert said.count(str(url.database)) >= 5
    assert leaks("the terminal", said.encode(), PASSWORD) == []


def test_children_without_need_get_no_secret(monkeypatch):
    """A helper process inherits neither key nor password, and all variables that are not batchkit's."""
    secrets = (
        "GROQ_API_KEY",
        "OPENAI_API_KEY",
        "BATCHKIT_API_KEY",
        "BATCHKIT_DATABASE_URL",
        "batchkit_api_key",
        "PGPASSWORD",
    )
    for name in secrets:
        monkeypatch.setenv(name, PASSWORD)
    monkeypatch.setenv("PREFECT_API_KEY", "theirs")
    given = environment_for_others()
    assert given == {name: value for name, value in os.environ.items() if name not in secrets}
    assert given["PREFECT_API_KEY"] == "theirs"


def test_settings_do_not_show_their_secrets():
    """They are not shown when settings are printed, or as variables of a traceback."""
    settings = load_settings(
        api_key="gsk_made_up_key", database_url=URLS["before the host"], spool_url=f"sftp://me:{PASSWORD}@host/folder"
    )
    shown = f"{settings} {settings!r}"
    assert "home=" in shown
    assert "gsk_made_up_key" not in shown
    assert leaks("the settings", shown.encode(), PASSWORD) == []
