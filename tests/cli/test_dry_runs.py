"""``--dry-run`` refuses everything that the run would refuse, with the same message, and neither stores nor sends."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchkit.files import jsonl
from tests.workloads import chat_line, write_lines

MODEL = "openai/gpt-oss-20b"
ASK = ("annotate", "t.csv", "--prompt", "Kind? {{ text }}", "--no-prefect")
KEYED = (*ASK, "--key", "id", "-m", MODEL)


@pytest.fixture(autouse=True)
def _tables():
    """Write a table with valid keys, one with invalid keys, and an input of requests."""
    Path("t.csv").write_text("id,text\na,x\nb,y\nc,z\n")
    Path("twice.csv").write_text("id,text\na,x\nb,y\na,z\n1e5,u\n1e5,v\n")
    Path("gap.csv").write_text("id,text\na,x\n ,y\n")
    write_lines(Path("unlisted.jsonl"), [chat_line("a"), *unlisted("b")])


def unlisted(custom_id):
    """Return a request to a model that does not exist."""
    line = chat_line(custom_id)
    line["body"]["model"] = "no-such-model"
    return [line]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("annotate", "twice.csv", *KEYED[2:]),
            ["row 3: id: the key 'a' is that of row 1", "row 5: id: the key '1e5'"],
        ),
        (("annotate", "gap.csv", *KEYED[2:]), ["row 2: id: the key is empty"]),
        ((*ASK, "-m", "openai/gpt-oss-20B"), ["openai/gpt-oss-20B is listed as openai/gpt-oss-20b"]),
        ((*ASK, "-m", f"{MODEL},no-such-model"), ["model no-such-model is not listed"]),
        (("run", "unlisted.jsonl", "--no-prefect"), ["model no-such-model is not listed"]),
        (("submit", "unlisted.jsonl", "--no-prefect"), ["model no-such-model is not listed"]),
        (
            ("moderate", "t.csv", "--text", "text", "-m", "no-such-guard", "--no-prefect"),
            ["no-such-guard is not listed"],
        ),
        (("transcribe", "t.csv", "--audio", "text", "--no-prefect"), ["row 1: text: x cannot be read: No such file"]),
        ((*KEYED, "--temperature", "3"), ["error: Groq would refuse the requests: temperature is 3"]),
        ((*KEYED, "-o", "t.csv"), ["is the input"]),
        ((*KEYED, "-o", "none/out.csv"), ["no such folder"]),
        ((*KEYED, "--shard-bytes", "1100", "--system", "s" * 2_000), ["longer than a shard file may be"]),
    ],
)
def test_the_dry_run_refuses_what_the_run_refuses_with_the_same_message(batchkit, open_emulator, words, told):
    """This covers keys, models, outputs, folders and lengths: exit code 2, nothing is sent and nothing is created."""
    emulator = open_emulator()
    before = sorted(Path().rglob("*"))
    dry = batchkit(*words, "--dry-run")
    assert sorted(Path().rglob("*")) == before
    real = batchkit(*words)
    for ended in (dry, real):
        assert ended.code == 2, ended.out
        for text in told:
            assert text in " ".join(ended.err.split()), ended.err
    assert dry.err.splitlines()[:1] == real.err.splitlines()[:1]
    assert batchkit("status", "--json").json["workloads"] == []
    assert set(emulator.ledger().calls) <= {"models.list", "models.retrieve"}


@pytest.mark.parametrize(
    ("first", "other", "told"),
    [
        (("run", "one.jsonl"), ("run", "two.jsonl"), "was made of a different input"),
        (("annotate", "t.csv", *KEYED[2:]), ("run", "one.jsonl"), "was made in another way"),
        (("run", "one.jsonl"), ("annotate", "t.csv", *KEYED[2:]), "was made from requests"),
        (("annotate", "t.csv", *KEYED[2:]), ("annotate", "t.csv", *KEYED[2:], "--limit", "2"), "limit differ"),
    ],
)
def test_a_name_that_is_taken_is_refused_by_the_dry_run_too(batchkit, open_emulator, first, other, told):
    """In the same words; the same command is told to resume."""
    open_emulator()
    for name in ("one", "two"):
        write_lines(Path(f"{name}.jsonl"), [chat_line(name)])
    assert batchkit(*first, "--name", "x", "--no-prefect").code == 0
    again = batchkit(*first, "--name", "x", "--dry-run")
    assert (again.code, "'x' exists" in again.err) == (0, True)
    ended = [batchkit(*other, "--name", "x", "--no-prefect", *more) for more in (("--dry-run",), ())]
    assert [each.code for each in ended] == [2, 2]
    assert ended[0].err == ended[1].err
    assert told in ended[0].err


def test_a_model_that_is_not_listed_but_known_by_its_name_is_no_problem(batchkit, open_emulator):
    """Some servers answer to more names than they list."""
    open_emulator(any_model=True)
    for more in (("--dry-run",), ()):
        ended = batchkit("run", "unlisted.jsonl", "--no-prefect", *more)
        assert ended.code == 0, ended.err
    odd = chat_line("a")
    odd["body"]["model"] = "\x1b[31m" + "x" * 3_000
    half = jsonl.dumps({**odd, "custom_id": "b"}).replace(b"xxx", rb"\ud800", 1)
    write_lines(Path("odd.jsonl"), [odd, half])
    ended = batchkit("run", "odd.jsonl", "--no-prefect", "--dry-run")
    assert len(ended.err) < 1_000
    assert "\x1b[31m" not in ended.err
    ended = batchkit(*ASK, "-m", "../batches", "--dry-run")
    assert (ended.code, "../batches is not listed" in ended.err) == (2, True)


def test_models_that_cannot_be_checked_are_a_warning_of_the_dry_run(batchkit, monkeypatch, open_emulator):
    """The warning comes without a key, without a server, and for a server without a list; known models are not checked again."""
    emulator = open_emulator()
    assert batchkit(*KEYED, "-o", "out.csv").code == 0
    calls = emulator.ledger().calls
    monkeypatch.setenv("BATCHKIT_BASE_URL", "http://127.0.0.1:9/openai/v1")
    other = (*KEYED, "--system", "Be brief.")
    for words in (other, ("run", "unlisted.jsonl", "--no-prefect")):
        ended = batchkit(*words, "--dry-run")
        assert (ended.code, "whether the provider lists the models is not known" in ended.err) == (0, True)
    monkeypatch.delenv("GROQ_API_KEY")
    assert "there is no API key" in batchkit(*other, "--dry-run").err
    assert batchkit(*KEYED, "-o", "out.csv").code == 0
    assert emulator.ledger().calls == calls
    assert jsonl.loads(batchkit(*KEYED, "--dry-run", "--json").out)["requests"] == 3
