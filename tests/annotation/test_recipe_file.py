"""Recipe files: what is wrong in one is told where it stands; what is written is read back the same."""

from __future__ import annotations

from inspect import signature

import pytest
import yaml
from hypothesis import example, given
from hypothesis import strategies as st

import batchkit
from batchkit.annotation.parameters import Parameters
from batchkit.annotation.presets import annotation, moderation, speech, transcription
from batchkit.annotation.recipe_file import _MODELS, combined, read_recipe_file, recipe_text
from batchkit.errors import InputInvalid, InputUnreadable

FULL = """\
prompt: |
  Is this kind?
  {{ text }}
system: Be brief.
models: [openai/gpt-oss-20b, openai/gpt-oss-120b]
samples: 2
number: [1, null]
images: photo
parameters: {temperature: 0, seed: 3, stop: ["."]}
key: id
limit: 10
output: out.parquet
review: disputed.csv
"""
WRONG = """\
promt: x
models: [yes]
samples: 0
parameters:
  temprature: 0
  seed: one
schema: {type: 3}
choices: [a, b]
choices: [c, d]
pattern: "("
allow_paths: perhaps
name:
  - a
kennel: x
"""


def recipe(tmp_path, text):
    """Write a recipe file; returns its path."""
    path = tmp_path / "ask.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def problems(path, kind="annotate"):
    """Read a recipe that is wrong; returns its problems by line and column."""
    with pytest.raises(InputInvalid) as raised:
        read_recipe_file(path, kind)
    assert raised.value.exit_code == 2
    return dict(str(problem).removeprefix(f"{path}:").split(": ", 1) for problem in raised.value.problems)


def test_a_recipe_is_what_the_python_function_is_called_with(tmp_path):
    """The same keywords with the same values, so the same requests."""
    keywords = read_recipe_file(recipe(tmp_path, FULL), "annotate")
    assert keywords["output"] == "out.parquet"
    assert keywords["review"] == "disputed.csv"
    of_requests = {name: value for name, value in keywords.items() if name not in {"output", "review"}}
    assert annotation(**of_requests) == annotation(
        "Is this kind?\n{{ text }}\n",
        system="Be brief.",
        models=["openai/gpt-oss-20b", "openai/gpt-oss-120b"],
        samples=2,
        number=(1, None),
        images=("photo",),
        parameters=Parameters(temperature=0, seed=3, stop=(".",)),
        key="id",
        limit=10,
    )


def test_everything_that_is_wrong_is_told_with_its_line(tmp_path):
    """Keys that do not exist, with the nearest one; values that cannot be; keys that are there twice."""
    found = problems(recipe(tmp_path, WRONG))
    assert list(found) == ["1:1", "2:10", "3:10", "5:3", "6:9", "7:9", "9:1", "10:10", "11:14", "13:3", "14:1"]
    assert found["1:1"] == "there is no key 'promt'; did you mean 'prompt'?"
    assert "put it in quotes" in found["2:10"]
    assert "did you mean 'temperature'?" in found["5:3"]
    assert found["7:9"].startswith("schema: ")
    assert "there twice" in found["9:1"]
    assert "not a regular expression" in found["10:10"]
    assert found["14:1"] == "there is no key 'kennel'"


def test_an_answer_is_one_thing(tmp_path):
    """The second way to say what it must be is told with its line."""
    found = problems(recipe(tmp_path, "prompt: x\nchoices: [a, b]\nnumber: [1, 5]\n"))
    assert found == {"3:1": "`choices` and `number` exclude each other: an answer has one format"}


def test_each_verb_has_its_own_keys(tmp_path):
    """A recipe of another verb does not pass in silence."""
    path = recipe(tmp_path, "audio: url\nlanguage: tr\n")
    assert read_recipe_file(path, "transcribe") == {"audio": "url", "language": "tr"}
    assert list(problems(path, "moderate")) == ["1:1", "2:1"]
    assert read_recipe_file(recipe(tmp_path, "text: said\nis_answer: true\nonly: unsafe\n"), "moderate") == {
        "text": "said",
        "is_answer": True,
        "only": "unsafe",
    }


#: Arguments of the functions that belong to the machine and the moment, or name the table.
NOT_IN_A_RECIPE = {"table", "options", "settings", "timeout_seconds", "observer", "recipe", "more", "column"}


@pytest.mark.parametrize(
    ("kind", "preset"),
    [("annotate", annotation), ("transcribe", transcription), ("moderate", moderation), ("speak", speech)],
)
def test_the_keys_are_the_keyword_arguments_of_the_function(kind, preset):
    """All of them, under the same names: a new argument of the one belongs into the other."""
    of_function = {*signature(getattr(batchkit, kind)).parameters, *signature(preset).parameters}
    of_all_recipes = {"key", "limit", "on_empty", "bad_rows", "raw_csv"}
    of_chats = {"instruct", "images", "messages", "shrink_images", "allow_paths"} if kind == "annotate" else set()
    expected = (of_function | of_all_recipes | of_chats) - NOT_IN_A_RECIPE
    assert {field.alias or name for name, field in _MODELS[kind].model_fields.items()} == expected


def test_what_is_no_recipe_at_all_says_so(tmp_path):
    """A missing file, a list, no YAML."""
    with pytest.raises(InputUnreadable, match="cannot be read"):
        read_recipe_file(tmp_path / "nowhere.yaml", "annotate")
    assert "a recipe is a mapping" in problems(recipe(tmp_path, "- a\n"))["1:1"]
    assert "not valid YAML" in problems(recipe(tmp_path, "prompt: [a\nkey: b"))["2:4"]


def test_a_schema_lies_beside_its_recipe(tmp_path, monkeypatch):
    """Its content is what counts, as with the option; a pydantic model is named by its path."""
    (tmp_path / "label.json").write_text('{"type": "object", "properties": {"kind": {"enum": ["a", null]}}}')
    monkeypatch.chdir(tmp_path.parent)
    keywords = read_recipe_file(recipe(tmp_path, "schema: label.json\n"), "annotate")
    assert annotation("p", models=["m"], **keywords) == annotation("p", models=["m"], schema=tmp_path / "label.json")
    path = recipe(tmp_path, "prompt: p\nschema: nowhere.json\n")
    assert problems(path)["2:9"].startswith(f"schema: {tmp_path / 'nowhere.json'} cannot be read")
    model = "batchkit.annotation.recipe:Prompt"
    assert read_recipe_file(recipe(tmp_path, f"schema: {model}\n"), "annotate") == {"schema": model}


def test_flags_beat_the_recipe():
    """Parameter by parameter; a flag for the answer's form replaces the recipe's, whichever it is."""
    told = {"prompt": "p", "samples": 3, "choices": ("a", "b"), "parameters": Parameters(temperature=1, seed=1)}
    flags = {"samples": 5, "number": (1, None), "parameters": Parameters(seed=2, top_p=0.5)}
    assert combined(told, flags) == {
        "prompt": "p",
        "samples": 5,
        "number": (1, None),
        "parameters": Parameters(temperature=1, seed=2, top_p=0.5),
    }
    assert combined(told, {"model": "m"})["choices"] == ("a", "b")


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)
KEYWORDS = st.fixed_dictionaries(
    {"prompt": TEXTS, "models": st.lists(TEXTS, min_size=1, unique=True).map(tuple)},
    optional={
        "system": TEXTS,
        "samples": st.integers(1, 9),
        "choices": st.lists(TEXTS, min_size=1).map(tuple),
        "number": st.tuples(st.none() | st.floats(allow_nan=False, allow_infinity=False), st.none()),
        "tools": st.lists(st.dictionaries(TEXTS, st.none() | TEXTS, min_size=1), min_size=1).map(tuple),
        "instruct": st.just(value=False),
        "parameters": st.builds(
            Parameters,
            temperature=st.floats(0, 2),
            stop=st.lists(TEXTS, min_size=1).map(tuple),
            tools=st.just(()),
        ),
        "output": TEXTS,
    },
)


@given(KEYWORDS)
@example({"prompt": "\x85", "models": ("a\u2028b", "c\r\nd", "\ufeffe\n")})
def test_what_is_written_is_read_back_the_same(keywords):
    """Whatever a prompt holds: line ends, quotes, control characters, words that YAML takes for something else."""
    assert yaml.safe_load(recipe_text(keywords, "annotate")).keys() == keywords.keys()
    assert _read(recipe_text(keywords, "annotate"), keywords) == keywords


def _read(text, keywords):
    """Read a recipe's text, but for the contradictions that made-up keywords may have."""
    from batchkit.annotation.recipe_file import AnnotateRecipe  # noqa: PLC0415 - only here

    found = AnnotateRecipe.model_validate(yaml.safe_load(text))
    return {name: getattr(found, name) for name in keywords}


def test_a_written_recipe_holds_what_files_held(tmp_path, monkeypatch):
    """A schema's file may be gone when it is used; nothing within the schema is left out, and prompts stay readable."""
    (tmp_path / "label.json").write_text('{"properties": {"kind": {"enum": ["a", null], "default": null}}}')
    monkeypatch.chdir(tmp_path)
    written = recipe_text({"prompt": "Is it?\n{{ text }}\n", "models": ("m",), "schema": "label.json"}, "annotate")
    assert written.startswith("prompt: |\n  Is it?\n  {{ text }}\n")
    (tmp_path / "label.json").unlink()
    keywords = read_recipe_file(recipe(tmp_path, written), "annotate")
    assert keywords["schema"] == {"properties": {"kind": {"enum": ["a", None], "default": None}}}


def test_a_transcription_is_written_and_read_too(tmp_path):
    """Its timestamps are a list in every form."""
    keywords = {"audio": "url", "timestamps": ("segment", "word"), "temperature": 0.2}
    path = recipe(tmp_path, recipe_text(keywords, "transcribe"))
    assert read_recipe_file(path, "transcribe") == keywords
    assert transcription("url", timestamps=["word"]).audio == transcription("url", timestamps=("word",)).audio
    assert read_recipe_file(recipe(tmp_path, "timestamps: word\n"), "transcribe") == {"timestamps": ("word",)}
