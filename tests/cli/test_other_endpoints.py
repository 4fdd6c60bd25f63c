"""Compound systems, responses and embeddings: what they answer beside a text is part of the output."""

import csv
from pathlib import Path

import pytest
from pyarrow import parquet as pq

from batchkit.emulator import Emulator
from batchkit.files import jsonl
from tests.cli.conftest import QUICK
from tests.workloads import write_lines


def line(custom_id, url, **body):
    """Return a request."""
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def test_the_tools_of_a_compound_system_are_columns(batchkit, open_emulator):
    """Their kinds, their number, and what they were asked and found, for each row; other models have no such columns."""
    emulator = open_emulator()
    Path("rows.csv").write_text("id,text\n1,What is 2 + 3?\n2,Who won?\n")
    ask = ("annotate", "rows.csv", "--key", "id", "--prompt", "{{ text }}", "--no-prefect")
    refused = batchkit(*ask, "-m", "groq/compound", "-o", "out.parquet")
    assert (refused.code, "--lane sync" in refused.err) == (2, True)
    ended = batchkit(*ask, "-m", "groq/compound", "--lane", "auto", "--small", "1", "-o", "out.parquet")
    assert ended.code == 0, ended.err
    assert emulator.ledger().totals.batches == 0
    first, second = pq.read_table("out.parquet").to_pylist()
    assert (first["tools"], first["tool_count"]) == (["python", "search"], 2)
    assert (second["tools"], second["tool_count"]) == (["search"], 1)
    code, search = jsonl.loads(first["executed_tools"])
    assert (code["output"], jsonl.loads(code["arguments"])) == ("5", {"code": "print(2 + 3)"})
    assert search["search_results"]["results"]
    assert batchkit(*ask, "-m", "openai/gpt-oss-20b", "-o", "plain.parquet").code == 0
    assert not {"tools", "tool_count", "executed_tools"} & set(pq.read_table("plain.parquet").column_names)


def test_several_annotators_have_the_tools_of_all(batchkit, open_emulator):
    """The columns of a row list the tools of each answer, in the order of the models."""
    open_emulator()
    Path("rows.csv").write_text("id,text\n1,What is 2 + 3?\n")
    models = "groq/compound,groq/compound-mini,openai/gpt-oss-20b"
    ended = batchkit(
        *("annotate", "rows.csv", "--prompt", "{{ text }}", "--models", models, "--lane", "sync", "--no-prefect"),
        *("-o", "out.parquet"),
    )
    assert ended.code == 0, ended.err
    (row,) = pq.read_table("out.parquet").to_pylist()
    assert (row["tools"], row["tool_count"]) == (["python", "search", "python"], 3)


def test_responses_of_the_default_provider_are_read(batchkit, open_emulator):
    """Their text, their end and their tokens are where those of a chat are."""
    open_emulator()
    write_lines(Path("input.jsonl"), [line("r", "/v1/responses", model="openai/gpt-oss-20b", input="hello")])
    ended = batchkit("run", "input.jsonl", "--lane", "sync", "--no-prefect", "-o", "out.csv")
    assert ended.code == 0, ended.err
    with Path("out.csv").open(newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["answer"], row["finish_reason"]) == ("Echo: hello", "stop")
    assert int(row["prompt_tokens"]) > 0
    assert int(row["completion_tokens"]) > 0


@pytest.mark.parametrize("lane", ["sync", "batch"])
def test_embeddings_are_a_list_in_parquet(batchkit, monkeypatch, tmp_path, lane):
    """On both lanes of a provider that has them; also those in base64, and a request with several inputs has none."""
    model = "text-embedding-3-small"
    write_lines(
        Path("input.jsonl"),
        [
            line("plain", "/v1/embeddings", model=model, input="hello"),
            line("base64", "/v1/embeddings", model=model, input="hello", encoding_format="base64"),
            line("several", "/v1/embeddings", model=model, input=["a", "b"]),
        ],
    )
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    with Emulator(tmp_path / "emulator", provider="openai", speed=432_000.0, api_key="sk-test") as emulator:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
        ended = batchkit(
            *("run", "input.jsonl", "--provider", "openai", "--base-url", emulator.base_url, "--lane", lane),
            *("--no-prefect", "-o", "out.parquet"),
        )
    assert ended.code == 0, ended.err
    table = pq.read_table("out.parquet")
    plain, base64, several = table.column("embedding").to_pylist()
    assert plain == pytest.approx(base64)
    assert len(plain) == 8
    assert several is None
    assert table.column_names[-1] == "embedding"
    assert all(table.column("prompt_tokens").to_pylist())


def test_an_input_that_is_missing_is_refused(batchkit, open_emulator):
    """Each of them needs what it asks about."""
    open_emulator()
    write_lines(
        Path("input.jsonl"),
        [
            line("a", "/v1/responses", model="openai/gpt-oss-20b"),
            line("b", "/v1/audio/speech", model="canopylabs/orpheus-v1-english", input="hello"),
            line("c", "/v1/audio/speech", model="canopylabs/orpheus-v1-english", input="", voice="troy"),
        ],
    )
    refused = batchkit("run", "input.jsonl", "--lane", "sync")
    assert refused.code == 2
    for number, words in enumerate(("body.input is missing", "body.voice is missing", "body.input is an empty"), 1):
        assert any(f"input.jsonl:{number}: {words}" in told for told in refused.err.splitlines()), words
