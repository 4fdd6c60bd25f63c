"""The custom_ids of requests."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchkit.annotation.ids import RequestIds
from batchkit.annotation.recipe import Prompt, Recipe


def recipe(**fields):
    """Make a recipe for ids."""
    return Recipe(**{"kind": "annotate", "models": ("openai/gpt-oss-20b",), **fields})


def ids_of(made, value=None, number=1):
    """Give the ids of a row."""
    ids = RequestIds(made)
    return ids.of_key(ids.key_of({"id": value}, number))


def test_an_id_names_row_model_and_sample():
    """By default the row's number comes first; the maker of a model is left out."""
    assert ids_of(recipe(samples=2), number=7) == ["7:gpt-oss-20b:1", "7:gpt-oss-20b:2"]


def test_a_key_and_several_prompts_are_in_the_id_and_the_order_is_that_of_the_requests():
    """Prompt, model, sample: the last one changes first."""
    made = recipe(key="id", prompts=(Prompt(name="short"), Prompt(name="long")), models=("a/x", "b/y"), samples=2)
    assert ids_of(made, "r-1") == [
        f"r-1:{prompt}:{model}:{sample}" for prompt in ("short", "long") for model in "xy" for sample in (1, 2)
    ]


def test_models_of_the_same_short_name_are_told_apart():
    """Then the maker's name stays."""
    first, second = ids_of(recipe(models=("a/x", "b/x")))
    assert first != second
    assert first.startswith("1:a-x-")


@pytest.mark.parametrize("models", [("m" * 200,), ("meta-llama/llama-4-maverick-17b-128e-instruct", "x/" + "y" * 90)])
def test_long_names_are_cut_and_the_ids_stay_apart(models):
    """No id is longer than 64 characters, whatever the names are."""
    made = recipe(key="id", models=models, prompts=(Prompt(name="p" * 100), Prompt(name="p" * 99)), samples=11)
    ids = ids_of(made, "k" * 300)
    assert len(set(ids)) == len(ids) == made.requests_per_row
    assert max(map(len, ids)) <= 64


@given(st.lists(st.text(max_size=80) | st.integers(), min_size=2, max_size=30, unique_by=str))
def test_different_keys_never_share_an_id_and_every_id_is_portable(keys):
    """Long and odd keys are cleaned and cut, and a hash of the whole keeps them apart."""
    made = recipe(key="id", models=("meta-llama/llama-4-scout-17b-16e-instruct",))
    ids = [ids_of(made, key)[0] for key in keys]
    assert len(set(ids)) == len(keys)
    assert all(re.fullmatch(r"[A-Za-z0-9_.:-]{1,64}", custom_id) for custom_id in ids)
