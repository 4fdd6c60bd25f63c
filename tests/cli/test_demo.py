"""``demo`` and ``emulator``: trying batchkit without a key."""

from __future__ import annotations

import re
import signal
import socket
from pathlib import Path

import httpx
import pytest

from batchkit.api import demo
from batchkit.emulator.faults import batches
from batchkit.files import jsonl
from batchkit.preflight import inspect
from batchkit.provider.groq.dialect import GROQ
from tests.cli.test_driving import interrupt_when, start
from tests.workloads import read_lines


@pytest.fixture
def quick(monkeypatch):
    """Make the demo's day take a quarter of a second."""
    monkeypatch.setattr(demo, "_SPEED", 350_000.0)


def test_the_demos_input_is_valid_and_mixed():
    """The input has about a thousand lines: chat, images and recordings, each with its own id."""
    lines = list(demo.requests())
    assert len(lines) == 1_000
    assert len({line["custom_id"] for line in lines}) == 1_000
    assert {line["url"] for line in lines} == {"/v1/chat/completions", "/v1/audio/transcriptions"}
    assert len({line["body"]["model"] for line in lines}) == 3
    for line in lines:
        inspection = inspect(line, len(jsonl.dumps(line)), GROQ.rules)
        assert (inspection.reasons, inspection.warnings) == ((), ())


@pytest.mark.usefixtures("quick")
def test_the_demo_reports_what_happened_and_where_the_files_are(batchkit, monkeypatch):
    """Some requests fail permanently, some expire and are sent again, all are executed once; no call leaves the machine."""
    # Settings from elsewhere must not matter: neither key nor address nor database.
    monkeypatch.setenv("GROQ_API_KEY", "gsk_real")
    monkeypatch.setenv("BATCHKIT_BASE_URL", "http://127.0.0.1:9/openai/v1")
    monkeypatch.setenv("BATCHKIT_DATABASE_URL", "sqlite:///elsewhere.db")
    ended = batchkit("demo", "--no-prefect")
    assert ended.code == 0, ended.err
    succeeded, failed = (
        int(re.search(rf"(\d+) {words}", ended.out)[1])  # type: ignore[index] # no match fails the test
        for words in ("of 1,000", "failed permanently")
    )
    assert succeeded + failed == 1_000
    assert 0 < failed < 100
    assert re.search(r"\d+ requests expired", ended.out)
    assert "1,000 requests executed, 0 bought twice" in ended.out
    results = read_lines(Path("batchkit-demo/demo.results.jsonl"))
    assert [line["custom_id"] for line in results] == [line["custom_id"] for line in demo.requests()]
    assert {path.name for path in Path().iterdir()} == {"batchkit-demo"}
    commands = [line.strip() for line in ended.out.splitlines() if line.startswith("  ")]
    assert [command.split()[0] for command in commands] == ["batchkit", "batchkit", "sqlite3"]
    assert batchkit(*commands[0].split()[1:]).code == 0
    assert batchkit(*commands[1].split()[1:]).code == 0
    assert Path("batchkit-demo/demo.csv").exists()


@pytest.mark.usefixtures("quick")
def test_a_second_demo_does_not_replace_the_first(batchkit, monkeypatch):
    """Nothing is deleted, and the second demo shows the same again."""
    monkeypatch.setattr(demo, "_BUYERS", (1,))
    assert batchkit("demo", "--no-prefect", "--home", "here").code == 0
    ended = batchkit("demo", "--no-prefect", "--home", "here")
    assert ended.code == 0
    assert "batchkit status demo-2 --home here" in ended.out
    assert "requests expired" in ended.out
    names = [workload["name"] for workload in batchkit("status", "--home", "here", "--json").json["workloads"]]
    assert names == ["demo", "demo-2"]


@pytest.mark.patient
@pytest.mark.usefixtures("quick")
def test_an_interrupted_demo_resumes(batchkit):
    """The same command finds the batches of the stopped emulator, and buys nothing again."""
    code, _, err = interrupt_when(start("demo", "--no-prefect", "--home", "here", "-v"), "submit: 6 ")
    assert code == 130
    assert re.search(r"resume: .*batchkit demo --no-prefect --home here -v", err)
    ended = batchkit("demo", "--no-prefect", "--home", "here")
    assert ended.code == 0
    assert "going on with demo:" in ended.err
    assert "1,000 requests executed, 0 bought twice" in ended.out


@pytest.mark.usefixtures("quick")
def test_two_demos_in_one_folder_do_not_disturb_each_other(batchkit):
    """The second one is refused until the first has ended."""
    with demo.open_demo(Path("here")):
        ended = batchkit("demo", "--no-prefect", "--home", "here")
    assert ended.code == 2
    assert "a demo is running" in ended.err


def test_the_demo_refuses_a_foreign_folder(batchkit):
    """A folder with other content is left alone."""
    Path("mine").mkdir()
    Path("mine/notes.txt").write_text("important")
    ended = batchkit("demo", "--no-prefect", "--home", "mine")
    assert ended.code == 2
    assert [path.name for path in Path("mine").iterdir()] == ["notes.txt"]
    ended = batchkit("demo", "--no-prefect", "--home", "mine/notes.txt")
    assert ended.code == 2
    assert "mine/notes.txt is a file, not a folder" in ended.err


@pytest.mark.slow
def test_the_whole_demo_with_prefect_takes_less_than_45_seconds():
    """The demo is started as a newcomer starts it."""
    process = start("demo")
    out, err = process.communicate(timeout=45)
    assert process.returncode == 0, err
    assert "0 bought twice" in out


def test_the_emulator_announces_its_address_and_ends_on_a_signal():
    """The base URL is the only line on stdout, for scripts; Ctrl-C ends the emulator."""
    process = start("emulator", "--port", "0", "--scenario", "expire-30", "--api-key", "gsk_mine")
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/openai/v1", address)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 0
    assert f"BATCHKIT_BASE_URL={address}" in err
    assert "gsk_mine" not in err


@pytest.mark.parametrize(("flags", "status"), [((), 404), (("--any-model",), 200)])
def test_the_emulator_answers_unlisted_models_only_on_request(flags, status):
    """The option is for trying models that the emulator does not know."""
    process = start("emulator", "--port", "0", *flags)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    body = {"model": "my/own-model", "messages": [{"role": "user", "content": "x"}]}
    reply = httpx.post(f"{address}/chat/completions", json=body, headers={"authorization": "Bearer any"}, timeout=20)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=30)
    assert reply.status_code == status


def test_the_emulators_scenarios_are_listed(batchkit):
    """Every scenario has a sentence, and every fault has its parameters."""
    ended = batchkit("emulator", "--list-scenarios")
    assert ended.code == 0
    assert "expire-30" in ended.out
    ended = batchkit("emulator", "--list-faults")
    assert batches.StuckBatches.name in ended.out
    assert "custom_ids" in ended.out
    assert max(len(line) for line in ended.out.splitlines()) <= 100


@pytest.mark.parametrize("words", [("--port", "70000"), ("--speed", "0"), ("--speed", "-1"), ("--speed", "nan")])
def test_an_emulator_that_cannot_be_is_exit_code_2(batchkit, words):
    """The option is named; no server starts."""
    ended = batchkit("emulator", *words)
    assert ended.code == 2
    assert words[0] in ended.err


def test_a_port_that_is_taken_is_exit_code_2(batchkit):
    """The hint says what else to do."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        ended = batchkit("emulator", "--port", str(other.getsockname()[1]))
    assert ended.code == 2
    assert "hint: stop the program that listens there" in ended.err


def test_an_unknown_scenario_is_exit_code_2(batchkit):
    """The error suggests the most similar name."""
    ended = batchkit("emulator", "--scenario", "expire-3")
    assert ended.code == 2
    assert "did you mean" in ended.err
