"""Few-shot examples: which rows are shown before a question, and what they look like."""

from __future__ import annotations

import pytest

from batchkit.annotation.examples import MOST_NEAREST, with_examples
from batchkit.annotation.presets import annotation
from batchkit.annotation.render import Renderer
from batchkit.datasets import open_table
from batchkit.errors import UsageError
from batchkit.files import jsonl
from batchkit.provider.groq.dialect import GROQ
from tests.workloads import write_lines

MODEL = "openai/gpt-oss-20b"
SCHEMA = {
    "type": "object",
    "properties": {"kind": {"enum": ["good", "bad"]}, "stars": {"type": "integer"}},
    "required": ["kind", "stars"],
    "additionalProperties": False,
}


@pytest.fixture
def table(tmp_path):
    """Return a function that writes labelled rows as a table."""

    def written(rows):
        return open_table([str(write_lines(tmp_path / "labelled.jsonl", rows))])

    return written


def shown(recipe, columns=None, **options):
    """Return the recipe with examples of a table."""
    given = {"count": 2, "seed": 0, "nearest": False, "columns": columns or {}, **options}
    return with_examples(recipe, given.pop("table"), **given)


def messages_of(recipe, text):
    """Return the messages of a row's request, without the system message."""
    (line,) = Renderer(recipe, ["text"], dialect=GROQ).requests({"text": text}, 1)
    return [message for message in jsonl.loads(line)["body"]["messages"] if message["role"] != "system"]


def test_labelled_rows_stand_before_the_question_as_finished_conversations(table):
    """Each with the same prompt; rows without a label are left out."""
    rows = [{"text": "fine", "answer": "good"}, {"text": "broken", "answer": "bad"}, {"text": "odd", "answer": ""}]
    recipe = shown(annotation("Kind? {{ text }}", models=[MODEL], choices=["good", "bad"]), table=table(rows))

    assert messages_of(recipe, "new") == [
        {"role": "user", "content": "Kind? fine"},
        {"role": "assistant", "content": "good"},
        {"role": "user", "content": "Kind? broken"},
        {"role": "assistant", "content": "bad"},
        {"role": "user", "content": "Kind? new"},
    ]


def test_a_row_never_gets_itself_as_an_example(table):
    """Another one takes its place."""
    rows = [{"text": f"text {number}", "answer": "good"} for number in range(3)]
    recipe = shown(annotation("{{ text }}", models=[MODEL], choices=["good", "bad"]), table=table(rows))

    for number in range(3):
        asked = [message["content"] for message in messages_of(recipe, f"text {number}") if message["role"] == "user"]
        assert len(asked) == 3
        assert asked.count(f"text {number}") == 1


def test_objects_are_shown_as_json_and_columns_may_have_other_names(table):
    """As the model should answer."""
    rows = [{"text": "fine", "label": "good", "stars": 5}]
    recipe = annotation("{{ text }}", models=[MODEL], schema=SCHEMA)
    recipe = shown(recipe, table=table(rows), columns={"kind": "label"})

    assert messages_of(recipe, "new")[1] == {"role": "assistant", "content": '{"kind":"good","stars":5}'}


def test_the_nearest_rows_are_shown_the_most_similar_last(table):
    """By their texts, however many there are."""
    texts = [*(f"the weather of day {number}" for number in range(2 * MOST_NEAREST))]
    rows = [{"text": text, "answer": "bad"} for text in [*texts, "a kettle that leaks", "a kettle"]]
    recipe = annotation("{{ text }}", models=[MODEL], choices=["good", "bad"])
    few = shown(recipe, table=table(rows[-12:]), nearest=True)

    asked = [message["content"] for message in messages_of(few, "my kettle leaks") if message["role"] == "user"]
    assert asked == ["a kettle", "a kettle that leaks", "my kettle leaks"]
    assert len(shown(recipe, table=table(rows), nearest=True).examples) == MOST_NEAREST


def test_the_seed_decides_and_is_a_part_of_the_workloads_name(table):
    """The same seed makes the same requests; another one others."""
    rows = [{"text": f"text {number}", "answer": "good"} for number in range(50)]
    recipe = annotation("{{ text }}", models=[MODEL], choices=["good", "bad"])
    digests = [shown(recipe, table=table(rows), seed=seed).digest() for seed in (1, 1, 2)]

    assert digests[0] == digests[1] != digests[2]
    assert recipe.digest() not in digests


@pytest.mark.parametrize(
    ("rows", "options", "words"),
    [
        ([{"text": "a", "answer": "odd"}], {}, "labelled, row 1: 'odd' is none of"),
        ([{"text": "a", "answer": ""}], {}, "no row of labelled has a label"),
        ([{"text": "a", "kind": "good"}], {}, "no column 'answer' with the labels"),
        ([{"words": "a", "answer": "good"}], {}, "text"),
        ([{"text": "a", "answer": "good"}], {"messages": "talk"}, "without images and conversations"),
    ],
)
def test_what_cannot_be_an_example_is_refused(table, rows, options, words):
    """A label that breaks the rules, no label, no column, and requests of another kind."""
    recipe = annotation("{{ text }}", models=[MODEL], choices=["good", "bad"], **options)
    with pytest.raises(UsageError, match=words):
        shown(recipe, table=table(rows))
