"""Suites made of several files: they mean what one file would, and every mistake names its own file and line."""

from __future__ import annotations

import pytest

from batchkit.errors import InputInvalid
from batchkit.evaluation.suite_file import load_suite
from tests.evaluation.support import REVIEWS, write_suite

WHOLE = """
name: parts
dataset: {path: reviews.csv, key: id}
prompt: "x {{ text }}"
models: [m]
parameters: {temperature: 0, max_completion_tokens: 9}
answers: {schema: label.json}
expected: label
scorers:
  - {kind: choice, name: accuracy, field: label}
  - {kind: schema_valid, schema: label.json}
alarms: [{scorer: accuracy, fall: 0.1}]
report: "pages/{run}.html"
"""
SHARED = """
dataset: {path: ../reviews.csv, key: id}
models: [m]
parameters: {temperature: 0, max_completion_tokens: 7}
answers: {schema: ../label.json}
expected: label
include: deeper/scorers.yaml
report: "../pages/{run}.html"
"""
SCORERS = """
scorers:
  - {kind: choice, name: accuracy, field: label}
  - {kind: schema_valid, schema: ../../label.json}
alarms: [{scorer: accuracy, fall: 0.1}]
"""
OWN = """
name: parts
include: [shared/common.yaml]
prompt: "x {{ text }}"
parameters: {max_completion_tokens: 9}
"""


def write(folder, **files):
    """Write files, by path with two underscores for a slash; gives the first."""
    for name, text in files.items():
        path = folder / (name.replace("__", "/") + ".yaml")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder / (next(iter(files)).replace("__", "/") + ".yaml")


def problems(folder, path):
    """Give what is wrong, with paths from the folder."""
    with pytest.raises(InputInvalid) as raised:
        load_suite(path)
    return [str(problem).replace(f"{folder}/", "") for problem in raised.value.problems]


def test_parts_in_other_files_are_the_same_suite(tmp_path):
    """Paths begin in the folder of the file that names them, and moving parts into one gives no new version."""
    (tmp_path / "label.json").write_text('{"type": "object"}')
    whole = load_suite(write(tmp_path, whole=WHOLE)).suite
    parts = load_suite(write(tmp_path, own=OWN, shared__common=SHARED, shared__deeper__scorers=SCORERS)).suite
    assert parts == whole
    assert parts.version() == whole.version()
    assert parts.table_parts() == [str(tmp_path / "reviews.csv")]
    elsewhere = write(tmp_path, own=OWN.replace("shared/", f"{tmp_path}/shared/"))
    assert load_suite(elsewhere).suite.table_parts() == [str(tmp_path / "reviews.csv")]


def test_fields_of_the_including_file_win(tmp_path):
    """Mappings are merged key by key; the last of several files wins; one form of the question replaces any other."""
    rest = "models: [m]\nscorers: [{kind: regex, pattern: a}]\nparameters: {temperature: 0, seed: 1}\n"
    path = write(
        tmp_path,
        own="name: s\ninclude: [one.yaml, two.yaml]\nmessages: [{role: user, content: 'x {{ a }}'}]\nparameters: {seed: 2}\n",
        one=rest + "dataset: a.csv\nprompts: {p: '{{ a }}', q: '{{ b }}'}\n",
        two="datasets: [b.csv, c.csv]\nmodels: [n]\n",
    )
    suite = load_suite(path).suite
    assert (suite.parameters.temperature, suite.parameters.seed) == (0, 2)
    assert suite.models == ("n",)
    assert list(suite.named_prompts) == ["prompt"]
    assert [rows.name for rows in suite.dataset.datasets] == ["b", "c"]


def test_every_mistake_names_its_own_file_and_line(tmp_path):
    """Unknown keys, wrong values, repeated keys and contradictions, wherever they stand."""
    path = write(
        tmp_path,
        own="name: s\ninclude: parts/one.yaml\ndataset: a.csv\nprompt: 'x {{ a }}'\nmodels: [m, m]\n",
        parts__one="scorrers: [exact]\nsamples: 0\nsamples: 0\nscorers:\n  - {kind: regexx}\n  - {kind: regex, pattern: a}\n",
    )
    *found, scorer = problems(tmp_path, path)
    assert found == [
        "parts/one.yaml:1:1: there is no key 'scorrers'; did you mean 'scorers'?",
        "parts/one.yaml:3:1: the key 'samples' is there twice",
        "parts/one.yaml:3:10: samples: Input should be greater than or equal to 1",
    ]
    assert scorer.startswith("parts/one.yaml:5:5: scorers: there is no scorer 'regexx'; did you mean 'regex'?")
    write(tmp_path, parts__one="scorers: [{kind: regex, pattern: a}]\nalarms:\n  - {scorer: b, fall: 1}\n")
    assert problems(tmp_path, path) == [
        "own.yaml:5:13: the model 'm' occurs twice",
        "parts/one.yaml:3:14: there is no scorer 'b'; there are: regex",
    ]


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"own": "include: own.yaml\n"}, "own.yaml:1:10: include: the files include each other in a circle: own.yaml -> own.yaml"),
        (
            {"own": "include: [a.yaml]\n", "a": "include: b/../own.yaml\n"},
            "a.yaml:1:10: include: the files include each other in a circle: own.yaml -> a.yaml -> b/../own.yaml",
        ),
        ({"own": "include: [nowhere.yaml]\n"}, "own.yaml:1:11: include: nowhere.yaml: cannot be read: No such file or directory"),
        ({"own": "include: [a.yaml]\n", "a": "- x\n"}, "a.yaml:1:1: a suite is a mapping: `name: ...`, `dataset: ...`, `models: ...`"),
        ({"own": "include: [a.yaml]\n", "a": "x: [\n"}, "a.yaml:2:1: not valid YAML: "),
        ({"own": 'include: "a\\0b"\n'}, "own.yaml:1:10: include: "),
        ({"own": "include: 3\n"}, "own.yaml:1:10: include: name a YAML file, or a list of them"),
        ({"own": "include: [[a]]\n"}, "own.yaml:1:11: include: name a YAML file"),
        ({"own": "include: [a.yaml]\n", "a": "folder: /tmp\n"}, "a.yaml:1:1: there is no key 'folder'"),
        ({"own": "inclode: a.yaml\n"}, "own.yaml:1:1: there is no key 'inclode'; did you mean 'include'?"),
    ],
)  # fmt: skip
def test_files_that_cannot_be_included_are_named_with_the_line(tmp_path, files, said):
    """A circle, a file that is missing, and one that is no part of a suite."""
    (tmp_path / "b").mkdir()
    assert any(problem.startswith(said) for problem in problems(tmp_path, write(tmp_path, **files)))


def test_files_that_include_each_other_again_and_again_come_to_an_end(tmp_path):
    """Each of thirty files includes the next one twice, which would be a billion files."""
    for number in range(30):
        write(tmp_path, **{f"a{number}": f"include: [a{number + 1}.yaml, a{number + 1}.yaml]\n"})
    found = problems(tmp_path, write(tmp_path, own="include: a0.yaml\n"))
    assert any("a suite includes at most 100 files" in problem for problem in found)


LAUGHS = "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "with its aliases written out it has more than 200,000 values"),
        ("a: &a [*a]\n", "with its aliases written out it has more than 200,000 values"),
        ("a: " + "[" * 500, "not valid YAML: it is nested too deeply"),
        ("a: 2024-02-31\n", "not valid YAML: day is out of range for month"),
        (f"a: {'9' * 5_000}\n", "not valid YAML: Exceeds the limit"),
        ("? [a, b]\n: c\n", "not valid YAML: found unhashable key"),
    ],
)
def test_yaml_that_would_fill_the_memory_is_refused(tmp_path, text, said):
    """A few lines of aliases of aliases, a document that contains itself, and values that do not exist."""
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    assert said in problems(tmp_path, path)[0]


def test_a_file_of_any_size_is_not_read_whole(tmp_path):
    """Sparse: it takes no room on the disk."""
    path = write_suite(tmp_path, REVIEWS + "include: large.yaml\n")
    with (tmp_path / "large.yaml").open("wb") as file:
        file.truncate(50_000_000_000)
    assert "large.yaml: is larger than 10 MB" in problems(tmp_path, path)[0]
