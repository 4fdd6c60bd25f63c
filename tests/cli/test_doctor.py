"""``doctor`` shows what is wrong, and what to do about it."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from batchkit import doctor
from batchkit.emulator.faults import calls
from batchkit.files import jsonl
from tests.provider.server import ScriptedServer, answer, as_json, refusal
from tests.workloads import write_mixed

PAGE = answer(b"<html>Welcome</html>", content_type="text/html")
LIST = as_json({"data": []})


class Usage(NamedTuple):
    """The usage of a disk, in bytes."""

    total: float
    used: float
    free: float


@pytest.fixture(autouse=True)
def prefect_answers(monkeypatch):
    """Replace the probe of Prefect, which takes seconds; return a function that sets its answer."""

    def set_answer(*, returncode=0, stdout=b"", stderr=b""):
        monkeypatch.setattr(
            subprocess, "run", lambda *words, **_: subprocess.CompletedProcess(words, returncode, stdout, stderr)
        )

    set_answer(stdout=jsonl.dumps({"version": "3.8.8", "api_url": None, "answers": False}))
    return set_answer


def found(clock=None, **flags):
    """Run all checks; return the results by name."""
    more = {} if clock is None else {"clock": clock}
    return {finding.check: finding for finding in doctor.examine(flags, **more)}


def test_all_checks_pass(batchkit, open_emulator, tmp_path):
    """Each check has a line, and the exit code is 0."""
    open_emulator()
    source = write_mixed(tmp_path / "input.jsonl", 3)
    batchkit("run", source, "--no-prefect")
    ended = batchkit("doctor")
    assert ended.code == 0, ended.out
    for check in ("versions", "settings", "disk", "database", "key", "plan", "clock", "prefect"):
        assert f" {check} " in ended.out
    assert "failed" not in ended.out
    assert "gsk_test" not in ended.out


def test_results_are_machine_readable(batchkit, open_emulator):
    """The output is one object with a level for each check."""
    open_emulator()
    ended = batchkit("doctor", "--json")
    assert ended.json["schema_version"] == 1
    assert {finding["level"] for finding in ended.json["findings"]} <= {"ok", "warning"}


def test_a_failure_is_exit_code_4(batchkit):
    """A run cannot work without a key."""
    ended = batchkit("doctor")
    assert ended.code == 4
    assert "there is no key" in ended.out
    assert "GROQ_API_KEY" in ended.out


def test_doctor_changes_nothing(batchkit):
    """No database and no folder are created."""
    batchkit("doctor")
    assert list(Path().iterdir()) == []


def test_the_free_plan_is_named(open_emulator):
    """Models work, batches do not: the key is valid and the plan is the problem."""
    open_emulator(calls.PlanGate())
    findings = found()
    assert findings["key"].level == "ok"
    assert findings["plan"].level == "failed"
    assert "not_available_for_plan" in findings["plan"].message
    assert "Developer tier" in (findings["plan"].advice or "")


def test_a_wrong_key_is_named(open_emulator, monkeypatch):
    """401 says which key to check, without printing it."""
    open_emulator()
    monkeypatch.setenv("GROQ_API_KEY", "gsk_wrong")
    finding = found()["key"]
    assert finding.level == "failed"
    assert "gsk_wrong" not in finding.message


def test_an_address_that_does_not_answer_is_named(open_emulator):
    """The error has the address that was tried."""
    open_emulator()
    finding = found(base_url="http://127.0.0.1:9/openai/v1")["key"]
    assert finding.level == "failed"
    assert "127.0.0.1:9" in finding.message


@pytest.mark.parametrize(
    ("models", "batches", "levels", "words"),
    [
        (PAGE, PAGE, {"key": "failed"}, "there is no batch API at http://127.0.0.1"),
        (LIST, PAGE, {"key": "failed"}, "there is no batch API at http://127.0.0.1"),
        (PAGE, LIST, {"key": "warning", "plan": "ok"}, "GET /models"),
        (LIST, LIST, {"key": "ok", "plan": "ok"}, "accepts the key"),
        (refusal(403), LIST, {"key": "ok", "plan": "failed"}, "accepts the key"),
        (refusal(401), LIST, {"key": "failed"}, "HTTP 401"),
    ],
)
def test_the_server_at_the_address_is_described(monkeypatch, models, batches, levels, words):
    """The message is that of the check before each run; a server without models gets a warning."""
    monkeypatch.setenv("GROQ_API_KEY", "gsk_test")
    with ScriptedServer(choose=lambda seen: models if seen.path.endswith("/models") else batches) as server:
        findings = found(base_url=server.base_url)
    assert {name: findings[name].level for name in ("key", "plan") if name in findings} == levels
    assert words in findings["key"].message
    if levels["key"] == "failed":
        assert findings["key"].advice


def test_settings_name_their_source(monkeypatch):
    """The source is a flag, the environment, .env, batchkit.toml, or the default; the key itself is not shown."""
    Path(".env").write_text("# a comment=x\nexport BATCHKIT_LEASE_SECONDS=30\nGROQ_API_KEY=gsk_from_dotenv\n")
    monkeypatch.setenv("BATCHKIT_BASE_URL", "http://127.0.0.1:9/openai/v1")
    Path("batchkit.toml").write_text('[batchkit]\nlease_seconds = 20\nwindow = "48h"\n')
    message = found(home=Path("here"))["settings"].message
    assert message == (
        "key present (.env), base_url from the environment, home from a flag, window from batchkit.toml:3,"
        " lease_seconds from .env;"
        " everything else at its default"
    )


def test_the_provider_and_its_source_are_told(monkeypatch):
    """Whose API it is, who said so, its address, and how its limits are known."""
    assert found()["provider"].message.startswith("groq, Groq (the default), at https://api.groq.com/openai/v1; its")
    Path("batchkit.toml").write_text(
        '[provider]\nname = "mine"\nbase_url = "https://x.example/v1"\n[provider.profile]\n'
    )
    message = found()["provider"].message
    assert message == "mine, mine (batchkit.toml:2), at https://x.example/v1; its limits: a profile of your own"
    monkeypatch.setenv("BATCHKIT_PROVIDER", "kimi")
    assert "kimi, Kimi (Moonshot) (the environment), at https://api.moonshot.ai/v1" in found()["provider"].message


def test_a_wrong_setting_ends_the_checks(monkeypatch):
    """No other check can run without settings."""
    monkeypatch.setenv("BATCHKIT_LEASE_SECONDS", "soon")
    findings = found()
    assert list(findings) == ["versions", "settings"]
    assert findings["settings"].level == "failed"


@pytest.mark.parametrize(("free", "level"), [(50e9, "ok"), (2e9, "warning"), (1e8, "failed")])
def test_disk_space_is_checked(monkeypatch, free, level):
    """Shards, answers and the database need space."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: Usage(1e12, 0, free))
    finding = found()["disk"]
    assert finding.level == level
    assert (finding.advice is None) == (level == "ok")


def test_a_folder_that_is_not_writable_fails(monkeypatch):
    """This covers the spool and the database."""
    monkeypatch.setattr(os, "access", lambda _path, _mode: False)
    findings = found()
    assert findings["disk"].level == "failed"
    assert findings["database"].level == "failed"


def test_a_spool_at_a_url_is_tried(tmp_path, monkeypatch):
    """The check runs only with a spool URL, and deletes the file that it wrote."""
    for nothing in ({}, {"spool_url": ""}):
        assert "spool" not in found(**nothing)
    monkeypatch.setenv("BATCHKIT_SPOOL_URL", f"file://{tmp_path}/shared")
    finding = found()["spool"]
    assert finding.level == "ok"
    assert str(tmp_path / "shared") in finding.message
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("file:///proc/no/such/folder", "cannot write, read and delete file:///proc/no/such/folder"),
        ("nonsense://me:p%40ss@host/folder", "(nonsense://***@host/folder) cannot be used"),
    ],
)
def test_a_spool_that_cannot_be_used_fails(monkeypatch, url, words):
    """The failure names the place, without the password, and what to do."""
    monkeypatch.setenv("BATCHKIT_SPOOL_URL", url)
    finding = found()["spool"]
    assert finding.level == "failed"
    assert words in finding.message
    assert "ss@" not in finding.message
    assert finding.advice


def test_a_database_that_does_not_exist_yet_is_fine():
    """The first run creates it."""
    assert "the first run makes it" in found()["database"].message


def test_a_database_without_schema_is_a_warning():
    """The next run upgrades it."""
    Path("x.db").touch()
    finding = found(database_url="sqlite:///x.db")["database"]
    assert finding.level == "warning"
    assert "db upgrade" in (finding.advice or "")


def test_a_database_that_cannot_be_reached_fails():
    """The failure has the address without the password."""
    finding = found(database_url="postgresql+psycopg://me:secret@127.0.0.1:9/db")["database"]
    assert finding.level == "failed"
    assert "secret" not in finding.message


def test_a_database_that_refuses_to_write_fails(postgres_server):
    """The check writes a statement that changes no row."""
    name = postgres_server.create()
    try:
        url = postgres_server.url_of(name)
        assert found(database_url=url)["database"].level == "warning"
        read_only = f"{url}{'&' if '?' in url else '?'}options=-cdefault_transaction_read_only%3Don"
        from batchkit.store import migrate  # noqa: PLC0415 - only this test migrates by itself
        from batchkit.store.engine import Store  # noqa: PLC0415 - as above

        store = Store(url)
        migrate.upgrade(store)
        store.close()
        assert found(database_url=url)["database"].level == "ok"
        assert found(database_url=read_only)["database"].level == "failed"
    finally:
        postgres_server.drop(name)


@pytest.mark.parametrize(("skew", "words"), [(-90, "90 s behind"), (90, "90 s ahead of"), (50, "within 60 s")])
def test_the_clock_is_compared_with_the_date_of_the_replies(open_emulator, skew, words):
    """No batch is needed for it; a difference of a minute does no harm."""
    open_emulator(speed=1.0)
    finding = found(clock=lambda: time.time() + skew)["clock"]
    assert (finding.level == "ok") == (abs(skew) < 60)
    assert words in finding.message.replace("91 s", "90 s").replace("89 s", "90 s")


def test_without_a_reply_the_clock_is_not_checked(open_emulator):
    """There is no date to compare with."""
    open_emulator()
    assert "clock" not in found(base_url="http://127.0.0.1:9/openai/v1")


@pytest.mark.parametrize(
    ("answer", "level", "words"),
    [
        ({"stdout": b'{"version": "3.8.8", "api_url": null, "answers": false}'}, "ok", "a temporary one"),
        ({"stdout": b'{"version": "3.8.8", "api_url": "http://x/api", "answers": true}'}, "ok", "its server answers"),
        (
            {"stdout": b'{"version": "3.8.8", "api_url": "http://x/api", "answers": false}'},
            "warning",
            "does not answer",
        ),
        ({"returncode": 1, "stderr": b"Traceback\nImportError: no prefect"}, "failed", "ImportError: no prefect"),
    ],
)
def test_prefect_is_checked(prefect_answers, answer, level, words):
    """The check covers whether Prefect loads, and whether its server answers."""
    prefect_answers(**answer)
    finding = found()["prefect"]
    assert finding.level == level
    assert words in finding.message


def test_a_prefect_that_hangs_is_a_warning(monkeypatch):
    """It gets a minute."""

    def hang(*words, **_more):
        raise subprocess.TimeoutExpired(words, 60)

    monkeypatch.setattr(subprocess, "run", hang)
    assert found()["prefect"].level == "warning"


def test_a_check_that_breaks_does_not_stop_the_others(monkeypatch):
    """An unexpected error is a separate result."""

    def surprise(_path):
        raise RuntimeError("what?")

    monkeypatch.setattr(shutil, "disk_usage", surprise)
    findings = found()
    assert findings["disk"].message == "RuntimeError: what?"
    assert "prefect" in findings


@pytest.mark.slow
def test_the_real_probe_of_prefect_answers(monkeypatch):
    """The script that runs in another process works."""
    monkeypatch.undo()
    finding = doctor._prefect()
    assert finding.level == "ok"
    assert finding.message.startswith("Prefect 3.")
