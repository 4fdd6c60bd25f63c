"""Prompt templates: what they may read, and what a mistake in one says."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from batchkit.annotation.template import Template, Unrendered
from batchkit.errors import UsageError

COLUMNS = ("id", "text", "unit price", "meta", "_hidden")


def made(text, columns=COLUMNS):
    """Make a template over the columns."""
    return Template(text, columns, title="prompt")


def rendered(template, /, **row):
    """Render a template with a row."""
    return made(template).render(row)


def test_a_template_is_filled_in_with_the_row_and_knows_its_columns():
    """Signs that a page would escape stay as they are."""
    template = made("Is <b>{{ text }}</b> & {{ id }} kind?")
    assert template.columns == {"text", "id"}
    assert template.render({"text": 'a < b & "c"', "id": 7}) == 'Is <b>a < b & "c"</b> & 7 kind?'


def test_a_column_whose_name_is_no_identifier_is_read_through_the_row():
    """Only the named columns are read; a template that takes the row whole reads all."""
    assert made('{{ row["unit price"] }}').columns == {"unit price"}
    assert rendered('{{ row["unit price"] }} {{ row["_hidden"] }}', **{"unit price": 3, "_hidden": 4}) == "3 4"
    assert made("{% for name in row %}{{ name }}{% endfor %}").columns == set(COLUMNS)


def test_a_column_that_is_called_row_is_that_column():
    """A table's own column comes first."""
    assert Template("{{ row }}", ("row",), title="prompt").render({"row": "mine"}) == "mine"


def test_nulls_are_nothing_and_nested_values_are_json():
    """Neither None nor Python's quotes get into a prompt."""
    assert rendered("[{{ text }}]", text=None) == "[]"
    assert rendered("{{ meta }}", meta={"tags": ["a", None]}) == '{"tags":["a",null]}'
    assert rendered("{{ meta | tojson }}", meta={"html": "<a> & 'b'"}) == '{"html":"<a> & \'b\'"}'


@pytest.mark.parametrize(
    ("template", "value", "text"),
    [
        ("{{ text }}", True, "true"),
        ("{{ text }}", 2.0, "2"),
        ("{{ text }}", Decimal("2.50"), "2.50"),
        ("{{ text }}", dt.date(2026, 1, 2), "2026-01-02"),
        ("{{ text }}", dt.timedelta(seconds=5), "5"),
        ("{{ text }}", b"\xff", "/w=="),
        ("{{ text }}", float("nan"), ""),
        ("{{ text ~ ' of ' ~ text }}", 2.0, "2 of 2"),
        ("{{ text | string | length }}", True, "4"),
        ("{{ text | join(', ') }}", [1.0, True, None, Decimal("1.0")], "1, true, , 1.0"),
        ("{{ text | join(d='-', attribute='n') }}", [{"n": 1.0}, {"n": dt.date(2026, 1, 2)}], "1-2026-01-02"),
        ("{{ text }}", {"p": Decimal("1.10"), "at": [dt.timedelta(1)]}, '{"p":"1.10","at":[86400.0]}'),
        ("{{ text.year }}", dt.date(2026, 1, 2), "2026"),
        ("{{ row }}", Decimal("1.10"), '{"text":"1.10"}'),
        ("{{ row | tojson }}", dt.timedelta(1), '{"text":86400.0}'),
    ],
)
def test_values_are_shown_in_the_one_way(template, value, text):
    """Alone, joined, and inside of others."""
    assert rendered(template, text=value) == text


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("{{ txet }}", "did you mean 'text'? The columns are: id, text, unit price, meta, _hidden"),
        ('{{ row["unit prize"] }}', "did you mean 'unit price'? "),
        ("{% if nothing_like_it %}{{ text }}{% endif %}", "the columns are: id"),
    ],
)
def test_an_unknown_column_is_found_before_anything_is_rendered(text, hint):
    """The message names the column, and the one that may be meant."""
    with pytest.raises(UsageError, match="which the table does not have") as caught:
        made(text)
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize(
    "text",
    [
        "{{ text.__class__ }}",
        "{{ text | attr('__class__') }}",
        "{{ [text] | map(attribute='__class__') | list }}",
        "{% include 'other' %}",
        "{% extends 'other' %}",
        "{% from 'other' import x %}",
    ],
)
def test_what_would_leave_the_sandbox_is_refused_at_once(text):
    """Python's inner attributes and other templates are nobody's columns."""
    with pytest.raises(UsageError, match="the prompt"):
        made(text)


@pytest.mark.parametrize(
    "text",
    [
        "{{ text['__cl' ~ 'ass__'] }}",
        "{{ text['__cl' ~ 'ass__'].mro() }}",
        "{{ (text | attr('__cl' ~ 'ass__')).mro() }}",
        "{{ meta.update({'a': 1}) }}",
        "{{ range(99999999) | list }}",
        "{{ meta.nothing }}",
        "{{ 1 / 0 }}",
    ],
)
def test_what_only_a_row_shows_is_a_problem_of_the_row(text):
    """The sandbox holds where a name is put together, and a failure has words."""
    with pytest.raises(Unrendered, match="the prompt cannot be rendered: "):
        rendered(text, text="x", meta={"a": 2})


def test_a_mistake_in_a_template_says_where():
    """The line is named."""
    with pytest.raises(UsageError, match="not a template in line 2"):
        made("fine\n{{ text")


def test_the_same_row_always_gives_the_same_prompt():
    """What draws lots is not there."""
    for text in ("{{ [1, 2, text] | random }}", "{{ lipsum() }}{{ text }}"):
        with pytest.raises(UsageError):
            made(text)
