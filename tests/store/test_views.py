"""The views for people with a SQL shell: correct rows, and no failure because of one odd answer."""

from __future__ import annotations

import pytest
from sqlalchemy import text

from batchkit.files import jsonl
from batchkit.models import RequestState, ShardState
from batchkit.store.bulk import bulk_for
from tests.factories import AUDIO, add_shard, add_workload, chat_body, failure, settle, success


def read(connection, view, *columns):
    """Read some columns of a view in a fixed order."""
    names = ", ".join(columns)
    return [tuple(row) for row in connection.execute(text(f"SELECT {names} FROM {view} ORDER BY 1, 2"))]  # noqa: S608 - names from this file


def answers(connection):
    """Read all answers by seq."""
    return dict(read(connection, "succeeded", "seq", "answer"))


def answered(connection, bodies):
    """Insert a merged shard with the given bodies, as a merge writes them; a text in braces is already JSON."""
    shard = add_shard(connection, add_workload(connection), lines=len(bodies), state=ShardState.MERGED)
    texts = [body if isinstance(body, str) and body[0] == "{" else jsonl.dumps(body).decode() for body in bodies]
    bulk_for(connection).add_bodies(shard.id, list(enumerate(texts)))
    return shard


def chat(content):
    """Return a chat completion with this answer."""
    return {"choices": [{"message": {"content": content}}, {"message": {"content": "the second choice"}}]}


def test_answers_are_shown_with_their_requests(store):
    """The view shows the text of a chat completion or a transcription, with its cost and origin."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, seqs=[0, 2], state=ShardState.MERGED)
        audio = add_shard(connection, workload, seqs=[1], endpoint=AUDIO, state=ShardState.MERGED)
        bulk_for(connection).add_bodies(
            shard.id, [(0, chat_body("it is blue")), (2, jsonl.dumps(chat("é'\n🎈")).decode())]
        )
        bulk_for(connection).add_bodies(audio.id, [(1, '{"text":"what was said"}')])
        add_shard(connection, workload, seqs=[3])
        add_shard(connection, workload, seqs=[4], state=ShardState.MERGED, request_state=RequestState.FAILED)
        rows = read(
            connection,
            "succeeded",
            *("workload", "seq", "custom_id", "answer", "finish_reason", "prompt_tokens", "completion_tokens"),
            *("attempt", "batch_id"),
        )
    assert rows == [
        ("evals", 0, "row-0", "it is blue", "stop", 10, 5, 0, shard.batch_id),
        ("evals", 1, "row-1", "what was said", "stop", 10, 5, 0, audio.batch_id),
        ("evals", 2, "row-2", "é'\n🎈", "stop", 10, 5, 0, shard.batch_id),
    ]


@pytest.mark.parametrize(
    ("body", "answer"),
    [
        (chat("a\x00b"), ("a\ufffdb",)),
        (chat("lone \ud800 half"), ("lone \ufffd half",)),
        (chat("literally \\u0000"), ("literally \\ufffd",)),
        (r'{"choices":[{"message":{"content":"lone \ud800 half"}}]}', ("lone \ufffd half",)),
        (r'{"choices":[{"message":{"content":"\udfff"}}]}', ("\ufffd",)),
        (r'{"text":"\uD83D\uDE00 \uDE00\uD83D \ud800\ud83d\ude00"}', ("\U0001f600 \ufffd\ufffd \ufffd\U0001f600",)),
        (r'{"text":"\\ud800 \\\ud800"}', ("\\ud800 \\\ufffd",)),
        (r'{"text":"\\ud83d\ude00"}', ("\\ud83d\ufffd",)),
        (r'{"text":"\ud83d\\ude00 \u0000"}', ("\ufffd\\ude00 \ufffd",)),
        (r'{"text":"x","\ud800":"\udc00"}', ("x",)),
        (chat(None), (None,)),
        (chat(""), ("",)),
        ({"choices": []}, (None,)),
        ({"data": [{"embedding": [0.1]}], "score": float("nan")}, (None,)),
        ("1\n00:00 --> 00:01\nplain text of a transcription", (None,)),
        ([1, 2], (None,)),
        ({"text": 2**80}, (2**80, str(2**80), float(2**80))),
    ],
    ids=lambda value: ascii(value)[:40],
)
def test_odd_answer_does_not_break_the_view(store, body, answer):
    """Whatever a model wrote, the other rows stay readable; values that SQL cannot hold are replaced or left out."""
    with store.write() as connection:
        answered(connection, [chat("before"), body, chat("after")])
        found = answers(connection)
    assert (found[0], found[2]) == ("before", "after")
    assert found[1] in answer


def test_answer_of_the_successful_attempt_is_shown(store):
    """A request that succeeded on its second attempt has one row, with the answer of the second attempt."""
    with store.write() as connection:
        workload = add_workload(connection)
        first = add_shard(connection, workload, lines=1, state=ShardState.MERGED, request_state=RequestState.FAILED)
        bulk_for(connection).add_bodies(first.id, [(0, chat_body("of the first attempt"))])
        second = add_shard(connection, workload, seqs=[1], state=ShardState.MERGED)
        bulk_for(connection).add_bodies(second.id, [(0, chat_body("of the second attempt"))])
        bulk_for(connection).add_results([success(second, 0, attempt=1)])
        assert read(connection, "succeeded", "seq", "answer", "attempt")[0] == (0, "of the second attempt", 1)
        assert read(connection, "failed", "seq", "error_code") == []


def test_failures_show_the_providers_message(store):
    """The view has one row per failed request, with status, code, message and the number of attempts."""
    with store.write() as connection:
        workload = add_workload(connection)
        shard = add_shard(connection, workload, lines=3, state=ShardState.MERGED)
        settle(connection, shard, [1], RequestState.PENDING)
        broken = add_shard(connection, workload, seqs=[5], state=ShardState.MERGED)
        bulk_for(connection).set_states(workload.id, [(5, "failed", 4, 2)])
        connection.execute(text("DELETE FROM results WHERE seq = 5"))
        bulk_for(connection).add_results([failure(broken, 5, code="too_long", status=413, message="größe")])
        rows = read(
            connection,
            "failed",
            *("workload", "seq", "custom_id", "status_code", "error_code", "error_message", "attempts", "expiries"),
            "batch_id",
        )
    assert rows == [("evals", 5, "row-5", 413, "too_long", "größe", 4, 2, broken.batch_id)]


def test_progress_sums_to_the_total(store):
    """One row per workload, with its states in columns; an unfinished split shows the requests cut so far."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload, lines=1)
        add_shard(connection, workload, lines=2, state=ShardState.WITHDRAWN)
        add_shard(connection, workload, lines=3, state=ShardState.MERGED)
        add_shard(connection, workload, lines=4, state=ShardState.MERGED, request_state=RequestState.FAILED)
        add_shard(connection, workload, lines=5, state=ShardState.MERGED, request_state=RequestState.CANCELLED)
        add_shard(connection, add_workload(connection, "splitting", split=False), lines=7)
        add_workload(connection, "untouched", split=False)
        columns = ("workload", "requests", "pending", "in_flight", "succeeded", "failed", "cancelled")
        assert read(connection, "progress", *columns) == [
            ("evals", 15, 2, 1, 3, 4, 5),
            ("splitting", 7, 0, 7, 0, 0, 0),
            ("untouched", 0, 0, 0, 0, 0, 0),
        ]


def test_usage_sums_what_was_bought(store):
    """One row per workload, even for one that has bought nothing yet."""
    with store.write() as connection:
        workload = add_workload(connection)
        add_shard(connection, workload, state=ShardState.MERGED, succeeded=3, prompt_tokens=2**33, completion_tokens=5)
        add_shard(connection, workload, state=ShardState.MERGED, succeeded=2, prompt_tokens=1, completion_tokens=6)
        add_shard(connection, workload)
        add_workload(connection, "new")
        columns = ("workload", "shards", "answers", "prompt_tokens", "completion_tokens")
        assert read(connection, "usage", *columns) == [("evals", 3, 5, 2**33 + 1, 11), ("new", 0, 0, 0, 0)]
