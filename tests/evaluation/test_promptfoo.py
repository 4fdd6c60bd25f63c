"""Suites made of promptfoo's configurations: what has a counterpart is there, and everything else is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from batchkit.api.suite_imports import import_suite
from batchkit.datasets import rows_of
from batchkit.errors import InputInvalid, UsageError
from batchkit.evaluation import runs
from batchkit.evaluation.promptfoo.making import suite_of_configuration
from batchkit.evaluation.suite_file import load_suite
from batchkit.files import jsonl
from batchkit.files.checked_yaml import read_yaml_value
from batchkit.provider.groq.dialect import GROQ
from tests.cli.conftest import _own_folder, batchkit, open_emulator

__all__ = ["_own_folder", "batchkit", "open_emulator"]

CONFIG = """
prompts: ["Translate to {{language}}: {{text}}"]
providers: [groq:openai/gpt-oss-20b]
tests:
  - vars: {language: French, text: Hello}
    assert: [{type: contains, value: Bonjour}]
  - vars: {language: German, text: Goodbye}
    assert: [{type: contains, value: Tschau}, {type: equals, value: "Bye {{ text }}"}]
"""


def imported(folder, text=CONFIG, **files):
    """Import a configuration; gives the suite as YAML, the rows, and the notes without the configuration's path."""
    for name, content in files.items():
        path = folder / name.replace("__", ".")
        path.write_text(content)
    path = folder / "config.yaml"
    path.write_text(text)
    made = suite_of_configuration(path, name="s", dataset="s.jsonl")
    suite = folder / "suite.yaml"
    suite.write_text(made.suite)
    rows = [jsonl.loads(line) for line in made.rows.splitlines()]
    return read_yaml_value(suite, what="a suite"), rows, [note.replace(f"{path}:", "") for note in made.notes]


def test_tests_become_rows_and_what_differs_per_test_becomes_columns(tmp_path):
    """A test without an assertion that others have has no label for it; variables are filled in."""
    suite, rows, notes = imported(tmp_path)
    assert suite["prompt"] == "Translate to {{language}}: {{text}}"
    assert suite["models"] == ["openai/gpt-oss-20b"]
    assert suite["scorers"] == [
        {"kind": "contains", "name": "contains", "ignore_case": False, "expected": "expected"},
        {"kind": "exact", "name": "equals", "expected": "expected_equals"},
    ]
    common = {"test": 1, "language": "French", "text": "Hello"}
    assert rows[0] == {**common, "expected": "Bonjour", "expected_equals": None}
    assert rows[1]["expected_equals"] == "Bye Goodbye"
    assert notes == ["3: groq:openai/gpt-oss-20b is asked as the model openai/gpt-oss-20b of your account"]


@pytest.mark.parametrize(
    ("assertion", "scorer"),
    [
        ("{type: equals, value: 7}", {"kind": "exact", "expected": "expected"}),
        ("{type: equals, value: {a: [1]}}", {"kind": "json_equal", "expected": "expected"}),
        ("{type: icontains, value: a}", {"kind": "contains", "text": "a"}),
        ("{type: contains-any, value: [a.b, c]}", {"kind": "regex", "pattern": r"a\.b|c"}),
        ("{type: icontains-all, value: [a, b]}", {"kind": "regex", "pattern": r"(?s)\A(?=.*a)(?=.*b)", "ignore_case": True}),
        ("{type: contains-all, value: [x]}", {"kind": "contains", "ignore_case": False, "text": "x"}),
        ("{type: not-contains, value: x}", {"kind": "regex", "pattern": r"(?s)\A(?!.*(?:x))"}),
        ("{type: starts-with, value: (a)}", {"kind": "regex", "pattern": r"\A\(a\)"}),
        ("{type: regex, value: '\\d+', metric: has digits}", {"kind": "regex", "name": "has_digits", "pattern": r"\d+"}),
        ("{type: is-json}", {"kind": "schema_valid", "schema": {}}),
        ("{type: is-json, value: {type: object}}", {"kind": "schema_valid", "schema": {"type": "object"}}),
        ("{type: similar, value: a, threshold: 0.8}", {"kind": "similarity", "expected": "expected"}),
        ("{type: factuality, value: a}", {"kind": "judge", "template": "factuality", "model": "m", "expected": "expected"}),
        ("{type: llm-rubric, value: Be kind, provider: 'openai:x'}", {"kind": "judge", "template": "rubric", "criteria": "Be kind", "model": "x"}),
    ],
)  # fmt: skip
def test_assertions_with_a_counterpart_become_scorers_that_a_run_accepts(tmp_path, assertion, scorer):
    """What all tests share is in the suite itself."""
    config = tmp_path / "c.yaml"
    config.write_text(
        f"prompts: ['{{{{a}}}}']\nproviders: [m]\ntests: [{{vars: {{a: [1, 2]}}}}]\ndefaultTest: {{assert: [{assertion}]}}\n"
    )
    made = import_suite(config, tmp_path / "s.yaml")
    (found,) = read_yaml_value(made.suite, what="a suite")["scorers"]
    named = found.pop("name") if "name" not in scorer else None
    assert found == scorer, named
    asked = runs.check_suite(load_suite(made.suite), GROQ)
    assert sum(batch.num_rows for batch in asked.table.batches()) == 2


@pytest.mark.parametrize(
    ("before", "after", "note"),
    [
        ("type: equals", "type: javascript", "8: `javascript` has no counterpart"),
        ("type: equals", "type: contains-json", "8: `contains-json` has no counterpart"),
        ("type: equals", "type: regex", "8: `regex` is asserted by 1 test of 2; such a scorer applies to all rows or to none, so it"),
        ("type: equals", "weight: 3, type: equals", "8: `weight` of an assertion has no counterpart"),
        ("type: equals", "type: llm-rubric", "8: the judge is openai/gpt-oss-20b, as no grader is named; name another `model`"),
        ("type: equals", "type: similar", "8: `similar` compares embeddings there, the words of the texts here"),
        ("Bye {{ text }}", "{{ text | upper }}", "8: the value of `equals` is a template of more than the test's variables"),
        ("value: Tschau}", "value: ''}", "8: `contains` has no value, so there is nothing to compare with"),
        ("[groq:openai/gpt-oss-20b]", "[groq:a, groq:a, 'file://p.js']", "3: the model a is there already"),
        ("[groq:openai/gpt-oss-20b]", "[m, 'file://p.js']", "3: the provider 'file://p.js' has no model"),
        ("[groq:openai/gpt-oss-20b]", "[{id: m, config: {temperature: 0}}, n]", "3: `temperature` differs from provider to provider"),
        ("[groq:openai/gpt-oss-20b]", "[{id: m, config: {temperature: hot}}]", "3: `temperature` has a value that no request takes"),
        ("prompts: [", "sharing: true\nprompts: [", "2: `sharing` has no counterpart"),
        ("prompts: [", "prompts: ['{{nothing}}', ", "2: the prompt 'prompt_1' asks for the column 'nothing', which the table does not"),
        ("prompts: [", "prompts: ['file://p.py', ", "2: file://p.py is a program, which has no counterpart"),
        ("prompts: [", "prompts: ['file://gone.txt', ", "2: there is no file gone.txt below the folder of the configuration"),
        ("prompts: [", "prompts: ['file:///etc/passwd', ", "2: there is no file /etc/passwd below the folder of the configuration"),
        ("text: Hello}", "text: 'file://../secret.txt'}", "5: there is no file ../secret.txt below the folder of the configuration"),
        ("text: Hello}", "text: Hello}\n    options: {transform: x}", "5: the option `transform` of a test has no counterpart"),
    ],
)  # fmt: skip
def test_what_has_no_counterpart_is_named_with_its_line(tmp_path, before, after, note):
    """On a line of its own, in the comments of the suite too; the rest is imported."""
    folder = tmp_path / "inside"
    folder.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    _, rows, notes = imported(folder, CONFIG.replace(before, after, 1))
    assert any(found.startswith(note) for found in notes), notes
    assert "secret" not in str([row["text"] for row in rows])
    assert all(found.partition(": ")[2] in (folder / "suite.yaml").read_text() for found in notes)


def test_python_assertions_are_left_to_a_person(tmp_path):
    """Their functions are called in another way; the scorer stands in a comment."""
    text = CONFIG.replace('{type: equals, value: "Bye {{ text }}"}', "{type: python, value: 'file://checks.py:polite'}")
    _, _, notes = imported(tmp_path, text)
    assert any("adapt checks:polite, and take the scorer out of the comment" in note for note in notes)
    assert "# - kind: python\n#   name: python\n#   function: checks:polite\n" in (tmp_path / "suite.yaml").read_text()


def test_prompts_and_tests_may_stand_in_other_files(tmp_path):
    """Chats as JSON or YAML, several prompts in one text, tests as CSV with their expectations in a cell."""
    text = """
prompts: [file://chat__json, file://two__txt, "file://y*__yaml", {raw: "R {{q}}", label: my prompt}]
targets: [{"openai:chat:gpt": {config: {max_tokens: 5, stop: x}}}]
tests: [file://cases__csv, file://more__yaml]
defaultTest: file://default__yaml
evaluateOptions: {repeat: 3}
""".replace("__", ".")
    suite, rows, notes = imported(
        tmp_path,
        text,
        chat__json='[{"role": "developer", "content": "S"}, {"role": "user", "content": "{{ q | dump }}"}]',
        two__txt="A {{q}}\n---\nB {{q}}\n",
        yes__yaml="- {role: user, content: 'Y {{q}}'}\n",
        cases__csv="q,__expected,__expected2,__description\n1,one,icontains: ONE,first\n2,grade: is two,similar(0.5): two: 2,\n",
        more__yaml="- {vars: {q: [3, 4]}, assert: [{$ref: '#/assertionTemplates/none', type: equals, value: x}]}\n",
        default__yaml="assert: [{type: not-icontains, value: sorry}]\n",
    )
    assert suite["prompts"] == {
        "chat": {"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "{{ q | tojson }}"}]},
        "two": "A {{q}}",
        "two_2": "B {{q}}",
        "yes": {"messages": [{"role": "user", "content": "Y {{q}}"}]},
        "my_prompt": "R {{q}}",
    }
    assert (suite["models"], suite["samples"]) == (["gpt"], 3)
    assert suite["parameters"] == {"max_completion_tokens": 5, "stop": ["x"]}
    assert [scorer["name"] for scorer in suite["scorers"]] == [
        "not_icontains", "equals", "icontains", "llm_rubric", "similar",
    ]  # fmt: skip
    assert [row["q"] for row in rows] == ["1", "2", 3, 4]
    assert [row["expected"] for row in rows] == ["one", None, "x", "x"]
    assert rows[1]["expected_similar"] == "two: 2"
    assert any(note.startswith("cases.csv, row 2: ") for note in notes)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("- x\n", ":1:1: a promptfoo configuration is a mapping"),
        ("prompts: [a\nb: c", ":2:2: not valid YAML"),
        (CONFIG.replace("prompts", "prompt"), ":2:1: the configuration has no `prompts`"),
        (CONFIG.replace("groq:openai/gpt-oss-20b", "python:x.py"), ":3:1: no provider has a model that a suite could ask"),
        (CONFIG.partition("tests:")[0], ":2:1: the configuration has no `tests` to import"),
        (CONFIG.replace("{{text}}", "{{ text | nofilter }}"), ":2:1: no prompt has a counterpart:"),
        ("a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(f"b{n}: &b{n} [{','.join([f'*{p}'] * 9)}]\n" for n, p in
         enumerate(["a", *(f"b{n}" for n in range(8))])), "with its aliases written out it has more than 200,000 values"),
    ],
)  # fmt: skip
def test_a_configuration_of_which_no_suite_can_be_made_is_refused_with_its_line(tmp_path, text, said):
    """Nothing is written."""
    config = tmp_path / "c.yaml"
    config.write_text(text)
    with pytest.raises(InputInvalid) as raised:
        import_suite(config, tmp_path / "s.yaml")
    assert said in str(raised.value.problems[0])
    assert list(tmp_path.glob("s.*")) == []


def test_variables_with_many_values_are_not_multiplied_without_end(tmp_path):
    """Eight variables of ten values are a hundred million tests."""
    variables = ", ".join(f"v{number}: [{', '.join(map(str, range(10)))}]" for number in range(8))
    config = tmp_path / "c.yaml"
    config.write_text(f"prompts: ['{{{{v1}}}}']\nproviders: [m]\ntests: [{{vars: {{{variables}}}}}]\n")
    with pytest.raises(UsageError, match="has more than 10,000 tests"):
        import_suite(config, tmp_path / "s.yaml")


STRANGE = [
    "prompts: {1: 2}\nproviders: [[a]]\ntests: 3",
    "prompts: [[1], {role: [x]}, null]\nproviders: {a: b}\ntests: [[], null, {vars: [1]}]",
    "prompts: ['{{a}}']\nproviders: [m]\ntests: [{vars: {a: !!binary aGk=, 2: !!set {x}}, assert: {type: 1}}]",
    f"prompts: ['{{{{a}}}}']\nproviders: [m]\ntests: [{{vars: {{a: 1{'0' * 400}}}}}]",
    "prompts: ['{{a}}']\nproviders: [m]\ntests: [{vars: {a: .nan}, assert: [{type: [1]}, 3, {type: is-json, value: '{'}]}]",
    "prompts: ['{{a}}']\nproviders: [{id: m, config: [1], prompts: x}]\ntests: [{vars: {a: 2024-01-01}, assert: [{type: regex, value: '('}]}]",
    "prompts: [\"file://\\0x\"]\nproviders: [m]\ntests: ['file://..']\ndefaultTest: [1]\nevaluateOptions: 3",
    "prompts: ['{% for a in b %}{{ a.__class__ }}{% endfor %}']\nproviders: [m]\ntests: [{vars: {b: [[1]]}}]",
]


@pytest.mark.parametrize("text", STRANGE)
def test_whatever_a_stranger_wrote_ends_in_a_suite_or_an_error(tmp_path, text):
    """No value of a wrong kind is a bug."""
    config = tmp_path / "c.yaml"
    config.write_text(text)
    try:
        made = import_suite(config, tmp_path / "s.yaml")
    except UsageError:
        assert not (tmp_path / "s.yaml").exists()
    else:
        (batch,) = runs.check_suite(load_suite(made.suite), GROQ).table.batches()
        assert rows_of(batch)


def test_the_command_writes_a_suite_that_a_dry_run_accepts_and_overwrites_nothing(batchkit, open_emulator):
    """What has no counterpart is on stderr and in the suite; the result on stdout; no request is sent."""
    emulator = open_emulator()
    Path("config.yaml").write_text(CONFIG + "sharing: true\n")
    ended = batchkit("eval", "--import", "config.yaml", "-o", "made.yaml")
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[0] == "suite written to made.yaml, its tests to made.jsonl"
    assert "config.yaml:9: `sharing` has no counterpart" in ended.err
    assert "# - config.yaml:9: `sharing` has no counterpart\n" in Path("made.yaml").read_text()
    shown = batchkit("eval", "made.yaml", "--dry-run")
    assert shown.code == 0, shown.err
    assert "made: 2 rows, 2 requests; nothing was sent" in shown.out
    assert emulator.ledger().totals.batches == 0
    again = batchkit("eval", "--import", "config.yaml", "-o", "made.yaml")
    assert again.code == 2
    assert "made.yaml exists already" in again.err
