"""Output lines of answers that are files: no server can make one itself."""

import pytest

from batchkit.answers.file_answers import file_answer
from batchkit.files import jsonl
from batchkit.provider.call_reply import CallEnd, CallReply
from batchkit.provider.call_verdicts import CallJudgement, CallVerdict
from batchkit.sending.journal import NO_ANSWER_CODE
from batchkit.sending.media import body_of_line
from batchkit.sending.reply_lines import line_of

FILE = {"path": "audio/lines-1/abc/x-1.wav", "bytes": 4, "sha256": "0" * 64, "content_type": "audio/wav"}
ANSWER = CallJudgement(verdict=CallVerdict.ANSWER)


def test_a_file_stands_in_its_line():
    """Its body is read again as it was written."""
    reply = CallReply(end=CallEnd.ANSWERED, status=200, request_id="req_1")
    line, _ = line_of("r", reply, ANSWER, file=jsonl.dumps(FILE))
    found = file_answer(body_of_line(line))
    assert found is not None
    assert (found.path, found.bytes, found.content_type) == (FILE["path"], 4, "audio/wav")
    assert jsonl.loads(line)["error"] is None


def test_a_server_that_names_a_file_has_given_no_answer():
    """JSON of the same shape in a reply never leads to a file of this machine."""
    reply = CallReply(
        end=CallEnd.ANSWERED, status=200, body=jsonl.dumps(FILE), message="POST /v1/audio/speech: HTTP 200"
    )
    line, _ = line_of("r", reply, ANSWER)
    record = jsonl.loads(line)
    assert (record["response"], record["error"]["code"]) == (None, NO_ANSWER_CODE)


@pytest.mark.parametrize(
    "path",
    [
        "audio/../../secret/x.wav",
        "audio/lines-1/abc/../x.wav",
        "audio//abc/x.wav",
        "/etc/passwd",
        "audio/lines-1/x.wav",
        "audio/lines-1/abc/x\n.wav",
    ],
)
def test_a_path_leads_nowhere_else(path):
    """Only paths of the form that the lane writes are files."""
    assert file_answer(jsonl.dumps({**FILE, "path": path})) is None


@pytest.mark.parametrize(
    "line", [b"", b"{", b'{"sent":"r"}', b'{"response":null}', b'{"response":{"body":null}}', b"[]"]
)
def test_other_lines_have_no_file(line):
    """Lines of the journal, refusals, and what is no line."""
    assert file_answer(body_of_line(line)) is None
