"""``annotate``, ``transcribe`` and ``moderate`` against an emulator, with the tables of ``tests/data/annotate``."""

from __future__ import annotations

import csv
import os
import re
import shutil
from pathlib import Path

import pytest
from pyarrow import parquet as pq

from batchkit.emulator.faults import answers, lines
from batchkit.emulator.scenarios.scenario import load_scenario
from tests.annotation.test_images import image_bytes
from tests.workloads import read_lines

DATA = Path(__file__).parents[1] / "data" / "annotate"
MODEL = "openai/gpt-oss-20b"
MODELS = f"{MODEL},openai/gpt-oss-120b,meta-llama/llama-4-scout-17b-16e-instruct"
REVIEWS = ("annotate", DATA / "reviews.csv", "--prompt", f"@{DATA / 'sentiment.j2'}")
LABELS = (*REVIEWS, "--schema", DATA / "label.json", "--key", "id", "--no-prefect")
KIND = ("annotate", "reviews.csv", "--prompt", "Kind? {{ text }}", "--model", MODEL, "--no-prefect")


def rows_of(path):
    """Read a CSV file."""
    with Path(path).open(newline="", encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


@pytest.fixture
def provider(open_emulator):
    """Start the emulator for the examples."""
    scenario = load_scenario(DATA / "provider.toml")
    return open_emulator(*scenario.faults, replies=scenario.replies, seed=scenario.seed)


@pytest.fixture
def nobody(monkeypatch, sqlite_template):
    """Point the environment to a provider that does not exist."""
    Path(".batchkit").mkdir()
    shutil.copy(sqlite_template, ".batchkit/batchkit.db")
    monkeypatch.setenv("GROQ_API_KEY", "gsk_test")
    monkeypatch.setenv("BATCHKIT_BASE_URL", "http://127.0.0.1:9/openai/v1")


@pytest.fixture
def reviews():
    """Write a small table into the working directory."""
    Path("reviews.csv").write_text("id,text\na,good\nb,bad\nc,so so\n")


def test_three_annotators_label_a_table_and_their_agreement_is_shown(batchkit, provider):
    """The table has the majority per row in input order, disputed rows have their own file, bad answers are asked again."""
    ended = batchkit(*LABELS, "--models", MODELS, "--output", "labelled.csv", "--review", "disputed.csv")
    assert ended.code == 0, ended.err
    assert "all 90 requests succeeded" in ended.out
    assert "5 rows have annotators who disagree" in ended.out
    assert re.search(r"answers that did not count: \d+ answer_\w+, \d+ answer_\w+", ended.out)
    assert "sentiment" in ended.out
    assert "83.3%" in ended.out
    labelled = rows_of("labelled.csv")
    assert [row["text"] for row in labelled] == [row["text"] for row in rows_of(DATA / "reviews.csv")]
    said = {row["id"]: (row["sentiment"], row["mentions_price"]) for row in labelled}
    assert (said["r01"], said["r04"], said["r12"]) == (
        ("positive", "false"),
        ("positive", "true"),
        ("negative", "true"),
    )
    assert [row["id"] for row in rows_of("disputed.csv")] == ["r15", "r19", "r23", "r25", "r28"]
    assert sum(int(row["attempts"]) for row in labelled) > 90
    assert provider.ledger().totals.requests_executed == sum(int(row["attempts"]) for row in labelled)


def test_a_nested_schema_becomes_typed_columns_and_the_second_run_sends_nothing(batchkit, provider):
    """The schema gives Parquet its types; the same command writes the same table."""
    words = (
        *("annotate", DATA / "mails.jsonl", "--prompt", "The order: {{ body }}", "--schema", DATA / "order.json"),
        *("--model", MODEL, "--no-prefect"),
    )
    assert batchkit(*words, "-o", "orders.parquet").code == 0
    table = pq.read_table("orders.parquet")
    assert table.column("number").to_pylist() == list(range(1, 13))
    assert str(table.schema.field("urgent").type) == "bool"
    assert str(table.schema.field("customer").type) == "struct<name: string, city: string>"
    assert str(table.schema.field("items").type).startswith("list<")
    assert table.column("status").to_pylist() == ["succeeded"] * 12
    bought = provider.ledger().totals
    assert batchkit(*words, "-o", "again.parquet").code == 0
    assert provider.ledger().totals == bought
    assert pq.read_table("again.parquet").equals(table)


def test_transcripts_with_bad_segments_are_flagged(batchkit, provider):
    """Exactly the three planted transcripts are flagged."""
    ended = batchkit(
        *("transcribe", DATA / "calls.csv", "--audio", "recording", "--key", "call", "--language", "en"),
        *("--prompt", "A call about {{ topic }}", "--output", "calls.csv", "--no-prefect"),
    )
    assert ended.code == 0, ended.err
    heard = rows_of("calls.csv")
    assert heard[0]["text"] == "Transcript of https://media.example.com/calls/01.mp3"
    doubtful = {row["call"]: row["quality"] for row in heard if row["quality"] != "ok"}
    assert doubtful == {"c03": "low_confidence", "c07": "no_speech", "c09": "low_confidence"}
    assert provider.ledger().totals.requests_executed == 12


def test_unsafe_prompts_are_found_and_named(batchkit, provider):
    """The filter writes only them, with the names of the violated categories."""
    ended = batchkit(
        *("moderate", DATA / "prompts.csv", "--text", "prompt", "--key", "id", "--only", "unsafe"),
        *("--output", "flagged.csv", "--no-prefect"),
    )
    assert ended.code == 0, ended.err
    flagged = rows_of("flagged.csv")
    assert [row["id"] for row in flagged] == ["3", "5", "7", "9"]
    assert flagged[1]["category_names"] == '["Indiscriminate Weapons"]'
    assert provider.ledger().totals.requests_executed >= 12


@pytest.mark.usefixtures("reviews")
def test_answers_of_a_workload_are_moderated_as_answers(batchkit, open_emulator):
    """Requests without an answer are left out; the others keep their custom_id."""
    open_emulator(lines.FailLines(custom_ids={"2:gpt-oss-20b:1"}))
    assert batchkit(*KIND, "--name", "kind").code == 3
    ended = batchkit("moderate", "--workload", "kind", "--output", "safe.jsonl", "--no-prefect")
    assert ended.code == 0, ended.err
    looked_at = read_lines(Path("safe.jsonl"))
    assert [row["custom_id"] for row in looked_at] == ["1:gpt-oss-20b:1", "3:gpt-oss-20b:1"]
    assert [row["text"] for row in looked_at] == ["Echo: Kind? good", "Echo: Kind? so so"]
    assert [row["safe"] for row in looked_at] == [True, True]


@pytest.mark.usefixtures("reviews")
def test_failed_rows_are_shown_by_the_exit_code_and_in_their_row(batchkit, open_emulator):
    """An answer that is none of the choices is asked for again, and then fails with its own text."""
    open_emulator(answers.GarbleAnswers())
    ended = batchkit(*KIND, "--choices", "yes,no", "--tries", "2", "--output", "kind.csv", "--json")
    assert ended.code == 3
    assert (ended.json["exit_code"], ended.json["rows"], ended.json["output"]) == (3, 3, "kind.csv")
    assert ended.json["agreement"] == {}
    assert ended.json["bad_answers"] == {"answer_invalid": 6}
    assert ended.json["cost_usd"] is not None
    first = rows_of("kind.csv")[0]
    assert (first["status"], first["error"], first["attempts"], first["answer"]) == (
        "failed",
        "answer_invalid",
        "2",
        "",
    )
    assert "is none of: yes, no" in first["error_message"]


@pytest.mark.parametrize("asked", [("--choices", "yes,no"), ("--number", "1..5"), ("--pattern", "[A-Z]{3}")], ids=str)
@pytest.mark.usefixtures("reviews")
def test_the_first_try_of_a_question_works_without_a_key(batchkit, open_emulator, asked):
    """The emulator answers what is asked: every row has an answer of the wanted kind."""
    open_emulator()
    ended = batchkit(*KIND, *asked, "--output", "kind.csv")
    assert ended.code == 0, ended.err
    pattern = {"--choices": "yes|no", "--number": "[1-5]", "--pattern": "[A-Z]{3}"}[asked[0]]
    assert [row["id"] for row in rows_of("kind.csv") if re.fullmatch(pattern, row["answer"])] == ["a", "b", "c"]


@pytest.mark.usefixtures("reviews")
def test_a_schema_that_leads_outside_is_refused_by_name(batchkit):
    """Before anything is sent, in a dry run too, with what to do."""
    Path("leads.json").write_text('{"type":"object","properties":{"n":{"$ref":"http://127.0.0.1:9/n.json"}}}')
    for more in (("--dry-run",), ("--output", "out.csv")):
        ended = batchkit(*KIND, "--schema", "leads.json", *more)
        assert ended.code == 2
        assert "the schema refers to http://127.0.0.1:9/n.json, which is not in it" in ended.err
        assert "$defs" in ended.err


@pytest.mark.usefixtures("reviews")
def test_a_dry_run_shows_the_requests_and_needs_neither_key_nor_database(batchkit):
    """Nothing is sent and nothing is written."""
    ended = batchkit(*KIND, "--system", "Be brief.", "--temperature", "0", "--limit", "2", "--dry-run")
    assert ended.code == 0, ended.err
    for told in ("1:gpt-oss-20b:1", "system: Be brief.", "user: Kind? good", "user: Kind? bad", "temperature: 0.0"):
        assert told in ended.out
    assert "2 rows, 2 requests; nothing was sent" in ended.out
    assert "so so" not in ended.out
    assert [path.name for path in Path().iterdir()] == ["reviews.csv"]
    shown = batchkit(*KIND, "--max-completion-tokens", "50", "--dry-run", "--json", "--reasoning-effort", "lots").json
    assert list(shown["warnings"].values()) == [3]
    assert (shown["rows"], shown["requests"], len(shown["shown"])) == (3, 3, 3)
    assert shown["models"][MODEL]["max_completion_tokens"] == 150


def test_rows_without_a_question_are_skipped_on_request_and_reported_everywhere(batchkit, open_emulator):
    """The dry run, the summary, the status, its JSON, the page and the row itself show it; the other rows decide the exit code."""
    open_emulator()
    Path("gaps.csv").write_text("id,text\na,good\nb,\nc,bad\n,\n")
    ask = ("annotate", "gaps.csv", "--key", "id", "--prompt", "Kind? {{ text }}", "--model", MODEL, "--no-prefect")
    refused = batchkit(*ask)
    assert (refused.code, "gaps, row 2: text is empty" in refused.err) == (2, True)
    assert "--on-empty skip" in refused.err
    skip = (*ask, "--on-empty", "skip", "--name", "gaps", "-o", "out.csv")
    assert (
        "4 rows, 2 requests; nothing was sent\n2 rows would be skipped: 2 nothing_to_ask"
        in batchkit(*skip, "--dry-run").out
    )
    shown = batchkit(*skip, "--dry-run", "--json").json
    assert (shown["rows"], shown["requests"], shown["skipped_rows"]) == (4, 2, 2)
    ended = batchkit(*skip)
    assert ended.code == 0, ended.err
    assert "all 2 requests succeeded\n2 rows skipped: no request; the output says why" in ended.out
    assert [(row["id"], row["status"], row["error"]) for row in rows_of("out.csv")] == [
        ("a", "succeeded", ""),
        ("b", "skipped", "nothing_to_ask"),
        ("c", "succeeded", ""),
        ("", "skipped", "nothing_to_ask"),
    ]
    assert "2 rows skipped" in batchkit("status", "gaps").out
    assert batchkit("status", "gaps", "--json").json["skipped_rows"] == 2
    assert batchkit("report", "gaps", "-o", "gaps.html").code == 0
    assert "2 rows without a request" in Path("gaps.html").read_text()
    recipe = batchkit(*ask, "--bad-rows", "skip", "--print-recipe").out
    Path("gaps.yaml").write_text(recipe)
    assert "bad_rows: skip" in recipe
    again = batchkit("annotate", "gaps.csv", "--recipe", "gaps.yaml", "--name", "gaps", "--no-prefect", "--json").json
    assert (again["name"], again["skipped_rows"], again["exit_code"]) == ("gaps", 2, 0)


@pytest.mark.usefixtures("reviews")
def test_submit_does_not_wait_and_the_same_command_collects(batchkit, open_emulator):
    """Only the second command writes a table."""
    open_emulator()
    ended = batchkit(*KIND, "--submit-only", "--name", "kind")
    assert ended.code == 0, ended.err
    assert not Path("kind.annotated.parquet").exists()
    assert batchkit(*KIND, "--name", "kind").code == 0
    assert pq.read_table("kind.annotated.parquet").column("answer").to_pylist() == [
        f"Echo: Kind? {text}" for text in ("good", "bad", "so so")
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--key", "ids"), "did you mean 'id'?"),
        (("--system", "@nothing.j2"), "nothing.j2 cannot be read"),
        (("--schema", "nothing.json"), "nothing.json cannot be read"),
        (("--schema", "reviews.csv"), "reviews.csv is not JSON"),
        (("--schema", "no.such:Model"), "no.such:Model cannot be imported"),
        (("--choices", "a,b", "--pattern", "x"), "--choices and --pattern exclude each other"),
        (("--choices", ""), "--choices names nothing"),
        (("--number", "one"), "--number one is no range"),
        (("--weights", "wrong"), "Invalid value for '--weights': 'wrong' is not one of"),
        (("--number", "5..1"), "the minimum 5 is above the maximum 1"),
        (("--pattern", "("), "error: pattern: not a regular expression"),
        (("--examples-count", "3"), "--examples-count needs a table of examples"),
        (("--messages", "text"), "not a conversation (a list of messages): "),
        (("--response-format", "yaml"), "--response-format: "),
        (("--temperature", "7"), "temperature is 7"),
        (("--output", "out.xls"), "out.xls"),
        (("--output", "missing/out.csv"), "there is no such folder"),
        (("--review", "review.csv"), "one annotator cannot disagree"),
        (("--image", "text"), "row 1: text: good cannot be read"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else None,
)
@pytest.mark.usefixtures("nobody", "reviews")
def test_impossible_options_are_reported_before_anything_is_sent(batchkit, words, told):
    """Exit code 2 comes before the provider is contacted; the message names the flag, the column or the row."""
    ended = batchkit(*KIND, *words)
    assert ended.code == 2, ended.err
    assert told in ended.err.replace("\n", " ")


@pytest.mark.usefixtures("nobody", "reviews")
@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("--text", "texxt"), "--text"),
        (("--text", "texxt", "--as", "answer"), "--text"),
        (("--text", "id", "--as", "answer", "--prompt-column", "texxt"), "--prompt-column"),
    ],
)
def test_a_column_that_moderation_lacks_is_named_by_its_option(batchkit, words, option):
    """The user wrote no prompt."""
    ended = batchkit("moderate", "reviews.csv", *words)
    assert ended.code == 2
    assert f"error: {option} asks for the column 'texxt', which the table does not have" in ended.err


@pytest.mark.usefixtures("nobody", "reviews")
def test_moderation_needs_one_source_of_texts(batchkit):
    """The source is a table with its column, or a workload, but not both."""
    x = ("--workload", "x")
    for words in ((), ("reviews.csv",), ("reviews.csv", *x), (*x, "--text", "y"), (*x, "--query", "SELECT 1")):
        assert batchkit("moderate", *words).code == 2
    assert "there is no workload 'x'" in batchkit("moderate", "--workload", "x").err


@pytest.fixture
def photos(tmp_path):
    """Write a table of photos into its own folder; half of its rows name files outside of it."""
    folder, private = tmp_path / "photos", tmp_path / "private.png"
    (folder / "inside").mkdir(parents=True)
    for place in (folder / "ok.png", folder / "inside" / "ok.png", private):
        place.write_bytes(image_bytes())
    (folder / "link.png").symlink_to(private)
    os.mkfifo(folder / "pipe")
    table = folder / "photos.csv"
    outside = ["../private.png", str(private), f"file://{private}", "link.png"]
    table.write_text("\n".join(["photo", "ok.png", "inside/ok.png", *outside, ""]))
    return table


ASK = (
    "--image",
    "photo",
    "--prompt",
    "What is it?",
    "--model",
    "meta-llama/llama-4-scout-17b-16e-instruct",
    "--no-prefect",
)


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("nobody")
@pytest.mark.parametrize("flags", [("--dry-run",), ()])
def test_images_outside_the_tables_folder_are_reported_together_before_anything_is_sent(batchkit, photos, flags):
    """Each has the number of its row; none of them is read without --allow-paths."""
    ended = batchkit("annotate", photos, *ASK, *flags)
    assert ended.code == 2, ended.err
    told = " ".join(ended.err.split())
    assert "photos, row 1:" not in told
    assert "photos, row 2:" not in told
    for row in (3, 4, 5, 6):
        assert f"photos, row {row}: photo: " in told
    assert told.count("--allow-paths") == 4


@pytest.mark.timeout(60)
@pytest.mark.usefixtures("nobody")
def test_paths_that_are_no_files_are_reported_with_permission_too(batchkit, photos):
    """A device and a pipe are problems of their rows, and are never waited for."""
    photos.write_text("photo\n/dev/zero\npipe\nok.png\n")
    ended = batchkit("annotate", photos, *ASK, "--allow-paths", "--dry-run")
    assert ended.code == 2
    told = " ".join(ended.err.split())
    assert "row 1: photo: /dev/zero is a device" in told
    assert "row 2: photo: pipe is a named pipe" in told


def test_images_anywhere_are_sent_with_permission_and_the_name_stays(batchkit, open_emulator, photos):
    """The permission changes no request: the same table with and without it is the same workload."""
    open_emulator()
    photos.write_text("photo\nok.png\n")
    first = batchkit("annotate", photos, *ASK, "-o", "one.jsonl")
    second = batchkit("annotate", photos, *ASK, "--allow-paths", "-o", "two.jsonl")
    assert (first.code, second.code) == (0, 0), second.err
    assert first.out.split(":")[0] == second.out.split(":")[0]
    photos.write_text(f"photo\n../private.png\nfile://{photos.parent.parent}/private.png\n")
    ended = batchkit("annotate", photos, *ASK, "--allow-paths", "-o", "three.jsonl")
    assert ended.code == 0, ended.err
    assert "all 2 requests succeeded" in ended.out
