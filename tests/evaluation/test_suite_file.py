"""Suites: what is wrong in one is found all at once, where it stands; what is right means the same wherever it lies."""

from __future__ import annotations

import pytest

from batchkit.errors import InputInvalid, InputUnreadable
from batchkit.evaluation.suite import Suite
from batchkit.evaluation.suite_file import load_suite
from batchkit.files import jsonl
from tests.evaluation.support import REVIEWS, write_suite

#: The line of the good suite that says what an answer is.
SCHEMA = next(line.strip() for line in REVIEWS.splitlines() if line.strip().startswith("schema:"))

BAD = """\
name: nightly reviews
dataset: {path: reviews.csv, kye: id}
prompt: "Is this kind? {{ text }}"
modles: [openai/gpt-oss-20b]
samples: 0
answers:
  choices: [yes, no]
  choices: ["a", "b"]
scorers:
  - exact
  - kind: regexx
  - kind: regex
    patern: "x"
alarms:
  - scorer: exact
    fall: lots
schedule: {cron: "0 2 * *", timezone: Mars/Olympus}
folder: /tmp
"""


MINIMAL = """
name: s
dataset: {path: a.csv}
prompt: "x {{ t }}"
models: [m]
scorers: [{kind: exact, expected: t}]
"""


def problems(path):
    """Load a suite that is wrong; gives what is wrong in it, by line and column."""
    with pytest.raises(InputInvalid) as raised:
        load_suite(path)
    assert raised.value.count == len(raised.value.problems)
    return [str(problem).removeprefix(f"{path}:") for problem in raised.value.problems]


def test_everything_that_is_wrong_is_told_with_its_line_and_column(tmp_path):
    """Keys that do not exist, values that cannot be, keys that are missing or there twice: all in one go, in order."""
    found = problems(write_suite(tmp_path, BAD))
    assert [problem.split(": ")[0] for problem in found] == [
        "1:1", "1:7", "2:30", "4:1", "5:10", "8:3", "11:5", "12:5", "13:5", "16:11", "17:18", "17:39", "18:1",
    ]  # fmt: skip
    assert "the key 'models' is missing" in found[0]
    assert "no key 'kye'; did you mean 'key'?" in found[2]
    assert "no key 'modles'; did you mean 'models'?" in found[3]
    assert "the key 'choices' is there twice" in found[5]
    assert "no scorer 'regexx'; did you mean 'regex'?" in found[6]
    assert "the key 'pattern' is missing" in found[7]
    assert "no key 'patern'; did you mean 'pattern'?" in found[8]
    assert "five fields" in found[10]
    assert "no time zone 'Mars/Olympus'" in found[11]


WRONG_TOOL = "{type: function, function: {name: broken, parameters: {type: nothing}}}"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("expected: label", "missing: zero", "choice compares with a column: name it"),
        ("{scorer: accuracy, fall", "{scorer: accurate, fall", "there is no scorer 'accurate'; there are: accuracy"),
        ("fall: 0.05}", "fall: 0.05, model: other}", "there is no model 'other'"),
        ("openai/gpt-oss-120b]", "openai/gpt-oss-20b]", "occurs twice"),
        ("prompt: ", "prompts: {plain: 'x {{ text }}'}\nprompt: ", "either `prompt`, or `messages`, or `prompts` by name"),
        ("  - {kind: choice, name", "  - {kind: exact, name: accuracy}\n  - {kind: choice, name", "two scorers are called"),
        ("enum: [positive, negative]", "enum: 3", "not a valid JSON Schema"),
        ("enum: [positive, negative]", "$ref: 'https://example.com/x'", "refers to https://example.com/x, which is not in"),
        ("prompt: ", f"parameters: {{tools: [{WRONG_TOOL}]}}\nprompt: ", "the tool broken: not a valid JSON Schema"),
        (SCHEMA, "pydantic: batchkit.files.jsonl:UNREADABLE", "batchkit.files.jsonl:UNREADABLE has no JSON Schema"),
        (SCHEMA, "pydantic: batchkit.files.jsonl:loads", "batchkit.files.jsonl:loads is not a type"),
        ("models: [openai/gpt-oss-20b, openai/gpt-oss-120b]", "models: [openai/gpt-oss-20b, yes]", "put it in quotes"),
    ],
)  # fmt: skip
def test_parts_that_contradict_each_other_are_told_where_they_stand(tmp_path, before, after, said):
    """Each part may be right by itself and wrong beside the others."""
    path = write_suite(tmp_path, REVIEWS.replace(before, after))
    found = problems(path)
    assert len(found) == 1
    assert said in found[0]


def test_what_is_no_suite_at_all_says_so(tmp_path):
    """YAML that does not parse has its place; a list is no suite; a missing file is named."""
    assert problems(write_suite(tmp_path, "name: [a\nmodels: b"))[0].startswith("2:7: not valid YAML")
    assert "a suite is a mapping" in problems(write_suite(tmp_path, "- a"))[0]
    with pytest.raises(InputUnreadable, match="cannot be read"):
        load_suite(tmp_path / "nowhere.yaml")


def test_a_suite_means_the_same_wherever_it_lies(tmp_path):
    """The version names what is asked and how it is scored: not the folder, the schedule or the alarms."""
    (tmp_path / "other").mkdir()
    here = load_suite(write_suite(tmp_path))
    there = load_suite(write_suite(tmp_path / "other"))
    assert here.suite.version() == there.suite.version()
    assert here.suite.table_parts() == [str(tmp_path / "reviews.csv")]
    same = load_suite(write_suite(tmp_path, REVIEWS.replace("0.05", "0.2") + 'schedule: {cron: "0 2 * * *"}\n'))
    allowed = load_suite(write_suite(tmp_path, REVIEWS + "allow_paths: true\n"))
    assert allowed.suite.version() == here.suite.version()
    assert allowed.suite.recipe(table="t", table_digest="d").allow_paths
    plain = REVIEWS.replace("key: id}", "key: id, separator: null}")
    assert load_suite(write_suite(tmp_path, plain)).suite.version() == here.suite.version()
    bars = load_suite(write_suite(tmp_path, REVIEWS.replace("key: id}", 'key: id, separator: "|"}')))
    assert bars.suite.version() != here.suite.version()
    other = load_suite(write_suite(tmp_path, REVIEWS.replace("Is this", "Was this")))
    assert same.suite.version() == here.suite.version() != other.suite.version()


def test_a_suite_survives_its_way_through_the_store(tmp_path):
    """What is kept of a run is the suite again, to the last scorer, with the schema of its file inside."""
    (tmp_path / "label.json").write_bytes(jsonl.dumps({"type": "object"}))
    more = """
  - {kind: schema_valid, schema: label.json}
  - {kind: json_fields, fields: [label]}
  - kind: judge
    model: openai/gpt-oss-120b
    prompt: "Judge {{ model_answer }}"
    answers: {choices: [good, bad]}
    scores: {good: 1, bad: 0}
"""
    text = REVIEWS.replace("alarms:", more.strip("\n") + "\nalarms:")
    suite = load_suite(write_suite(tmp_path, text)).suite
    (tmp_path / "label.json").unlink()
    assert Suite.model_validate_json(suite.model_dump_json(by_alias=True)) == suite
    assert [scorer.label for scorer in suite.scorers] == ["accuracy", "schema_valid", "json_fields", "judge"]
    assert [judge.scores for judge in suite.judges] == [{"good": 1.0, "bad": 0.0}]


@pytest.mark.parametrize(
    ("judge", "said"),
    [
        ("answers: {choices: [good, bad]}", "give each choice a score: good, bad"),
        ("answers: {schema: {type: object}}", "`verdict` is the place"),
        ("answers: {pattern: 'a+'}", "a judge answers with one of"),
    ],
)
def test_a_judge_whose_verdict_cannot_be_read_is_refused(tmp_path, judge, said):
    """Its answers must be worth something."""
    more = f"  - kind: judge\n    model: m\n    prompt: 'Judge {{{{ model_answer }}}}'\n    {judge}\nalarms:"
    found = problems(write_suite(tmp_path, REVIEWS.replace("alarms:", more)))
    assert len(found) == 1
    assert said in found[0]


def test_version_of_a_suite_does_not_change_with_batchkit(tmp_path):
    """A new field of suites gives no suite another version while it is not used."""
    suite = load_suite(write_suite(tmp_path, MINIMAL)).suite
    assert suite.version() == "eec20942dbe0403272a97f9e6dc13622dcb8565090c0003189cc30e16348efc3"
