"""Judges at work: pairs in both orders, several judges of one answer, what they cost, and what is bought twice: nothing."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from batchkit.annotation.row_answers import read_row_answers
from batchkit.api import looking_back
from batchkit.api.modes import RunMode
from batchkit.api.rescoring import rescore_run
from batchkit.cli.render import evaluated
from batchkit.emulator.faults.lines import FailLines
from batchkit.emulator.scenarios.scenario import Reply
from batchkit.errors import InputInvalid, UsageError
from batchkit.evaluation import runs
from batchkit.evaluation.judging import judge_recipe
from batchkit.evaluation.results import find_run, summary
from batchkit.evaluation.scored_table import write_scored_table
from batchkit.evaluation.suite import Suite
from batchkit.files import jsonl
from batchkit.store import evaluations
from tests.cli.conftest import _own_folder, batchkit, open_emulator
from tests.evaluation.support import (
    LARGE,
    REVIEWS,
    SMALL,
    means,
    night,
    reviews_suite,
    write_reviews,
    write_suite,
    wrong,
)
from tests.steps.conftest import open_harness

__all__ = ["_own_folder", "batchkit", "open_emulator", "open_harness"]

ROWS = 12
PAIRS = REVIEWS.replace(
    "alarms:",
    f"""  - kind: judge
    name: better
    template: pairwise
    model: qwen/qwen3-32b
    field: label
    against: {{model: {LARGE}}}
    question: text
alarms:
  - {{scorer: better, fall: 0.05}}""",
)
OF_COLUMN = PAIRS.replace(f"{{model: {LARGE}}}", "{column: label}")
PANEL = REVIEWS.replace(
    "alarms:",
    f"""  - kind: judge
    name: quality
    judges: [{SMALL}, {LARGE}, qwen/qwen3-32b]
    prompt: "Is this fair? {{{{ text }}}}: {{{{ model_answer }}}}"
    answers: {{choices: [fair, unfair], tries: 1}}
    scores: {{fair: 1, unfair: 0}}
    human: {{answer: seen, label: judged}}
alarms:""",
)
_JUDGE = frozenset({"qwen/qwen3-32b"})


def verdict(word):
    """Return the answer of a judge of pairs."""
    return f'{{"reasoning":"so it is","verdict":"{word}"}}'


#: A judge that prefers "positive" wherever it stands, and one that takes what stands first.
FAIR = (
    Reply(match=r"<first>\npositive", content=verdict("first"), models=_JUDGE),
    Reply(match=r"<second>\npositive", content=verdict("second"), models=_JUDGE),
)
BLIND = (Reply(match="Decide which", content=verdict("first"), models=_JUDGE),)
#: Two judges of three disagree about one row.
SPLIT = (
    Reply(match="Is this fair.*number 3:", content="unfair", models=frozenset({SMALL})),
    Reply(match="Is this fair", content="fair"),
)


def executed(harness):
    """Return how many requests the emulator has executed."""
    return harness.emulator.ledger().totals.requests_executed


def stored(harness, run, label):
    """Return the stored scores of a label."""
    with harness.runner.store.read() as connection:
        return list(evaluations.scores_of(connection, find_run(harness.runner, run).id, label))


def test_answers_are_judged_against_those_of_another_model(open_harness, tmp_path):
    """Twice for each pair that differs, under ids of their own; the other model gets no score, and equal answers need no judge."""
    harness = open_harness(wrong(0.5), replies=FAIR)
    found = night(harness.runner, reviews_suite(tmp_path, ROWS, PAIRS))
    labels = [row["label"] for row in looking_back.scored_table(found.run, harness.runner.settings).to_pylist()[::2]]
    scores = stored(harness, found.run, "better")
    assert len(scores) == ROWS
    right = [score.score == 0.5 for score in scores]
    # Where the small model is wrong, the large one says the label, and the judge prefers "positive".
    expected = [0.5 if same else float(label == "negative") for same, label in zip(right, labels, strict=True)]
    assert [score.score for score in scores] == expected
    differing = right.count(False)
    assert 0 < differing < ROWS
    assert executed(harness) == 2 * ROWS + 2 * differing
    judge = harness.runner.find("reviews-1.better")
    names = [answer.custom_id for row in read_row_answers(harness.runner, judge) for answer in row.answers]
    seqs = [score.seq for score in scores if score.score != 0.5]
    assert names == [f"{mark}{seq}:qwen3-32b:1" for seq in seqs for mark in "fs"]
    assert means(found, "better").keys() == {SMALL}
    assert {scoring.model for scoring in found.scorings if scoring.scorer == "better"} == {SMALL}
    (bias,) = found.judge_biases
    assert (bias.scorer, bias.model, bias.pairs) == ("better", "qwen/qwen3-32b", differing)
    assert (bias.changed, bias.for_first) == (0, 0.5)
    details = {score.score: score.detail for score in scores}
    assert details.pop(0.5) == f"tied: the text is that of {LARGE}"
    how = {1.0: ("won", "better"), 0.0: ("lost", "worse")}
    for score, detail in details.items():
        word, place = how[score]
        assert detail == f"{word}; shown first {place}: so it is; shown second {place}: so it is"


def test_the_order_that_decides_is_reported_and_compared_runs_pass(open_harness_on_sqlite, tmp_path):
    """A judge that takes the first answer makes ties only; the bias is in the terminal, in JSON, and with the next run."""
    harness = open_harness_on_sqlite(wrong(0.5), replies=BLIND)
    file = reviews_suite(tmp_path, ROWS, PAIRS)
    night(harness.runner, file)
    found = night(harness.runner, file)
    assert means(found, "better") == {SMALL: 0.5}
    assert (found.verdict, found.notes) == ("passed", ())
    lines = [str(line) for line in evaluated.last_words(found, [], again="batchkit eval reviews.yaml", report=None)]
    (line,) = [line for line in lines if "the order decided" in line]
    assert line.startswith("the judge qwen/qwen3-32b of 'better': the order decided 100% of")
    assert line.endswith("it prefers the first place")
    machine = jsonl.loads(jsonl.dumps(evaluated.for_machines(found, exit_code=0, report=None)))
    assert machine["judge_biases"][0]["for_first"] == 1
    assert summary(harness.runner, found.run) == found


def test_what_cannot_be_compared_has_no_score(open_harness_on_sqlite, tmp_path):
    """The other answer failed, or one of both judgements did: then the run is not fully scored."""
    broken = frozenset({"r0:gpt-oss-120b:1", "r1:gpt-oss-20b:1"})
    judged = frozenset({"s4:qwen3-32b:1", "s6:qwen3-32b:1", "s8:qwen3-32b:1"})
    faults = [FailLines(custom_ids=broken, status=400), FailLines(custom_ids=judged, status=400), wrong(1.0)]
    harness = open_harness_on_sqlite(*faults, replies=FAIR)
    found = night(harness.runner, reviews_suite(tmp_path, 6, PAIRS))
    scores = {score.seq: score for score in stored(harness, found.run, "better")}
    assert (scores[0].reason, scores[0].detail) == ("scorer_error", f"{LARGE} has no answer to compare with")
    assert scores[2].reason == "no_answer"
    lost = [score for score in scores.values() if (score.detail or "").startswith("the judge: ")]
    assert lost
    assert all(score.score is None and score.reason == "scorer_error" for score in lost)
    assert found.verdict == "unscored"


def test_answers_are_judged_against_those_to_another_prompt(open_harness_on_sqlite, tmp_path):
    """Of the same model, and of the same sample of the row."""
    harness = open_harness_on_sqlite(wrong(0.5), replies=FAIR)
    text = PAIRS.replace(f"against: {{model: {LARGE}}}", "against: {prompt: long}").replace(
        'prompt: "Is this review positive or negative? {{ text }}"',
        "samples: 2\nprompts: {long: 'Is this review positive or negative? {{ text }}', short: 'Positive? {{ text }}'}",
    )
    found = night(harness.runner, reviews_suite(tmp_path, 5, text))
    arms = {(metric.prompt, metric.model) for metric in found.metrics if metric.scorer == "better"}
    assert arms == {("short", SMALL), ("short", LARGE)}
    rows = looking_back.scored_table(found.run, harness.runner.settings).to_pylist()
    answers = {(row["id"], row["prompt"], row["model"], row["sample"]): row["answer"] for row in rows}
    short = [row for row in rows if row["prompt"] == "short"]
    differing = [row for row in short if row["answer"] != answers[row["id"], "long", row["model"], row["sample"]]]
    assert 0 < len(differing) < len(short)
    assert [row["better"] for row in differing] == [float("positive" in row["answer"]) for row in differing]
    assert harness.runner.find("reviews-1.better").request_count == 2 * len(differing)


def test_a_row_without_a_reference_has_no_score(open_harness_on_sqlite, tmp_path):
    """It has no expected value; the others are compared with the text of their column."""
    harness = open_harness_on_sqlite(wrong(1.0), replies=FAIR)
    file = reviews_suite(
        tmp_path, 6, OF_COLUMN.replace("{scorer: accuracy, fall: 0.05}", "{scorer: better, fall: 0.1}")
    )
    table = tmp_path / "reviews.csv"
    table.write_text(table.read_text().replace("positive", ""))
    found = night(harness.runner, file)
    scores = stored(harness, found.run, "better")
    reasons = Counter((score.reason, score.score) for score in scores)
    blank = reasons["no_expected", None]
    assert 0 < blank < ROWS
    assert reasons[None, 1.0] + reasons[None, 0.5] == ROWS - blank
    assert found.verdict == "first"
    assert {scoring.unlabelled for scoring in found.scorings if scoring.scorer == "better"} == {blank // 2}


def test_several_judges_make_one_score_and_keep_their_own(open_harness, tmp_path):
    """One that fails leaves the others; their agreement with each other and with people is measured."""
    failing = FailLines(custom_ids=frozenset({"a0:gpt-oss-120b:1"}), status=400)
    harness = open_harness(failing, replies=SPLIT)
    found = night(harness.runner, reviews_suite(tmp_path, 6, PANEL))
    table = looking_back.scored_table(found.run, harness.runner.settings).to_pylist()
    assert [row["quality"] for row in table] == [2 / 3 if row["id"] == "r3" else 1 for row in table]
    assert [row["quality:gpt-oss-20b"] for row in table] == [float(row["id"] != "r3") for row in table]
    assert table[0]["quality:gpt-oss-120b"] is None
    assert table[0]["quality:gpt-oss-120b_reason"].startswith("scorer_error: the judge: ")
    assert table[0]["quality_reason"].startswith("gpt-oss-20b 1, gpt-oss-120b no score (")
    assert write_scored_table(harness.runner, find_run(harness.runner, found.run), "table:judged_rows") == 12
    with harness.runner.store.read() as connection:
        kept = connection.exec_driver_sql('SELECT "quality:qwen3-32b" FROM judged_rows ORDER BY row_number')
        assert [score for (score,) in kept] == [1.0] * 12
    (between,) = found.between_judges
    assert (between.models, between.judged, between.answers) == ((SMALL, LARGE, "qwen/qwen3-32b"), (12, 11, 12), 12)
    assert between.unanimous == pytest.approx(10 / 12)
    assert between.level == "nominal"
    assert between.fleiss is not None
    assert between.alpha is not None
    assert [(agreed.scorer, agreed.rows) for agreed in found.judge_agreement] == [
        ("quality:gpt-oss-20b", 4),
        ("quality:gpt-oss-120b", 4),
        ("quality:qwen3-32b", 4),
    ]
    (line,) = [
        str(line)
        for line in evaluated.last_words(found, [], again="batchkit eval reviews.yaml", report=None)
        if "the judges of" in str(line)
    ]
    assert "agree on 83% of the answers that two or more judged; Fleiss' kappa" in line
    assert f"{LARGE} 11" in line


def test_only_other_questions_are_bought_again(open_harness_on_sqlite, tmp_path):
    """What judgements are worth, and how they are combined, may change without a request; a new judge of pairs costs its own."""
    harness = open_harness_on_sqlite(wrong(0.5), replies=(*SPLIT, *FAIR))
    night(harness.runner, reviews_suite(tmp_path, 4, PANEL))
    sent = executed(harness)

    def again(text):
        path = write_suite(tmp_path, text, "again.yaml")
        result = rescore_run(path, "reviews-1", settings=harness.runner.settings, mode=RunMode("eval"))
        assert result.summary is not None
        return result.summary

    other = again(
        PANEL.replace("scores: {fair: 1, unfair: 0}", "scores: {fair: 0.8, unfair: 0}\n    combine: majority")
    )
    assert executed(harness) == sent
    before = summary(harness.runner, "reviews-1")
    assert (other.between_judges, other.judge_agreement) == (before.between_judges, before.judge_agreement)
    assert before.between_judges
    assert means(other, "quality") == {SMALL: 1.0, LARGE: 1.0}
    differing = sum(score.score != 1 for score in stored(harness, "reviews-1", "accuracy"))
    assert means(again(PAIRS), "better").keys() == {SMALL}
    assert executed(harness) == sent + 2 * differing
    again(PAIRS)
    assert executed(harness) == sent + 2 * differing
    with pytest.raises(UsageError, match=r"there is no model 'm' in the suite"):
        again(
            PAIRS.replace(f"models: [{SMALL}, {LARGE}]", f"models: [{SMALL}, m]").replace(f"model: {LARGE}", "model: m")
        )


def test_a_judgement_about_another_label_does_not_count(open_harness_on_sqlite, tmp_path):
    """What the judge compared with has changed since: the row has no score by it, and is not asked about again."""
    facts = Reply(match="Compare the facts", content='{"reasoning":"","verdict":"same"}')
    harness = open_harness_on_sqlite(replies=(facts,))
    judge = "  - {kind: judge, model: qwen/qwen3-32b, template: factuality, expected: label, field: label}\nalarms:"
    text = REVIEWS.replace("alarms:", judge)
    night(harness.runner, reviews_suite(tmp_path, 5, text))
    sent = executed(harness)
    table = tmp_path / "reviews.csv"
    lines = table.read_text().splitlines()
    other = lines[1].replace("positive", "?").replace("negative", "positive").replace("?", "negative")
    table.write_text("\n".join([lines[0], other, *lines[2:]]))
    path = write_suite(tmp_path, text, "again.yaml")
    found = rescore_run(path, "reviews-1", settings=harness.runner.settings, mode=RunMode("eval"))
    scores = [(score.score, score.detail) for score in stored(harness, found.run, "judge")]
    assert scores == [(None, "the judge: asked with another text in label")] * 2 + [(1, "same")] * 8
    assert executed(harness) == sent


def test_a_dry_run_counts_the_judges(batchkit, open_emulator):
    """Two requests for each pair, one to each of several judges, with their price; nothing is sent."""
    emulator = open_emulator()
    write_reviews(Path(), 10)
    for text, label, count, models in (
        (PAIRS, "better", 20, {"qwen/qwen3-32b": 20}),
        (OF_COLUMN, "better", 40, {"qwen/qwen3-32b": 40}),
        (PANEL, "quality", 60, dict.fromkeys((SMALL, LARGE, "qwen/qwen3-32b"), 20)),
    ):
        suite = write_suite(Path(), text)
        found = batchkit("eval", suite, "--dry-run", "--json").json
        assert found["judgements"] == {label: count}
        falls = [fall["model"] for fall in found["findable_falls"] if fall["scorer"] == "better"]
        assert falls == {PAIRS: [SMALL], OF_COLUMN: [SMALL, LARGE], PANEL: []}[text]
        estimate = found["judges"][label]
        assert {model: one["requests"] for model, one in estimate["models"].items()} == models
        assert estimate["cost_usd_at_least"] > 0
    out = batchkit("eval", suite, "--dry-run").out
    assert "the judge 'quality': up to 60 requests more" in out
    assert emulator.ledger().totals.batches == 0


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (f"{{model: {LARGE}}}", "{model: m}", "there is no model 'm' in the suite; there are: "),
        (f"{{model: {LARGE}}}", "{prompt: short}", "there is no prompt 'short' in the suite; there are none by name"),
        (f"models: [{SMALL}, {LARGE}]", f"models: [{LARGE}]", "is the only model of the suite"),
        ("scorer: better,", f"scorer: better, model: {LARGE},", "'better' has no scores of these answers"),
        ("field: label}", "field: label, reduce: any, k: 3}", "pass@3 needs 3 samples of each row"),
        ("field: label}", "field: label, k: 1}", "`k` belongs to `reduce: any`"),
        ("name: accuracy", "name: 'better:qwen3-32b'", "give the scorer 'better:qwen3-32b' another `name`"),
    ],
)
def test_a_judge_that_cannot_work_in_its_suite_is_refused(tmp_path, before, after, said):
    """Before anything is sent, with its line."""
    text = (
        PAIRS if "another" not in said else PAIRS.replace("model: qwen/qwen3-32b", f"judges: [qwen/qwen3-32b, {SMALL}]")
    )
    with pytest.raises(InputInvalid) as refused:
        reviews_suite(tmp_path, 3, text.replace(before, after).replace("- {scorer: accuracy, fall: 0.05}", ""))
    first = str(refused.value.problems[0])
    assert said in first
    assert "reviews.yaml:" in first


def test_columns_of_a_pair_may_not_be_those_of_the_table(tmp_path):
    """A judge of one answer has other columns."""
    file = reviews_suite(tmp_path, 3, PAIRS)
    taken = [*("id", "text", "language", "label"), "first_answer", "model_answer"]
    assert [said for _, said in file.suite.unknown_columns(taken)] == [
        "the table's column 'first_answer' has the name of a judge's column: rename it"
    ]
    (unknown,) = reviews_suite(tmp_path, 3, OF_COLUMN.replace("column: label", "column: gold")).suite.unknown_columns(
        ["id", "text", "language", "label"]
    )
    assert unknown[0] == ("scorers", 1, "against", "column")


def test_samples_are_counted_as_pass_at_k(open_harness_on_sqlite, tmp_path):
    """The metric has its name, graded scores are compared as such, and the samples' own scores stay."""
    text = REVIEWS.replace("field: label}", "field: label, reduce: any, k: 2}")
    text = text.replace("expected: label", "samples: 3\nexpected: label")
    harness = open_harness_on_sqlite(wrong(0.5))
    file = reviews_suite(tmp_path, ROWS, text)
    night(harness.runner, file)
    found = night(harness.runner, file)
    by_row = Counter(
        row["id"]
        for row in looking_back.scored_table(found.run, harness.runner.settings).to_pylist()
        if row["model"] == SMALL and row["accuracy"] == 1
    )
    right = [by_row[f"r{number}"] for number in range(ROWS)]
    assert means(found)[SMALL] == pytest.approx(sum({0: 0, 1: 2 / 3, 2: 1, 3: 1}[count] for count in right) / ROWS)
    assert 1 in right
    (metric,) = [one for one in found.metrics if one.model == SMALL and one.slice is None]
    assert metric.method.startswith("t 95")
    (change,) = [change for change in found.changes if change.model == SMALL]
    assert (change.pairs, "McNemar" in change.method, found.spreads) == (ROWS, False, ())
    assert (found.pass_at, found.metric_of("accuracy")) == ({"accuracy": "pass@2"}, "accuracy pass@2")
    unnamed = file.suite.scorers[0].model_copy(update={"name": ""})
    assert (unnamed.label, unnamed.model_copy(update={"k": None}).pass_at(5)) == ("pass@2", "pass@5")


def test_judges_of_earlier_versions_keep_their_requests():
    """The version of a suite and the recipe of its judges are what they were: an unfinished run is no other run after an upgrade."""
    scorers = [
        {"kind": "judge", "model": "m", "prompt": "x", "answers": {"minimum": 1, "maximum": 5}},
        {"kind": "judge", "name": "r", "model": "m", "template": "rubric", "criteria": "c", "question": "q", "human": {"answer": "a", "label": "b"}},
        {"kind": "judge", "name": "f", "model": "m", "template": "factuality", "expected": "e"},
        {"kind": "exact", "expected": "e", "reduce": "any"},
        {"kind": "judge", "name": "w", "model": "m", "prompt": "x {{model_answer}}", "answers": {"choices": ["a", "b"]}, "scores": {"a": 1, "b": 0}},
    ]  # fmt: skip
    suite = Suite.model_validate(
        {"name": "r", "dataset": "x.csv", "prompt": "{{a}}", "models": ["m"], "samples": 3, "scorers": scorers}
    )
    assert suite.version() == "b3bd352dbcca6688f22ac45716eb281a87011bd9af416d1999a2a6fad78e9e21"
    digests = [judge_recipe(judge, table="t", table_digest="d").digest()[:16] for judge in suite.judges]
    assert digests == ["3bbb25e9e7ce89fe", "98123a10b9f4420a", "79121bf13a3951a3", "73b34f166c395321"]


def test_an_unfinished_judge_is_resumed(open_harness_on_sqlite, tmp_path):
    """Its workload is made once, whoever asks for it."""
    harness = open_harness_on_sqlite(wrong(0.5), replies=FAIR)
    evaluation = runs.begin(harness.runner, reviews_suite(tmp_path, 4, PAIRS))
    main = runs.next_workload(harness.runner, evaluation)
    assert main is not None
    harness.runner.process(main.id)
    judge = runs.next_workload(harness.runner, evaluation)
    again = runs.next_workload(harness.open_runner(), evaluation)
    assert judge is not None
    assert again is not None
    assert (again.id, again.name, again.request_count) == (judge.id, "reviews-1.better", judge.request_count)
