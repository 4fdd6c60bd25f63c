"""``--recipe`` and ``--print-recipe``: one file in place of many options."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchkit.annotation.parameters import Parameters
from batchkit.annotation.presets import annotation
from batchkit.annotation.workload_from_table import default_name, with_table
from batchkit.datasets import open_table
from tests.workloads import read_lines

MODEL = "openai/gpt-oss-20b"
DRY = ("--dry-run", "--json")
ASK = """\
prompt: "Kind? {{ text }}"
models: [openai/gpt-oss-20b]
choices: [praise, blame]
parameters: {temperature: 0.5, seed: 1}
key: id
"""


@pytest.fixture(autouse=True)
def reviews():
    """Write a small table into the working directory, and a recipe into its own folder."""
    Path("reviews.csv").write_text("id,text,url\na,good,https://example.com/a.wav\nb,bad,https://example.com/b.wav\n")
    Path("recipes").mkdir()
    Path("recipes/ask.yaml").write_text(ASK)


def shown(batchkit, *words):
    """Return the dry run of these arguments."""
    ended = batchkit(*words, *DRY)
    assert ended.code == 0, ended.err
    return ended.json


def test_recipe_options_and_python_make_one_workload(batchkit):
    """The same content makes the same requests under the same name, wherever it is written."""
    of_recipe = shown(batchkit, "annotate", "reviews.csv", "--recipe", "recipes/ask.yaml")
    of_options = shown(
        batchkit,
        *("annotate", "reviews.csv", "--prompt", "Kind? {{ text }}", "-m", MODEL, "--choices", "praise,blame"),
        *("--temperature", "0.5", "--seed", "1", "--key", "id"),
    )
    assert of_recipe == of_options
    table = open_table(["reviews.csv"], query=None)
    recipe = annotation(
        "Kind? {{ text }}",
        models=[MODEL],
        choices=["praise", "blame"],
        parameters=Parameters(temperature=0.5, seed=1),
        key="id",
    )
    assert of_recipe["name"] == default_name(table, with_table(recipe, table))


def test_options_override_the_recipe(batchkit):
    """Each option overrides one value; other parameters stay, and another answer format replaces the recipe's."""
    recipe = ("annotate", "reviews.csv", "--recipe", "recipes/ask.yaml")
    found = shown(
        batchkit, *recipe, "--seed", "7", "--number", "1..5", "--limit", "1", "--name", "mine", "--samples", "2"
    )
    assert found["name"] == "mine"
    assert (found["rows"], found["requests"]) == (1, 2)
    body = found["shown"][0]["body"]
    assert (body["temperature"], body["seed"], body["model"]) == (0.5, 7, MODEL)
    assert "praise" not in str(body["messages"])


@pytest.mark.parametrize(
    "words",
    [
        (
            *("annotate", "reviews.csv", "--prompt", "@ask.j2", "-m", MODEL, "--schema", "label.json", "--tries", "5"),
            *(
                "--samples",
                "2",
                "--no-instruct",
                "--stop",
                "END",
                "--review",
                "disputed.csv",
                "--raw-csv",
                "-o",
                "out.csv",
                "--limit",
                "1",
            ),
        ),
        ("transcribe", "reviews.csv", "--audio", "url", "--language", "tr", "--timestamps", "word,segment"),
        ("moderate", "reviews.csv", "--text", "text", "--as", "answer", "--prompt-column", "id", "--only", "unsafe"),
    ],
    ids=["annotate", "transcribe", "moderate"],
)
def test_a_printed_recipe_equals_its_command(batchkit, words):
    """It contains the contents of the options' files, sends nothing and needs no key."""
    Path("ask.j2").write_text("Kind?\n{{ text }}\n")
    Path("label.json").write_text('{"type": "object", "properties": {"kind": {"type": "string"}}}')
    before = shown(batchkit, *words)
    printed = batchkit(*words, "--print-recipe")
    assert printed.code == 0, printed.err
    Path("recipes/printed.yaml").write_text(printed.out)
    Path("ask.j2").unlink()
    Path("label.json").unlink()
    again = (words[0], "reviews.csv", "--recipe", "recipes/printed.yaml")
    assert shown(batchkit, *again) == before
    assert batchkit(*again, "--print-recipe").out == printed.out
    assert not Path(".batchkit").exists()


def test_a_recipe_is_run_and_the_same_options_find_it_finished(batchkit, open_emulator):
    """Its output is written in the working directory; nothing is sent a second time."""
    emulator = open_emulator()
    Path("recipes/ask.yaml").write_text(ASK.replace("choices: [praise, blame]", "output: out.jsonl"))
    ended = batchkit("annotate", "reviews.csv", "--recipe", "recipes/ask.yaml", "--no-prefect")
    assert ended.code == 0, ended.err
    assert [row["id"] for row in read_lines(Path("out.jsonl"))] == ["a", "b"]
    sent = emulator.ledger().totals.requests_executed
    ended = batchkit(
        *("annotate", "reviews.csv", "--prompt", "Kind? {{ text }}", "-m", MODEL),
        *("--temperature", "0.5", "--seed", "1", "--key", "id", "-o", "two.jsonl", "--no-prefect"),
    )
    assert ended.code == 0, ended.err
    assert Path("two.jsonl").read_bytes() == Path("out.jsonl").read_bytes()
    assert emulator.ledger().totals.requests_executed == sent


def test_a_wrong_recipe_is_reported_with_its_line(batchkit):
    """The command ends with exit code 2 before the table is opened."""
    Path("recipes/ask.yaml").write_text(ASK.replace("choices", "choises"))
    ended = batchkit("annotate", "nowhere.csv", "--recipe", "recipes/ask.yaml", *DRY)
    assert ended.code == 2
    assert "recipes/ask.yaml:3:1: there is no key 'choises'; did you mean 'choices'?" in ended.err
    ended = batchkit("annotate", "reviews.csv", "--recipe", "ask.yml")
    assert (ended.code, "ask.yml: cannot be read" in ended.err) == (2, True)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("annotate", "--model", MODEL), "--prompt is missing"),
        (("annotate", "--prompt", "x"), "--model is missing"),
        (("transcribe",), "--audio is missing"),
        (("moderate",), "--text"),
    ],
)
def test_values_missing_in_options_and_recipe_are_requested(batchkit, words, said):
    """The error names both ways to give the value."""
    Path("recipes/few.yaml").write_text("limit: 1\n")
    ended = batchkit(words[0], "reviews.csv", *words[1:], "--recipe", "recipes/few.yaml")
    assert ended.code == 2
    assert said in ended.err
