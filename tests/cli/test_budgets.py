"""Budgets of the other verbs: tables, recipes, evaluations with a judge, Python, notifications."""

from pathlib import Path

import pytest

import batchkit as library
from batchkit.emulator import Scenario
from batchkit.emulator.faults.lines import FailLines
from batchkit.errors import UsageError
from batchkit.files import jsonl
from batchkit.models import Lane
from batchkit.provider.pricing import pricing_of
from tests.workloads import chat_line, write_lines

MODEL = "openai/gpt-oss-20b"
JUDGE = "openai/gpt-oss-120b"
SUITE = f"""
name: quick
dataset: rows.csv
prompt: '{{{{ question }}}}'
expected: expected
models: [{MODEL}]
parameters: {{max_completion_tokens: 20}}
max_total_tokens: 700
scorers:
  - exact
  - kind: judge
    name: fair
    model: {JUDGE}
    prompt: 'Fair? {{{{ model_answer }}}}'
    parameters: {{max_completion_tokens: 20}}
    answers: {{choices: ['yes', 'no'], tries: 1}}
    scores: {{'yes': 1, 'no': 0}}
"""


@pytest.fixture
def emulator(open_emulator):
    """Start an emulator without faults."""
    return open_emulator()


def write_mails(count=30):
    """Write a table."""
    rows = [f"{number},mail number {number}" for number in range(count)]
    Path("mails.csv").write_text("\n".join(["number,text", *rows, ""]))


ASK = (
    *("annotate", "mails.csv", "--key", "number", "--prompt", "Angry? {{ text }}", "--choices", "yes,no"),
    *(
        "-m",
        MODEL,
        "--max-completion-tokens",
        "20",
        "--lane",
        "sync",
        "--no-prefect",
        "--name",
        "mails",
        "-o",
        "out.csv",
    ),
)


def executed(emulator):
    """Return how many requests were executed over both lanes."""
    ledger = emulator.ledger()
    return ledger.synchronous.executed + ledger.totals.requests_executed


def cost(batchkit, name):
    """Read what a workload has cost."""
    return jsonl.loads(batchkit("status", name, "--json").out)["cost"]


def test_a_table_is_annotated_as_far_as_its_budget_goes(batchkit, emulator):
    """Exit code 6 without an output; the JSON has the sentence; with a larger budget the output is written."""
    write_mails()
    ended = batchkit(*ASK, "--max-total-tokens", "700", "--json")
    assert ended.code == 6, ended.err
    assert jsonl.loads(ended.out)["state"] == "stopped_by_budget"
    assert 0 < executed(emulator) < 30
    assert not Path("out.csv").exists()
    assert batchkit(*ASK, "--max-total-tokens", "100000").code == 0
    assert Path("out.csv").exists()


def test_a_recipe_names_a_budget_and_a_flag_beats_it(batchkit, emulator):
    """``max_total_tokens`` in the file counts, is printed with the recipe, and another flag does not change the requests."""
    write_mails()
    recipe = Path("ask.yaml")
    words = [word for word in ASK if word not in {"--lane", "sync"}]
    recipe.write_text(batchkit(*words, "--max-total-tokens", "700", "--print-recipe").out)
    assert "max_total_tokens: 700" in recipe.read_text()
    again = ("annotate", "mails.csv", "--recipe", "ask.yaml", "--lane", "sync", "--no-prefect")
    assert batchkit(*again).code == 6
    ended = batchkit(*again, "--max-total-tokens", "100000")
    assert ended.code == 0, ended.err
    assert executed(emulator) == 30


def test_a_run_and_its_judge_share_one_budget(batchkit, emulator):
    """The run's answers leave little for the judge: it stops the evaluation, and a larger budget finishes it."""
    rows = [f"question {number},answer {number}" for number in range(12)]
    Path("rows.csv").write_text("\n".join(["question,expected", *rows, ""]))
    Path("suite.yaml").write_text(SUITE)
    words = ("eval", "suite.yaml", "--lane", "sync", "--no-prefect", "--shard-lines", "4")
    ended = batchkit(*words)
    assert ended.code == 6, ended.err
    assert "raise --max-total-tokens to continue" in ended.out
    sent = executed(emulator)
    assert 12 < sent < 24
    judge = cost(batchkit, "quick-1.fair")
    assert judge == cost(batchkit, "quick-1") | {"stopped_by_budget": True, "to_come_usd": judge["to_come_usd"]} | {
        name: judge[name] for name in ("spent_usd", "in_flight_usd", "estimated_usd")
    }
    assert judge["max_total_tokens"] == 700
    assert judge["spent_tokens"] <= 700
    assert batchkit(*words).code == 6
    assert executed(emulator) == sent
    ended = batchkit(*words, "--max-total-tokens", "100000")
    assert ended.code == 0, ended.err
    assert executed(emulator) == 24


def test_what_is_sent_again_is_reserved_again(batchkit, open_emulator):
    """``resubmit`` goes as far as the budget, and its own option raises it."""
    emulator = open_emulator(FailLines(count=5, status=400))
    write_lines(Path("input.jsonl"), (chat_line(f"r{number}", max_completion_tokens=20) for number in range(5)))
    # The failed requests cost nothing: the budget is that of one request.
    assert batchkit("run", "input.jsonl", "--no-prefect", "--max-total-tokens", "1000").code == 3
    emulator.set_scenario(Scenario())
    ended = batchkit("resubmit", "input", "--failed", "--no-prefect", "--max-total-tokens", "60")
    assert ended.code == 6, ended.err
    assert 0 < cost(batchkit, "input")["spent_tokens"] <= 60
    ended = batchkit("resubmit", "input", "--no-prefect", "--max-total-tokens", "1000")
    assert ended.code == 0, ended.err


def test_python_has_the_same_keywords(emulator, monkeypatch):
    """``run`` returns unfinished when the budget is reached, ``watch`` resumes with a larger one."""
    monkeypatch.setenv("BATCHKIT_LANE", "sync")
    write_lines(Path("input.jsonl"), (chat_line(f"r{number}", max_completion_tokens=20) for number in range(30)))
    progress = library.run("input.jsonl", max_total_tokens=500)
    assert progress.state == "stopped_by_budget"
    assert not progress.is_finished
    assert 0 < executed(emulator) < 30
    assert library.watch("input", max_total_tokens=100_000).all_succeeded
    with pytest.raises(UsageError, match="above 0"):
        library.watch("input", max_cost=-1)


def test_a_setting_is_the_budget_of_new_workloads(batchkit, emulator, monkeypatch):
    """BATCHKIT_MAX_TOTAL_TOKENS counts where no flag does; what is stored with a workload stays."""
    monkeypatch.setenv("BATCHKIT_MAX_TOTAL_TOKENS", "500")
    write_lines(Path("input.jsonl"), (chat_line(f"r{number}", max_completion_tokens=20) for number in range(30)))
    words = ("run", "input.jsonl", "--no-prefect", "--lane", "sync")
    assert batchkit(*words).code == 6
    monkeypatch.setenv("BATCHKIT_MAX_TOTAL_TOKENS", "50000")
    assert batchkit(*words).code == 6
    assert batchkit(*words, "--max-total-tokens", "50000").code == 0
    assert executed(emulator) == 30


def test_all_workloads_have_no_common_budget(batchkit, emulator):  # noqa: ARG001 - the environment points to it
    """``watch`` without a name refuses a budget."""
    ended = batchkit("watch", "--max-cost", "5")
    assert (ended.code, "a budget belongs to one workload" in ended.err) == (2, True)


def test_whoever_is_notified_hears_of_the_budget_once(batchkit, emulator, tmp_path):  # noqa: ARG001 - as above
    """The event has a kind of its own, exit code 6 and the sentence; the same command again tells nothing new."""
    write_lines(Path("input.jsonl"), (chat_line(f"r{number}", max_completion_tokens=20) for number in range(30)))
    told = tmp_path / "told.jsonl"
    words = ("run", "input.jsonl", "--no-prefect", "--lane", "sync", "--max-total-tokens", "500")
    for _ in range(2):
        ended = batchkit(*words, "--on-finish", f"tee -a {told}")
        assert ended.code == 6, ended.err
    report = jsonl.loads(told.read_text())
    assert (report["kind"], report["exit_code"], report["workload"]) == ("budget", 6, "input")
    assert report["reason"].startswith("stopped by the budget: ")


def test_speech_has_a_budget_by_its_characters(batchkit, emulator):
    """What is spoken is priced before it is sent: the budget has room for some rows, and a larger one for all."""
    model = "canopylabs/orpheus-v1-english"
    texts = [f"Sentence number {number:02}, spoken aloud" for number in range(6)]
    Path("lines.csv").write_text("\n".join(["id,line", *(f'{place},"{text}"' for place, text in enumerate(texts)), ""]))
    words = ("speak", "lines.csv", "--text", "line", "--voice", "hannah", "--key", "id", "--no-prefect", "-o", "spoken")
    one = pricing_of("groq", Lane.SYNC).price_speech(model, len(texts[0]))
    assert one is not None
    ended = batchkit(*words, "--max-cost", f"{one * 2.5:.9f}", "--json")
    assert ended.code == 6, ended.err
    found = jsonl.loads(ended.out)["cost"]
    assert found["spent_usd"] == pytest.approx(2 * one)
    assert executed(emulator) == 2
    assert batchkit(*words, "--max-cost", "1").code == 0
    assert executed(emulator) == 6
