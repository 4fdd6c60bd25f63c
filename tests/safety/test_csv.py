"""No cell of an exported CSV file is a formula, unless the user asks for raw texts."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import batchkit as package
from batchkit.datasets.formulas import without_formula
from batchkit.emulator.faults.lines import FailLines
from batchkit.files import jsonl
from batchkit.models import RequestState, ShardId
from batchkit.steps import csv_rows
from batchkit.steps.replaced import ReplacedHalves
from batchkit.store.results import ExportRow
from batchkit.store.rows import AnswerFacts
from tests.workloads import chat_line, write_lines

RUN = ("--no-prefect", "-o", "out.csv")
#: The characters named by OWASP's "CSV Injection" and ASVS 1.2.10, including line ends and full-width characters.
DANGEROUS = "=+-@\t\r\n\x00\uff1d\uff0b\uff0d\uff20"
FORMULAS = st.builds("".join, st.tuples(st.sampled_from(["", "'", "''", " "]), st.sampled_from(DANGEROUS), st.text()))
TEXTS = (
    st.text()
    | FORMULAS
    | st.sampled_from(['=cmd|"/c calc"!A1', "-1", "+49 30 1", "-", "=", "", "'", "'-1", "-1.5e3", "-1\n"])
)


def read(data):
    """Read CSV as a spreadsheet would, without evaluating it."""
    return list(csv.DictReader(io.StringIO(data.decode(), newline="")))


def is_number(cell):
    """Return whether a cell is a number and nothing else, as Python reads it."""
    try:
        float(cell)
    except ValueError:
        return False
    return re.fullmatch(r"[-+0-9.eE]+", cell) is not None


def back(cell):
    """Remove the apostrophe by the rule in the help."""
    return cell[1:] if cell.startswith("'") and cell.lstrip("'")[:1] in set(DANGEROUS) else cell


def row(seq, *texts):
    """Return a row whose texts are these, including its answer's."""
    custom_id, answer, code, message, reason, model = texts
    answered = jsonl.dumps({"choices": [{"message": {"content": answer}}]})
    return ExportRow(
        seq=seq, custom_id=custom_id, state=RequestState.SUCCEEDED, attempts=3, shard_id=ShardId(1), result_shard_id=None,
        status_code=-1, request_id=None, error_code=code, error_message=message, body=answered,
        facts=AnswerFacts(reason, -7, 0, 12, model, model),
    )  # fmt: skip


def rendered(rows, batch_id="batch_1", *, raw=False):
    """Write rows to a file and read it again."""
    return read(b"".join(csv_rows.render(iter(rows), lambda _row: batch_id, raw=raw, replaced=ReplacedHalves())))


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS), min_size=1, max_size=4), TEXTS)
def test_no_cell_is_a_formula(texts, batch_id):
    """After a round trip no cell begins with a character that starts a formula, except plain numbers; the texts can be restored."""
    rows = rendered([row(seq, *words) for seq, words in enumerate(texts)], batch_id)
    assert len(rows) == len(texts)
    for words, found in zip(texts, rows, strict=True):
        assert [cell for cell in found.values() if cell[:1] in set(DANGEROUS) and cell and not is_number(cell)] == []
        names = ("custom_id", "answer", "error_code", "error_message", "finish_reason", "model")
        assert tuple(back(found[name]) for name in names) == words
        assert back(found["batch_id"]) == batch_id
        assert (found["status_code"], found["prompt_tokens"], found["attempts"]) == ("-1", "-7", "3")


@given(st.tuples(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS, TEXTS))
def test_raw_cells_are_the_exact_text(words):
    """On request, every text is unchanged."""
    (found,) = rendered([row(0, *words)], raw=True)
    names = ("custom_id", "answer", "error_code", "error_message", "finish_reason", "model")
    assert tuple(found[name] for name in names) == words


@given(TEXTS, TEXTS)
def test_different_custom_ids_stay_different(first, second):
    """A join by custom_id stays possible."""
    assert (without_formula(first) == without_formula(second)) is (first == second)


@pytest.mark.parametrize("text", ["-1", "+3.5", "-.5", "-1e-9", "+0", "-12.", "plain", "a=1", "", None])
def test_plain_numbers_are_unchanged(text):
    """A score of -1 is a number in every tool that reads the file."""
    assert without_formula(text) == text


@pytest.mark.parametrize("text", ["-1+1", "+1 2", "-", "--1", "-1e", "- 1", "=1", "@1", "-\u0661", "+1,5", "-1\n"])
def test_expressions_that_resemble_numbers_are_escaped(text):
    """Everything that could be evaluated becomes text."""
    assert without_formula(text) == f"'{text}"


HOSTILE = ("=HYPERLINK(1)", "-x", "@SUM", "plain")


@pytest.fixture
def hostile_run(batchkit, open_emulator, tmp_path):
    """Return a function that runs requests with hostile custom_ids, some of which fail with hostile messages."""

    def run(*words):
        open_emulator(FailLines(custom_ids=frozenset({"-x"}), code="=code", message="+message"))
        source = write_lines(tmp_path / "input.jsonl", [chat_line(custom_id) for custom_id in HOSTILE])
        return batchkit("run", source, *RUN, *words)

    return run


def test_run_and_export_neutralise_by_default(batchkit, hostile_run):
    """Both commands write the same .csv; a .jsonl has the texts unchanged."""
    assert hostile_run().code == 3
    rows = read(Path("out.csv").read_bytes())
    assert [found["custom_id"] for found in rows] == ["'=HYPERLINK(1)", "'-x", "'@SUM", "plain"]
    assert (rows[1]["error_code"], rows[1]["error_message"]) == ("'=code", "'+message")
    assert batchkit("export", "input", "again.csv").code == 0
    assert Path("again.csv").read_bytes() == Path("out.csv").read_bytes()
    assert batchkit("export", "input", "out.jsonl").code == 0
    assert '"custom_id":"=HYPERLINK(1)"' in Path("out.jsonl").read_text()


def test_raw_csv_turns_it_off(batchkit, hostile_run):
    """This holds for ``run``, for ``export`` and in Python."""
    assert hostile_run("--raw-csv").code == 3
    assert tuple(found["custom_id"] for found in read(Path("out.csv").read_bytes())) == HOSTILE
    assert batchkit("export", "input", "again.csv", "--raw-csv").code == 0
    assert package.export("input", "from-python.csv", raw_csv=True) == len(HOSTILE)
    assert package.export("input", "guarded.csv") == len(HOSTILE)
    raw = Path("out.csv").read_bytes()
    assert Path("again.csv").read_bytes() == Path("from-python.csv").read_bytes() == raw
    assert Path("guarded.csv").read_bytes() != raw


def test_the_help_explains_it(batchkit):
    """The help says what to do for a join by custom_id."""
    said = " ".join(batchkit("export", "--help").out.replace("│", " ").split())
    assert "formula" in said
    assert "apostrophe before" in said
    assert "--raw-csv" in said
    assert "To join by such custom_ids" in said
    assert "--raw-csv" in batchkit("run", "--help").out
