"""From a workload back to its table: the right answer in the right row, in the right columns, on both databases."""

from __future__ import annotations

import csv
from dataclasses import replace
from datetime import UTC, date, datetime, time
from functools import partial
from typing import Any

import pyarrow as pa
import pytest
from pyarrow import parquet as pq
from sqlalchemy import select, text

from batchkit.annotation import presets, render
from batchkit.annotation.ids import RequestIds
from batchkit.annotation.row_answers import read_row_answers, write_output_table
from batchkit.annotation.totals import totals
from batchkit.annotation.voting import Review
from batchkit.annotation.workload_from_table import ensure_workload, snapshot_path
from batchkit.datasets import open_table
from batchkit.engine.runtime import Runner
from batchkit.errors import SpoolError, UsageError
from batchkit.files import jsonl
from batchkit.settings import load_settings
from batchkit.store.bulk import Successes, bulk_for
from batchkit.store.rows import AnswerFacts, AttemptRow, ResultRow
from batchkit.store.tables import shards
from tests.workloads import read_lines, write_lines

MODELS = ("openai/gpt-oss-20b", "openai/gpt-oss-120b")
SCHEMA = {
    "type": "object",
    "properties": {"label": {"enum": ["good", "bad"]}, "score": {"type": "integer"}, "why": {"type": "string"}},
    "required": ["label", "score", "why"],
    "additionalProperties": False,
}
ROWS: list[dict[str, Any]] = [
    {"id": "r-1", "text": "fine = é", "status": "new", "note": None, "meta": {"n": 1}},
    {"id": "r 2", "text": "so\u2028so", "status": "new", "note": "", "meta": {"n": None}},
    {"id": "r-3", "text": "bad", "status": "old", "note": 7, "meta": None},
]
TOLD = ["error", "error_message", "attempts", "prompt_tokens", "completion_tokens", "cost_usd", "reused_from"]


def said(label="good", score=1, why="because"):
    """Write an answer that the schema takes."""
    return jsonl.dumps({"label": label, "score": score, "why": why}).decode()


class Table:
    """A table, and workloads that are made of it; answers are put into the store as a merge would."""

    def __init__(self, runner, path):
        self.runner = runner
        self.path = path

    def make(self, recipe):
        """Make the workload of a recipe."""
        return ensure_workload(self.runner, open_table([str(self.path)]), recipe)

    def annotation(self, **options):
        """Make the workload of a question."""
        return self.make(presets.annotation("What of {{ text }}?", **{"models": MODELS[:1], **options}))

    def settle(self, workload, outcomes):
        """Answer requests in their order: a text or a body; a pair of code and message fails; None stays in flight."""
        with self.runner.store.write() as connection:
            (shard_id,) = connection.execute(select(shards.c.id).where(shards.c.workload_id == workload.id)).scalars()
            bulk = bulk_for(connection)
            for seq, outcome in enumerate(outcomes):
                if outcome is None:
                    continue
                state = "failed" if isinstance(outcome, tuple) else "succeeded"
                bulk.set_states(workload.id, [(seq, state, 2 if state == "failed" else 1, 0)])
                if isinstance(outcome, tuple):
                    code, message = outcome
                    facts = AnswerFacts("length", 10, 5, 15)
                    bulk.add_results(
                        [ResultRow(workload.id, seq, "failed", shard_id, 1, 200, "req", code, message, facts)]
                    )
                    bulk.add_attempts([AttemptRow(shard_id, seq, workload.id, 1, "invalid", 200, code, message, 10, 5)])
                    bulk.add_bodies(shard_id, [(seq, body("half an ans"))])
                else:
                    facts = AnswerFacts("stop", 100, 20, 120)
                    columns = tuple([fact] for fact in facts)
                    bulk.add_successes(workload.id, shard_id, Successes([seq], [0], ["req"], columns))
                    bulk.add_bodies(shard_id, [(seq, body(outcome))])


def body(answer):
    """Make the body of a response: of a text that of a chat completion."""
    if isinstance(answer, str):
        answer = {"choices": [{"message": {"role": "assistant", "content": answer}, "finish_reason": "stop"}]}
    return jsonl.dumps(answer).decode()


FORMATS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "day": {"type": "string", "format": "date"},
        "at": {"type": "string", "format": "date-time"},
        "clock": {"type": "string", "format": "time"},
    },
    "additionalProperties": False,
}


@pytest.fixture
def table(database_url, tmp_path):
    """Give a table of three rows and a runner for it; once on each kind of database."""
    settings = load_settings(
        home=tmp_path / "home", database_url=database_url, api_key="gsk_none", base_url="http://127.0.0.1:1"
    )
    with Runner(settings) as runner:
        yield Table(runner, write_lines(tmp_path / "reviews.jsonl", ROWS))


def test_each_row_has_its_own_answers(table):
    """Rows come back with all columns, nested ones too, and with what became of each request, who was asked, and its cost."""
    workload = table.annotation(models=MODELS, samples=2, key="id")
    table.settle(workload, [*(f"answer {seq}" for seq in range(10)), ("answer_truncated", "cut off"), None])
    rows = list(read_row_answers(table.runner, workload))
    assert [(row.number, row.row) for row in rows] == list(enumerate(ROWS, 1))
    answers = [answer for row in rows for answer in row.answers]
    assert [answer.seq for answer in answers] == list(range(12))
    assert [(answer.model, answer.sample) for answer in rows[1].answers] == [(m, s) for m in MODELS for s in (1, 2)]
    assert [answer.custom_id for answer in rows[0].answers][:2] == ["r-1:gpt-oss-20b:1", "r-1:gpt-oss-20b:2"]
    assert len({answer.custom_id for answer in answers}) == 12
    first, failed, waiting = answers[0], answers[10], answers[11]
    assert (first.value, first.text, first.status, first.finish_reason) == ("answer 0", "answer 0", "succeeded", "stop")
    assert (first.prompt_tokens, first.completion_tokens, first.attempts) == (100, 20, 1)
    assert first.cost_usd is not None
    assert answers[2].cost_usd == pytest.approx(2 * first.cost_usd)
    assert (failed.value, failed.text, failed.status) == (None, "half an ans", "failed")
    assert (failed.error_code, failed.error_message, failed.attempts) == ("answer_truncated", "cut off", 2)
    assert (waiting.value, waiting.status, waiting.error_code, waiting.cost_usd) == (None, "in_flight", None, None)


def test_one_annotator_makes_a_column_for_each_property(table, tmp_path):
    """The input as it was, then the answer typed, then what became of the request; names that are taken are avoided."""
    workload = table.annotation(schema=SCHEMA)
    table.settle(workload, [said(), ("answer_invalid", "no label"), said("bad", 5, "=cmd")])
    seen: list[int] = []
    assert write_output_table(table.runner, workload, tmp_path / "out.parquet", advance=seen.append) == 3
    assert sum(seen) == 3
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.column_names == [*ROWS[0], "label", "score", "why", "custom_id", "answer_status", *TOLD]
    assert found.schema.field("meta").type == pa.struct([("n", pa.int64())])
    assert found.schema.field("score").type == pa.int64()
    rows = found.to_pylist()
    # Of a column with values of several kinds Parquet has the JSON.
    assert [{name: row[name] for name in ROWS[0]} for row in rows] == [
        {**row, "note": note} for row, note in zip(ROWS, [None, '""', "7"], strict=True)
    ]
    assert [(row["label"], row["score"], row["why"]) for row in rows] == [
        ("good", 1, "because"),
        (None, None, None),
        ("bad", 5, "=cmd"),
    ]
    assert [row["answer_status"] for row in rows] == ["succeeded", "failed", "succeeded"]
    assert [(row["error"], row["error_message"]) for row in rows] == [
        (None, None),
        ("answer_invalid", "no label"),
        (None, None),
    ]
    assert [row["attempts"] for row in rows] == [1, 2, 1]
    assert [row["custom_id"] for row in rows] == ["1:gpt-oss-20b:1", "2:gpt-oss-20b:1", "3:gpt-oss-20b:1"]


def test_other_formats_say_the_same(table, tmp_path):
    """JSON Lines nest, CSV has JSON in its cells and no formula; nothing else differs."""
    workload = table.annotation(schema=SCHEMA)
    table.settle(workload, [said(), said(), said("bad", 5, "=cmd")])
    for name in ("out.jsonl", "out.csv", "raw.csv"):
        assert write_output_table(table.runner, workload, tmp_path / name, raw_csv=name == "raw.csv") == 3
    lines = read_lines(tmp_path / "out.jsonl")
    assert [{name: line[name] for name in ROWS[0]} for line in lines] == ROWS
    assert (lines[2]["label"], lines[2]["score"], lines[2]["why"]) == ("bad", 5, "=cmd")
    cells = {}
    for name in ("out.csv", "raw.csv"):
        with (tmp_path / name).open(encoding="utf-8", newline="") as handle:
            cells[name] = list(csv.DictReader(handle))
    assert [row["why"] for row in cells["out.csv"]] == ["because", "because", "'=cmd"]
    assert [row["why"] for row in cells["raw.csv"]] == ["because", "because", "=cmd"]
    assert cells["out.csv"][0]["meta"] == '{"n":1}'


def test_several_annotators_vote(table, tmp_path):
    """The majority of the valid answers, property by property; a tie is null; agreement is that of the labels; sums beside."""
    workload = table.annotation(models=MODELS, samples=2, schema=SCHEMA)
    first = [said("good", 1), said("good", 2), said("bad", 2), said("good", 2)]
    second = [said("good"), said("bad"), ("answer_invalid", "x"), None]
    third = [("answer_invalid", "one"), ("answer_truncated", "two"), ("answer_invalid", "x"), ("answer_invalid", "x")]
    table.settle(workload, [*first, *second, *third])
    write_output_table(table.runner, workload, tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["label"], row["score"], row["agreement"]) for row in rows] == [
        ("good", 2, 0.75),
        (None, 1, 0.5),
        (None, None, None),
    ]
    assert [row["answer_status"] for row in rows] == ["succeeded", "succeeded", "failed"]
    assert [(row["error"], row["error_message"]) for row in rows] == [
        (None, None),
        (None, None),
        ("answer_invalid", "one"),
    ]
    assert [row["attempts"] for row in rows] == [4, 4, 8]
    assert [row["prompt_tokens"] for row in rows] == [400, 210, 40]
    assert [row["custom_id"] for row in rows] == ["1", "2", "3"]
    assert [answer["status"] for answer in rows[1]["answers"]] == ["succeeded", "succeeded", "failed", "in_flight"]
    assert rows[0]["answers"][2] == {
        "custom_id": "1:gpt-oss-120b:1",
        "prompt": "prompt",
        "model": MODELS[1],
        "sample": 1,
        "status": "succeeded",
        "value": {"label": "bad", "score": 2, "why": "because"},
        "error": None,
        "error_message": None,
        "reused_from": None,
    }
    assert [(row["votes"], row["spread"]) for row in rows] == [(4, {"score": 1}), (2, {"score": 0}), (0, None)]
    assert write_output_table(table.runner, workload, tmp_path / "review.jsonl", review_only=True) == 3
    assert [line["id"] for line in read_lines(tmp_path / "review.jsonl")] == ["r-1", "r 2", "r-3"]


def test_ratings_have_a_median_and_their_agreement_is_that_of_numbers(table, tmp_path):
    """Three different ratings of a row are no tie, and annotators that are a point apart agree well."""
    workload = table.annotation(models=MODELS[:1], samples=3, number=(1, 5))
    table.settle(workload, ["3", "4", "5", "1", "2", "1", "5", "5", "5"])
    write_output_table(table.runner, workload, tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()

    assert [(row["answer"], row["votes"], row["spread"]) for row in rows] == [(4, 3, 2), (1, 3, 1), (5, 3, 0)]
    found: Any = totals(table.runner, workload)
    assert found.review == {Review.DISPUTED: 1}
    assert found.agreement["answer"].level == "interval"
    assert found.agreement["answer"].alpha.value > 0.7


def test_verdicts_are_columns_and_a_filter(table, tmp_path):
    """Safe or not, the categories with their names; a filter keeps the rows that it names."""
    workload = table.make(presets.moderation("text"))
    table.settle(workload, ["safe", "unsafe\nS1,S10", ("answer_invalid", "?")])
    assert write_output_table(table.runner, workload, tmp_path / "all.jsonl") == 3
    found = [(line["safe"], line["categories"], line["category_names"]) for line in read_lines(tmp_path / "all.jsonl")]
    assert found == [(True, [], []), (False, ["S1", "S10"], ["Violent Crimes", "Hate"]), (None, None, None)]
    for where, expected in {"unsafe": ["r 2"], "safe": ["r-1"]}.items():
        assert write_output_table(table.runner, workload, tmp_path / "some.jsonl", where=where) == 1
        assert [line["id"] for line in read_lines(tmp_path / "some.jsonl")] == expected


def test_verdicts_are_voted_on(table, tmp_path):
    """The categories of the majority are those that most of it name; what the others name plays no part."""
    workload = table.make(presets.moderation("text", samples=5))
    table.settle(
        workload,
        [
            *("safe", "safe", "unsafe\nS1", "unsafe\nS1", "unsafe\nS2"),
            *("safe", "safe", "unsafe\nS2", "unsafe\nS2", "safe"),
            *("unsafe\nS1", "safe", ("answer_invalid", "?"), None, None),
        ],
    )
    write_output_table(table.runner, workload, tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["safe"], row["categories"], row["agreement"]) for row in rows] == [
        (False, ["S1"], 3 / 5),
        (True, [], 3 / 5),
        (None, None, 0.5),
    ]


def test_unknown_price_makes_the_sum_unknown(table, tmp_path):
    """Of two models one has no price that is known: the row's cost is not that of the other."""
    workload = table.annotation(models=(MODELS[0], "my/own-model"))
    table.settle(workload, ["a"] * 6)
    assert [answer.cost_usd is None for answer in next(read_row_answers(table.runner, workload)).answers] == [
        False,
        True,
    ]
    write_output_table(table.runner, workload, tmp_path / "out.parquet")
    assert pq.read_table(tmp_path / "out.parquet")["cost_usd"].to_pylist() == [None] * 3


def test_transcripts_are_text_and_segments(table, tmp_path):
    """Text, language, duration and quality are columns, segments a list; the cost is by the second."""
    path = write_lines(table.path.with_name("calls.jsonl"), [{"url": f"https://example.com/{n}.mp3"} for n in range(2)])
    workload = Table(table.runner, path).make(presets.transcription("url"))
    segment = {"start": 0.0, "end": 3.5, "avg_logprob": -0.1, "no_speech_prob": 0.01, "compression_ratio": 1.2}
    spoken = {"text": " Hello. ", "language": "en", "duration": 3_600.0, "segments": [{**segment, "text": " Hello."}]}
    table.settle(workload, [spoken, {**spoken, "segments": [{**segment, "text": "x", "no_speech_prob": 0.9}]}])
    write_output_table(table.runner, workload, tmp_path / "out.parquet")
    first, second = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert (first["text"], first["language"], first["duration"], first["quality"]) == ("Hello.", "en", 3_600.0, "ok")
    assert first["segments"] == [{**segment, "text": "Hello.", "quality": "ok"}]
    assert second["quality"] == "no_speech"
    assert first["cost_usd"] == pytest.approx(0.02)


def test_number_beyond_its_column_is_told(table, tmp_path):
    """It ends no export: its cell is null, the row says why, and the others are whole."""
    workload = table.annotation(schema=SCHEMA)
    table.settle(workload, [said(score=2**63), said(score=2), said(score=3)])
    write_output_table(table.runner, workload, tmp_path / "out.parquet")
    rows = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert [(row["score"], row["label"], row["error"]) for row in rows] == [
        (None, "good", "answer_too_large"),
        (2, "good", None),
        (3, "good", None),
    ]


def test_foreign_snapshot_is_refused(table, tmp_path):
    """A table with other keys, fewer rows or more than the workload was made of: no answer is put into a wrong row."""
    workload = table.annotation(key="id")
    table.settle(workload, ["a", "b", "c"])
    path = snapshot_path(table.runner, workload)
    whole = pa.ipc.open_stream(path.read_bytes()).read_all()
    others = {
        "other order": whole.take([1, 0, 2]),
        "one less": whole.slice(0, 2),
        "one more": pa.concat_tables([whole, whole.slice(0, 1)]),
    }
    for what, other in others.items():
        with pa.ipc.new_stream(path, other.schema) as stream:
            stream.write_table(other)
        with pytest.raises(SpoolError, match="does not match its requests"):
            list(read_row_answers(table.runner, workload))
        with pytest.raises(SpoolError):
            write_output_table(table.runner, workload, tmp_path / f"{what}.parquet")
        assert not (tmp_path / f"{what}.parquet").exists()


def test_what_cannot_be_written_is_refused_before_it_is_begun(table, tmp_path):
    """A review of one annotator, a filter of no moderation, an unknown ending: told, and no file is touched."""
    workload = table.annotation()
    for options in ({"review_only": True}, {"where": "unsafe"}):
        with pytest.raises(UsageError):
            write_output_table(table.runner, workload, tmp_path / "out.csv", **options)
    with pytest.raises(UsageError, match=r"no format ends in \.xlsx"):
        write_output_table(table.runner, workload, tmp_path / "out.xlsx")
    with pytest.raises(UsageError, match="made from requests"):
        list(read_row_answers(table.runner, replace(workload, recipe=None)))
    assert not list(tmp_path.glob("out.*"))


def test_table_in_the_results_database(table):
    """Typed columns in the order of the input; the same again takes its place."""
    workload = table.annotation(schema=SCHEMA)
    table.settle(workload, [said(), ("answer_invalid", "?"), None])
    for _ in range(2):
        assert write_output_table(table.runner, workload, "table:labels") == 3
    with table.runner.store.read() as connection:
        query = text("select id, meta, label, score, answer_status from labels order by row_number")
        assert [tuple(row) for row in connection.execute(query)] == [
            ("r-1", '{"n":1}', "good", 1, "succeeded"),
            ("r 2", '{"n":null}', None, None, "failed"),
            ("r-3", None, None, None, "in_flight"),
        ]


def test_rows_that_nobody_reads_to_the_end_leave_nothing_open(table):
    """Who stops in the middle, by an error for one, leaves neither a stream nor a connection behind."""
    workload = table.annotation()
    table.settle(workload, ["one", "two", "three"])

    def stop_early():
        for row in read_row_answers(table.runner, workload):
            raise LookupError(row.number)

    with pytest.raises(LookupError):
        stop_early()
    assert [row.answers[0].text for row in read_row_answers(table.runner, workload)] == ["one", "two", "three"]


HALF = r"a\ud83d \udc00"


@pytest.mark.parametrize("target", ["out.parquet", "out.csv", "out.jsonl", "out.arrow", "table:odd"])
def test_half_a_surrogate_pair_is_a_replacement_character_in_every_output(table, tmp_path, caplog, target):
    """In the answer, inside of a document and in an answer that broke the rules; a note tells how many there were."""
    document = rf'{{"choices":[{{"message":{{"content":"{{\"label\":\"good\",\"score\":1,\"why\":\"{HALF}\"}}"}},"finish_reason":"stop"}}]}}'
    inside = document.replace(HALF, HALF.replace("\\", "\\\\"))
    workload = table.annotation(schema=SCHEMA, key="id")
    table.settle(workload, ["", "", ("answer_invalid", "no label")])
    with table.runner.store.write() as connection:
        for seq, odd in enumerate((document, inside, document)):
            connection.execute(text("UPDATE bodies SET body = :body WHERE seq = :seq"), {"body": odd, "seq": seq})
    where = target if target.startswith("table:") else str(tmp_path / target)
    with caplog.at_level("WARNING", logger="batchkit"):
        write_output_table(table.runner, workload, where)
    assert [record.getMessage().partition(": U+FFFD")[0] for record in caplog.records] == [where]
    assert "in 2 answers" in caplog.text
    match target:
        case "out.parquet":
            found = pq.read_table(where).column("why").to_pylist()
        case "out.csv":
            with (tmp_path / target).open(encoding="utf-8", newline="") as handle:
                found = [row["why"] or None for row in csv.DictReader(handle)]
        case "out.jsonl":
            found = [row["why"] for row in read_lines(tmp_path / target)]
        case "out.arrow":
            found = pa.ipc.open_file(where).read_all().column("why").to_pylist()
        case _:
            with table.runner.store.read() as connection:
                found = list(connection.execute(text("SELECT why FROM odd ORDER BY row_number")).scalars())
    assert found == ["a\ufffd \ufffd", "a\ufffd \ufffd", None]
    answers = [row.answers[0].text for row in read_row_answers(table.runner, workload)]
    assert all(answer is not None and answer.isprintable() for answer in answers)


def test_dates_and_times_are_typed_in_every_kind_of_output(table, tmp_path):
    """Dates in Parquet, their usual texts elsewhere; an answer that is no date, from an older version, is told and stays in the export."""
    workload = table.annotation(schema=FORMATS, key="id")
    good = {"day": "2026-02-28", "at": "2026-01-01T10:00:00+02:00", "clock": "10:00:00Z"}
    answers = [good, {"day": "next Tuesday"}, {}]
    table.settle(workload, [jsonl.dumps(answer).decode() for answer in answers])
    for name in ("out.parquet", "out.csv", "out.jsonl", "table:dated"):
        write_output_table(table.runner, workload, name if ":" in name else tmp_path / name)
    found = pq.read_table(tmp_path / "out.parquet")
    assert [found.schema.field(name).type for name in FORMATS["properties"]] == [
        pa.date32(),
        pa.timestamp("us", "UTC"),
        pa.time64("us"),
    ]
    first, second, third = found.to_pylist()
    assert [first[name] for name in ("day", "at", "clock")] == [
        date(2026, 2, 28),
        datetime(2026, 1, 1, 8, tzinfo=UTC),
        time(10),
    ]
    assert (second["day"], second["error"], third["error"]) == (None, "answer_invalid", None)
    (line, *_) = read_lines(tmp_path / "out.jsonl")
    assert (line["day"], line["at"], line["clock"]) == ("2026-02-28", "2026-01-01T08:00:00+00:00", "10:00:00")
    assert "2026-02-28,2026-01-01T08:00:00+00:00,10:00:00" in (tmp_path / "out.csv").read_text()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ('{"qty":2}', None),
        ('"{\\"qty\\":2}"', None),
        ({"qty": 2}, None),
        ('{"qty":"two"}', "answer_invalid"),
        ("7", "answer_invalid"),
    ],
)
def test_calls_are_judged_by_their_tools_in_the_output_too(table, tmp_path, arguments, error):
    """A wrong type is no number that is too large."""
    function = {"name": "order", "parameters": {"type": "object", "properties": {"qty": {"type": "integer"}}}}
    workload = table.annotation(tools=[{"type": "function", "function": function}], key="id")
    call = {"id": "1", "type": "function", "function": {"name": "order", "arguments": arguments}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    table.settle(workload, [{"choices": [{"message": message, "finish_reason": "tool_calls"}]}])
    write_output_table(table.runner, workload, tmp_path / "out.jsonl")
    first = read_lines(tmp_path / "out.jsonl")[0]
    assert (first["qty"], first["error"]) == (None if error else 2, error)


def test_kept_table_of_an_earlier_version_is_read(table, tmp_path, monkeypatch):
    """It is a Parquet file, and its keys were written otherwise: an unfinished workload ends as it began."""
    keys = [1.0, 2.5, True]
    table.path = write_lines(tmp_path / "keyed.jsonl", [{"id": key, "text": f"t{key}"} for key in keys[:2]])
    monkeypatch.setattr(render, "RequestIds", partial(RequestIds, text=str))
    workload = table.annotation(key="id")
    monkeypatch.undo()
    kept = snapshot_path(table.runner, workload)
    pq.write_table(pa.table({"id": pa.array(keys[:2]), "text": ["t1", "t2"]}), kept.with_name("table.parquet"))
    kept.unlink()
    table.settle(workload, ["one", "two"])
    assert write_output_table(table.runner, workload, tmp_path / "out.jsonl") == 2
    lines = read_lines(tmp_path / "out.jsonl")
    assert [(line["id"], line["custom_id"].split(":")[0], line["answer"]) for line in lines] == [
        (1.0, "1.0", "one"),
        (2.5, "2.5", "two"),
    ]
    kept.with_name("table.parquet").unlink()
    with pytest.raises(SpoolError, match=r"table\.arrows"):
        write_output_table(table.runner, workload, tmp_path / "out.jsonl")


def test_columns_of_the_input_come_back_with_types_and_metadata(table, tmp_path):
    """Also those of which no template knows anything; pandas and ``datasets`` find the new columns in their metadata."""
    features = {
        "label": {"names": ["neg", "pos"], "_type": "ClassLabel"},
        "text": {"dtype": "string", "_type": "Value"},
    }
    told = {"huggingface": jsonl.dumps({"info": {"features": features}}), "own": "words"}
    given = pa.table(
        {
            "text": pa.array(["a", "b"]).dictionary_encode(),
            "label": [1, 0],
            "at": pa.array([1_577_880_000_123_456_789, None], pa.timestamp("ns", "UTC")),
            "pairs": pa.array([[("k", 1)], None], pa.map_(pa.string(), pa.int8())),
            "size": pa.array([[1.5, 2.5], None], pa.list_(pa.float32(), 2)),
        }
    )
    given = given.cast(given.schema.with_metadata(told).set(1, pa.field("label", pa.int64(), metadata={"of": "label"})))
    table.path = tmp_path / "given.parquet"
    pq.write_table(given, table.path)
    workload = table.annotation(schema=SCHEMA, models=MODELS)
    table.settle(workload, [said()] * 4)
    for name in ("out.parquet", "out.arrow"):
        write_output_table(table.runner, workload, tmp_path / name)
    found = pq.read_table(tmp_path / "out.parquet")
    assert found.equals(pa.ipc.open_file(tmp_path / "out.arrow").read_all())
    assert found.select(given.column_names).equals(given)
    assert found.schema.field("label").metadata == {b"of": b"label"}
    assert found.schema.metadata[b"own"] == b"words"
    described = jsonl.loads(found.schema.metadata[b"huggingface"])["info"]["features"]
    assert {name: described[name] for name in features} == features
    assert sorted(described) == sorted(set(found.column_names) - {"at", "pairs", "size"})


def test_table_of_pandas_comes_back_as_pandas_had_it(table, tmp_path):
    """Categories, whole numbers with gaps, times with a zone, and the index."""
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {
            "text": pandas.Categorical(["a", "b", None], categories=["b", "a"], ordered=True),
            "n": pandas.array([1, None, 3], dtype="Int64"),
            "at": pandas.to_datetime(["2026-01-01", None, "2026-01-03"]).tz_localize("Europe/Berlin"),
        },
        index=pandas.Index(["x", "y", "z"], name="key"),
    )
    table.path = tmp_path / "frame.parquet"
    frame.to_parquet(table.path)
    workload = table.make(presets.annotation("What of {{ key }} {{ text }}?", models=MODELS[:1]))
    table.settle(workload, ["one", "two", "three"])
    write_output_table(table.runner, workload, tmp_path / "out.parquet")
    found = pandas.read_parquet(tmp_path / "out.parquet")
    pandas.testing.assert_frame_equal(found[frame.columns.to_list()], frame)
    assert list(found["answer"]) == ["one", "two", "three"]


def test_several_annotators_dates_are_typed_in_the_vote_and_in_the_list(table, tmp_path):
    """The vote, each annotator's answer, and a number that is too large for one of them only."""
    schema = {**FORMATS, "properties": {"day": FORMATS["properties"]["day"], "n": {"type": "integer"}}}
    workload = table.annotation(schema=schema, models=MODELS, key="id")
    table.settle(workload, ['{"day":"2026-02-28","n":1}', '{"day":"2026-02-28","n":1%s}' % ("0" * 30)])
    write_output_table(table.runner, workload, tmp_path / "out.parquet")
    first = pq.read_table(tmp_path / "out.parquet").to_pylist()[0]
    assert first["day"] == date(2026, 2, 28)
    assert [answer["value"] for answer in first["answers"]] == [
        {"day": date(2026, 2, 28), "n": 1},
        {"day": date(2026, 2, 28), "n": None},
    ]
