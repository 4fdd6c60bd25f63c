"""The journal of single calls: what it says after any death, and that an answer is on the disk before its place is free."""

import io
import threading

import pytest

from batchkit.errors import SpoolError
from batchkit.files import jsonl
from batchkit.lifecycle import LineCodes, classify
from batchkit.models import OutcomeKind
from batchkit.sending.journal import (
    IN_DOUBT_CODE,
    NO_ANSWER_CODE,
    Journal,
    JournalWriter,
    answer_line,
    copy_answers,
    error_line,
)

BODY = b'{"choices":[{"message":{"content":"yes"}}]}'


def answers_of(path):
    """Return the copied lines as objects, and what is in doubt."""
    target = io.BytesIO()
    doubts = copy_answers(path, target)
    return [jsonl.loads(line) for line in target.getvalue().splitlines()], doubts


@pytest.fixture
def journal(tmp_path):
    """Open a journal."""
    journal = Journal(tmp_path / "shard.jsonl")
    yield journal
    journal.close()


def test_sent_without_an_answer_is_in_doubt(journal):
    """Of five requests one is answered, one was refused unexecuted, one failed, two were under way: these two are in doubt."""
    for name in "abcde":
        journal.sent(name, 1.0)
    journal.write(answer_line("a", status=200, request_id="req-1", body=BODY))
    journal.unsent("b")
    journal.write(error_line("c", NO_ANSWER_CODE, "nothing came", status=None))
    lines, doubts = answers_of(journal.path)
    assert [line["custom_id"] for line in lines] == ["a", "c"]
    assert doubts == (2, ("d", "e"))


def test_a_request_that_was_sent_again_after_a_refusal_is_in_doubt(journal):
    """The refusal of the first call says nothing about the second one."""
    journal.sent("a", 1.0)
    journal.unsent("a")
    journal.sent("a", 2.0)
    assert answers_of(journal.path)[1].in_doubt == ("a",)


def test_every_torn_end_leaves_its_request_in_doubt(journal):
    """Wherever the last line is cut, the lines before it count and its request is in doubt; the next process may append."""
    journal.sent("a", 1.0)
    journal.sent("b", 1.0)
    journal.write(answer_line("a", status=200, request_id=None, body=BODY))
    begun = journal.path.stat().st_size
    journal.write(answer_line("b", status=200, request_id=None, body=BODY))
    whole = journal.path.read_bytes()
    for end in range(begun, len(whole)):
        journal.path.write_bytes(whole[:end])
        lines, doubts = answers_of(journal.path)
        assert [line["custom_id"] for line in lines] == ["a"]
        assert doubts.in_doubt == ("b",)


def test_a_line_that_was_torn_in_the_middle_hides_no_later_one(journal):
    """A process died in a write, and another one wrote after it."""
    journal.sent("a", 1.0)
    journal.write(b'{"custom_id":"a","respon\n')
    journal.sent("b", 1.0)
    journal.write(answer_line("b", status=200, request_id=None, body=BODY))
    lines, doubts = answers_of(journal.path)
    assert [line["custom_id"] for line in lines] == ["b"]
    assert doubts.in_doubt == ("a",)


def test_no_journal_says_nothing(tmp_path):
    """A journal that was never begun has no answers and no doubts."""
    assert answers_of(tmp_path / "absent.jsonl") == ([], (0, ()))


def test_a_body_with_line_breaks_is_one_line():
    """Servers that print their JSON over several lines are read like others."""
    line = answer_line("a", status=200, request_id="r", body=b'{\r\n  "choices": [\n ]\n}')
    assert line.count(b"\n") == 1
    assert jsonl.loads(line)["response"] == {"status_code": 200, "request_id": "r", "body": {"choices": []}}


def test_odd_names_and_bodies_come_back(journal):
    """Names and answers with quotes, line breaks in strings and signs beyond ASCII are what they were."""
    name, text = 'n"\n\\é😀', 'a "b"\n\t😀'
    journal.sent(name, 1.0)
    journal.write(answer_line(name, status=200, request_id=None, body=jsonl.dumps({"text": text})))
    lines, doubts = answers_of(journal.path)
    assert (lines[0]["custom_id"], lines[0]["response"]["body"]["text"]) == (name, text)
    assert not doubts.in_doubt


@pytest.mark.parametrize(
    ("line", "kind"),
    [
        (error_line("a", IN_DOUBT_CODE, "m"), OutcomeKind.IN_DOUBT),
        (error_line("a", NO_ANSWER_CODE, "m"), OutcomeKind.NO_ANSWER),
        (error_line("a", "http_502", "m", status=502), OutcomeKind.TRANSIENT),
        (error_line("a", "too_large_for_limit", "m"), OutcomeKind.REFUSED),
        (answer_line("a", status=200, request_id=None, body=BODY), OutcomeKind.SUCCEEDED),
        (answer_line("a", status=400, request_id=None, body=b'{"error":{"message":"m"}}'), OutcomeKind.REFUSED),
    ],
)
def test_lines_mean_what_they_say(line, kind):
    """Each line that the lane writes has the outcome that it was written for."""
    codes = LineCodes(own={IN_DOUBT_CODE: OutcomeKind.IN_DOUBT, NO_ANSWER_CODE: OutcomeKind.NO_ANSWER})
    found = jsonl.read_output_line(jsonl.loads(line))
    assert found is not None
    assert classify(found, codes).kind is kind


def test_answers_are_on_the_disk_when_their_place_is_free(journal):
    """The writer calls back after the sync, once for each line, and writes everything before it ends."""
    writer = JournalWriter()
    seen: list[int] = []
    for number in range(200):
        line = answer_line(f"r{number}", status=200, request_id=None, body=BODY)

        def written(error, name=f"r{number}"):
            assert error is None
            assert f'"{name}"'.encode() in journal.path.read_bytes()
            seen.append(1)

        writer.append(journal, line, written)
    writer.close()
    assert len(seen) == 200
    assert len(answers_of(journal.path)[0]) == 200


def test_an_error_of_the_disk_reaches_whoever_waits(tmp_path):
    """A file that cannot be written gives an error with a hint, and other journals are still written."""
    broken, good = Journal(tmp_path / "broken"), Journal(tmp_path / "good")
    broken.close()
    writer = JournalWriter()
    ended = threading.Event()
    errors: list[Exception | None] = []
    writer.append(broken, b"{}\n", errors.append)

    def written(error: Exception | None) -> None:
        errors.append(error)
        ended.set()

    writer.append(good, b"{}\n", written)
    assert ended.wait(10)
    writer.close()
    good.close()
    assert isinstance(errors[0], SpoolError)
    assert errors[1] is None
