"""From a row to its requests."""

from __future__ import annotations

from itertools import product

import pytest

from batchkit import preflight
from batchkit.annotation import presets
from batchkit.annotation.parameters import Parameters
from batchkit.annotation.recipe import Prompt, Recipe, load_recipe
from batchkit.annotation.render import Renderer, RowProblem
from batchkit.errors import UsageError
from batchkit.files import jsonl
from batchkit.provider.groq.dialect import GROQ
from tests.annotation.test_images import image_bytes

MODEL = "openai/gpt-oss-20b"
COLUMNS = ("id", "text", "link", "photo")
TOOL = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object"}}}


def requests(recipe, *, number=1, folder=None, **row):
    """Render a row."""
    lines = Renderer(recipe, COLUMNS, folder=folder, dialect=GROQ).requests({**dict.fromkeys(COLUMNS), **row}, number)
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    return [jsonl.loads(line) for line in lines]


def test_a_row_becomes_a_request_as_the_batch_api_takes_it():
    """System message, prompt, prefilled answer and parameters; nothing that was not given."""
    recipe = presets.annotation(
        "Is it kind?\n{{ text }}",
        system="You know {{ id }}.",
        prefill="I think",
        models=[MODEL],
        parameters=Parameters(temperature=0, stop=("\n",), max_completion_tokens=9, reasoning_effort="low"),
    )
    [line] = requests(recipe, number=12, id="r1", text="\u2028 <b>")
    assert line == {
        "custom_id": "12:gpt-oss-20b:1",
        "method": "POST",
        "url": "/v1/chat/completions",
        "body": {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": "You know r1."},
                {"role": "user", "content": "Is it kind?\n\u2028 <b>"},
                {"role": "assistant", "content": "I think"},
            ],
            "temperature": 0,
            "stop": ["\n"],
            "max_completion_tokens": 9,
            "reasoning_effort": "low",
        },
    }


def test_requests_follow_each_other_by_prompt_model_and_sample():
    """The n-th request of a row is what its place says, and each sample has a seed of its own."""
    recipe = Recipe(
        kind="evaluate",
        prompts=(Prompt(name="short", user="{{ text }}?"), Prompt(name="long", user="Well, {{ text }}?")),
        models=(MODEL, "qwen/qwen3-32b"),
        samples=3,
        parameters=Parameters(seed=40),
    )
    made = [
        (line["body"]["messages"][0]["content"], line["body"]["model"], line["body"]["seed"])
        for line in requests(recipe, text="x")
    ]
    assert made == list(product(("x?", "Well, x?"), (MODEL, "qwen/qwen3-32b"), (40, 41, 42)))
    assert recipe.requests_per_row == 12


def test_what_the_rules_ask_for_is_added_to_the_users_own_words():
    """Behind them, in the one system message."""
    recipe = presets.annotation("{{ text }}", system="Be brief.", models=[MODEL], choices=("yes", "no"))
    [line] = requests(recipe, text="x")
    system = line["body"]["messages"][0]["content"]
    assert system.startswith("Be brief.\n\nAnswer with exactly one of these")


def test_images_go_behind_the_text_and_count_against_the_requests_size(tmp_path):
    """A row whose images leave no room is named with its column."""
    recipe = presets.annotation("What is {{ id }}?", models=[MODEL], images=("photo", "link"))
    (tmp_path / "cat.png").write_bytes(image_bytes())
    [line] = requests(recipe, folder=tmp_path, id=1, photo="cat.png", link="https://example.com/a.jpg")
    kinds = [part["type"] for part in line["body"]["messages"][0]["content"]]
    assert kinds == ["text", "image_url", "image_url"]
    large = image_bytes() + b" " * 1_500_000
    with pytest.raises(RowProblem, match=r"row 3, photo: the request would have [\d,]+ bytes"):
        requests(recipe, number=3, id="x" * 1_500_000, photo=large)


def test_an_image_needs_no_text_from_its_row():
    """A prompt without any column is refused only where every row would be asked the same."""
    asked = presets.annotation("What is this?", models=[MODEL], images=("photo",))
    assert Renderer(asked, COLUMNS, dialect=GROQ).columns == ("photo",)
    with pytest.raises(UsageError, match="every row would get the same question"):
        Renderer(presets.annotation("What is this?", models=[MODEL]), COLUMNS, dialect=GROQ)


def test_audio_is_transcribed_by_its_address():
    """Only what was given is sent, and timestamps come with the format that has them."""
    recipe = presets.transcription("link", language="en", prompt="About {{ id }}", timestamps=("segment", "word"))
    [line] = requests(recipe, id="tea", link="https://example.com/a.mp3")
    assert line["url"] == "/v1/audio/transcriptions"
    assert line["body"] == {
        "model": "whisper-large-v3-turbo",
        "url": "https://example.com/a.mp3",
        "response_format": "verbose_json",
        "timestamp_granularities": ["segment", "word"],
        "language": "en",
        "prompt": "About tea",
    }
    [line] = requests(presets.transcription("link", translate=True), link="HTTPS://example.com/a.mp3")
    assert (line["url"], line["body"]["model"]) == ("/v1/audio/translations", "whisper-large-v3")


@pytest.mark.parametrize("value", ["calls/a.mp3", "", None, b"RIFF", "UklGRg=="])
def test_audio_that_cannot_be_sent_is_a_problem_of_its_row(value):
    """A file that is not there, and what names none."""
    with pytest.raises(RowProblem, match="row 4, link: "):
        requests(presets.transcription("link"), number=4, link=value)


@pytest.mark.parametrize(
    ("fields", "row", "why"),
    [
        ({}, {"text": None}, "row 2: text is empty, so the row has no question"),
        ({}, {"text": " \n"}, "row 2: text is empty"),
        ({"prefill": "I {{ id }}"}, {"text": ""}, "row 2: id and text are empty"),
        ({"prefill": "{{ id }}"}, {"id": "x"}, "row 2: the prompt is empty"),
        ({"system": "{{ id }}"}, {"text": "x"}, "row 2: the system message is empty"),
        ({"key": "id"}, {"text": "x"}, "row 2, id: the key is empty"),
        ({"key": "id"}, {"text": "x", "id": ""}, "row 2, id: the key is empty"),
    ],
)
def test_a_row_without_what_a_request_needs_is_named(fields, row, why):
    """With its number, and its column where there is one."""
    with pytest.raises(RowProblem, match=why):
        requests(presets.annotation("{{ text }}", models=[MODEL], **fields), number=2, **row)


@pytest.mark.parametrize(
    ("fields", "reader"),
    [({"key": "di"}, "--key"), ({"images": ("foto",)}, "--image"), ({"system": "{{ txt }}"}, "the system message")],
)
def test_an_unknown_column_is_named_with_who_asks_for_it(fields, reader):
    """Before the first row is read."""
    with pytest.raises(UsageError, match=f"^{reader} asks for the column"):
        Renderer(presets.annotation("{{ text }}", models=[MODEL], **fields), COLUMNS, dialect=GROQ)


def test_moderation_checks_a_text_as_a_prompt_or_as_an_answer():
    """A guard model needs no system message; an answer may come behind its question."""
    [line] = requests(presets.moderation("text"), text="hello")
    assert line["body"] == {
        "model": "meta-llama/llama-guard-4-12b",
        "messages": [{"role": "user", "content": "hello"}],
    }
    [line] = requests(presets.moderation("text", is_answer=True), text="hello")
    assert line["body"]["messages"] == [{"role": "assistant", "content": "hello"}]
    [line] = requests(presets.moderation("text", is_answer=True, prompt_column="id"), text="hello", id="hi")
    assert [message["role"] for message in line["body"]["messages"]] == ["user", "assistant"]


@pytest.mark.parametrize(
    "recipe",
    [
        presets.annotation("{{ text }}", models=[MODEL, "qwen/qwen3-32b"], schema={"type": "object", "properties": {}}),
        presets.annotation("{{ text }}", models=["llama-3.1-8b-instant"], number=(0, None), samples=2),
        presets.annotation("{{ text }}", models=[MODEL], tools=[TOOL]),
        presets.moderation("text"),
        presets.transcription("link", temperature=0.2),
        presets.transcription("link", translate=True, language="en"),
    ],
    ids=["schema", "number", "tools", "moderation", "transcript", "translation"],
)
def test_every_preset_makes_requests_that_pass_the_preflight(recipe):
    """Without a word of warning, and a recipe that is kept as JSON makes the same ones."""
    row = {"text": "x", "link": "https://example.com/a.mp3"}
    made = requests(recipe, **row)
    for line in made:
        inspection = preflight.inspect(line, len(jsonl.dumps(line)), GROQ.rules)
        assert (inspection.reasons, inspection.warnings) == ((), ())
    kept = load_recipe(recipe.model_dump_json())
    assert kept.digest() == recipe.digest()
    assert requests(kept, **row) == made
