"""What a suite may ask: chats of several messages, examples before each question, and several datasets at once."""

from __future__ import annotations

import pytest

from batchkit.annotation.render import Renderer
from batchkit.api.evaluations import PartOfRows
from batchkit.datasets import rows_of
from batchkit.errors import InputInvalid, UsageError
from batchkit.evaluation import baselines, rescoring, runs
from batchkit.evaluation.differences import RowDifferences, described
from batchkit.evaluation.suite import Suite
from batchkit.evaluation.suite_file import load_suite
from batchkit.files import jsonl
from batchkit.provider.groq.dialect import GROQ
from tests.evaluation.support import REVIEWS, drive, means, night, write_reviews, write_suite
from tests.readmes import ROOT, blocks

EVALUATE = ROOT / "batchkit" / "evaluation" / "README.md"
PROMPT = 'prompt: "Is this review positive or negative? {{ text }}"'
CHAT = """messages:
  - {role: system, content: "You read {{ language }}."}
  - {role: user, content: "Hello"}
  - {role: assistant, content: "What is {{ id }}?"}
  - {role: user, content: "{{ text }}"}
"""
TWO = """datasets:
  - {path: reviews.csv, key: id}
  - {name: second, path: second.csv, key: id}"""
DATASET = "dataset: {path: reviews.csv, key: id}"


def rendered(file):
    """Give the bodies of all requests of a suite, by custom_id."""
    asked = runs.check_suite(file, GROQ)
    renderer = Renderer(asked.recipe, asked.table.columns, dialect=GROQ)
    rows = [row for batch in asked.table.batches() for row in rows_of(batch)]
    lines = [line for number, row in enumerate(rows, 1) for line in renderer.requests(row, number)]
    return {line["custom_id"]: line["body"] for line in map(jsonl.loads, lines)}


def suite_of(folder, text):
    """Write four reviews and a suite about them, and load it."""
    write_reviews(folder, 4)
    return load_suite(write_suite(folder, text))


def problems(path):
    """Give what is wrong in a suite, without its path."""
    with pytest.raises(InputInvalid) as raised:
        load_suite(path)
    return [str(problem).removeprefix(f"{path}:") for problem in raised.value.problems]


def test_a_chat_is_sent_as_it_is_written_and_may_be_one_of_several_prompts(tmp_path):
    """Each message is a template; a chat of a system and a user message asks what a prompt of these asks."""
    sent = rendered(suite_of(tmp_path, REVIEWS.replace(PROMPT, CHAT)))
    said = sent["r1:gpt-oss-20b:1"]["messages"]
    assert [message["content"] for message in said] == ["You read de.", "Hello", "What is r1?", "review number 1"]
    assert [message["role"] for message in said] == ["system", "user", "assistant", "user"]
    several = """prompts:
  plain: {system: S, user: "Q {{ text }}"}
  chat: {messages: [{role: system, content: S}, {role: user, content: "Q {{ text }}"}]}
  begun: {messages: [{role: user, content: "Q {{ text }}"}, {role: assistant, content: It is}]}
"""
    sent = rendered(suite_of(tmp_path, REVIEWS.replace(PROMPT, several)))
    plain, chat, begun = (sent[f"r0:{name}:gpt-oss-20b:1"]["messages"] for name in ("plain", "chat", "begun"))
    assert chat == plain
    assert begun[-2:] == [
        {"role": "user", "content": "Q review number 0"},
        {"role": "assistant", "content": "It is"},
    ]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            "prompt: 'x {{ text }}'\nmessages: [{role: user, content: x}]",
            "5:1: `prompt` and `messages` exclude each other",
        ),
        (
            "messages: [{role: user, content: x}, {role: system, content: y}]",
            "the last of the `messages` is the user's",
        ),
        ("messages: [{role: robot, content: x}]", "role: Input should be 'system', 'user' or 'assistant'"),
        ("messages: [{role: user, content: x, nane: y}]", "there is no key 'nane'"),
        ("mesages: [{role: user, content: x}]", "there is no key 'mesages'; did you mean 'messages'?"),
        ("prompt: {messages: [{role: user, content: x}], system: y}", "`messages` are the whole chat"),
        ("prompt: {system: y}", "there is no question: the key 'user' is missing or empty"),
        ("prompt: ''", "there is no question"),
    ],
)
def test_a_chat_that_cannot_be_asked_is_refused_with_its_line(tmp_path, given, said):
    """The mistake is in the chat, or in what stands beside it."""
    assert any(said in problem for problem in problems(write_suite(tmp_path, REVIEWS.replace(PROMPT, given))))


def test_only_the_mistake_of_the_only_scorer_is_named(tmp_path):
    """A list from which its wrong item was taken is not called too short as well."""
    only = REVIEWS.partition("scorers:")[0] + "scorers: [{kind: regexx}]\n"
    found = problems(write_suite(tmp_path, only))
    assert len(found) == 1
    assert "there is no scorer 'regexx'; did you mean 'regex'?" in found[0]
    assert "at least 1 item" in problems(write_suite(tmp_path, REVIEWS.partition("scorers:")[0] + "scorers: []\n"))[0]


LISTED = """examples:
  - {text: "so good", label: positive}
  - {text: "review number 2", label: negative}
"""


def test_rows_of_a_suite_and_of_a_table_are_shown_as_examples_and_not_asked(tmp_path):
    """The answers stand in the columns of the answer; a row that asks what an example asks is left out."""
    file = suite_of(tmp_path, REVIEWS + LISTED)
    sent = rendered(file)
    assert {custom_id.partition(":")[0] for custom_id in sent} == {"r0", "r1", "r3"}
    assert [message["content"] for message in sent["r3:gpt-oss-20b:1"]["messages"]] == [
        "Is this review positive or negative? so good",
        '{"label":"positive"}',
        "Is this review positive or negative? review number 2",
        '{"label":"negative"}',
        "Is this review positive or negative? review number 3",
    ]
    drawn = suite_of(tmp_path, REVIEWS + "examples: {path: reviews.csv, count: 2, examples_seed: 3}\n")
    asked = runs.check_suite(drawn, GROQ)
    assert sum(batch.num_rows for batch in asked.table.batches()) == 2
    assert asked.examples is not None
    assert asked.examples.left_out == 2
    assert len(asked.recipe.examples) == 2
    part = PartOfRows(limit=1).of(suite_of(tmp_path, REVIEWS + LISTED.replace("number 2", "number 0")))
    asked = runs.check_suite(part, GROQ)
    assert sum(batch.num_rows for batch in asked.table.head(1).batches()) == 1
    assert asked.examples is not None
    assert asked.examples.left_out == 1
    plain = REVIEWS.replace("schema: {type", "choices: [positive, negative]\n#").replace(
        "field: label", "missing_field"
    )
    plain = plain.replace(", missing_field}", "}") + "examples: {path: reviews.csv, count: 1}\n"
    (shown,) = runs.check_suite(suite_of(tmp_path, plain), GROQ).recipe.examples
    assert shown.assistant in {"positive", "negative"}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ("examples: {path: reviews.csv, count: 9}\n", "every row of reviews serves as an example"),
        ("examples: [{text: x, label: neutral}]\n", "examples: the suite's examples, row 1: "),
        ("examples: [{text: x, lable: positive}]\n", "has no column 'label' with the labels"),
        ("examples: [{text: x, label: 1}, {text: y, label: positive}]\n", "write the values of a column in one way"),
    ],
)
def test_examples_that_show_no_answer_are_refused_before_anything_is_sent(tmp_path, more, said):
    """Their labels keep the rules of the answer, and some row is left to ask about."""
    with pytest.raises(UsageError) as raised:
        rendered(suite_of(tmp_path, REVIEWS + more))
    assert said in f"{raised.value.message} {raised.value.hint}"


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (PROMPT, CHAT, "write the examples among the `messages`"),
        (PROMPT, "prompts: {a: '{{ text }}', b: '{{ id }}'}", "examples belong to one prompt"),
        (PROMPT, PROMPT + "\nimages: [seen]", "cannot be shown with images"),
        (
            LISTED,
            "examples: {path: a.csv, rows: [{a: 1}]}\n",
            "examples are either a list of rows, or in the table at `path`",
        ),
    ],
)
def test_examples_that_have_no_place_are_refused(tmp_path, before, after, said):
    """The place is named, as everything that is wrong in a suite."""
    text = (REVIEWS + LISTED).replace(before, after, 1)
    assert any(said in problem for problem in problems(write_suite(tmp_path, text)))


def write_second(folder, header="id,text,language,label,seen,judged"):
    """Write a second dataset, in which the keys of the first occur again."""
    cells = header.count(",") + 1
    rows = (folder / "reviews.csv").read_text().splitlines()[1:3]
    padded = [",".join([*row.split(","), ""][:cells]) for row in rows]
    (folder / "second.csv").write_text("\n".join([header, *padded]) + "\n")


def test_rows_of_several_datasets_have_ids_of_their_own_and_a_slice(tmp_path, sqlite_harness):
    """The same key in two datasets names two rows; the metrics of each dataset stand beside those of all."""
    text = REVIEWS.replace(DATASET, TWO).replace(
        "{scorer: accuracy, fall: 0.05}", "{scorer: accuracy, fall: 0.05, slice: dataset}"
    )
    write_reviews(tmp_path, 6)
    write_second(tmp_path)
    file = load_suite(write_suite(tmp_path, text))
    found = night(sqlite_harness.runner, file)
    assert means(found) == {"openai/gpt-oss-20b": 1.0, "openai/gpt-oss-120b": 1.0}
    of_one = {metric.slice: metric.count for metric in found.metrics if metric.model == "openai/gpt-oss-20b"}
    assert of_one[None] == 8
    assert (of_one["dataset=reviews"], of_one["dataset=second"]) == (6, 2)
    again = night(sqlite_harness.runner, file)
    assert again.verdict == "passed"
    assert {change.slice for change in again.slice_changes} >= {"dataset=reviews", "dataset=second"}
    assert {"reviews.r0:gpt-oss-20b:1", "second.r0:gpt-oss-20b:1"} <= rendered(file).keys()
    stored = Suite.model_validate_json(file.suite.model_dump_json(by_alias=True))
    assert stored == file.suite
    assert stored.version() == file.suite.version()


@pytest.mark.parametrize(
    ("header", "said"),
    [
        ("id,text,language,label,seen,note", "second.csv lacks the column 'judged' of "),
        ("id,text,language,label,seen,judged,note", "second.csv has the column 'note', which "),
    ],
)
def test_datasets_with_other_columns_are_refused_by_file_and_column(tmp_path, header, said):
    """One table has the same columns in all its parts."""
    write_reviews(tmp_path, 4)
    write_second(tmp_path, header)
    with pytest.raises(UsageError) as raised:
        runs.check_suite(load_suite(write_suite(tmp_path, REVIEWS.replace(DATASET, TWO))), GROQ)
    assert said in raised.value.message


@pytest.mark.parametrize(
    ("datasets", "said"),
    [
        (
            "datasets: [reviews.csv, other/reviews.csv]",
            "3:25: two datasets are called 'reviews': give one of them another",
        ),
        (
            "datasets: [{path: reviews.csv, key: id}, second.csv]",
            "the dataset 'second' needs a `key`, as the others have one",
        ),
        (
            "datasets: [{path: a.b.csv, name: a.b}]",
            "a dataset's name is made of letters, digits, dashes and underscores",
        ),
        ("datasets: [{path: a.csv, kye: id}]", "there is no key 'kye'; did you mean 'key'?"),
        (DATASET + "\ndatasets: [reviews.csv]", "`dataset` and `datasets` exclude each other"),
        ("dataset: {key: id, datasets: [reviews.csv]}", "`key` belongs to each of the datasets"),
        ("dataset: {key: id}", "the key 'path' is missing"),
    ],
)
def test_datasets_that_contradict_each_other_are_refused_with_their_line(tmp_path, datasets, said):
    """Names and keys tell their rows apart."""
    found = problems(write_suite(tmp_path, REVIEWS.replace(DATASET, datasets)))
    assert any(said in problem for problem in found)


def test_columns_of_several_datasets_have_one_type(tmp_path):
    """A number in one and a text in the other is refused; a column that is empty in one has the type of the other."""
    (tmp_path / "a.jsonl").write_text('{"id":1,"text":"x","label":null}\n')
    (tmp_path / "b.jsonl").write_text('{"label":"positive","text":"y","id":"1"}\n')
    text = REVIEWS.replace(DATASET, "datasets: [a.jsonl, b.jsonl]").replace("slices: [language]\n", "")
    file = load_suite(write_suite(tmp_path, text))
    with pytest.raises(
        UsageError, match=r"the column 'id' of .*b.jsonl has another type than that of .*a.jsonl: string"
    ):
        runs.check_suite(file, GROQ)
    (tmp_path / "b.jsonl").write_text('{"label":"positive","text":"y","id":2}\n')
    rows = [row for batch in runs.check_suite(file, GROQ).table.batches() for row in rows_of(batch)]
    assert rows == [
        {"id": 1, "text": "x", "label": None, "dataset": "a"},
        {"id": 2, "text": "y", "label": "positive", "dataset": "b"},
    ]


def test_clusters_of_several_datasets_are_apart(tmp_path):
    """A passage with the number 1 in one dataset is not the passage 1 of another."""
    write_reviews(tmp_path, 4)
    write_second(tmp_path)
    text = REVIEWS.replace(DATASET, TWO.replace("key: id", "key: id, cluster: language"))
    file = load_suite(write_suite(tmp_path, text))
    rows = [row for batch in runs.check_suite(file, GROQ).table.batches() for row in rows_of(batch)]
    assert {row["dataset_cluster"] for row in rows} == {"reviews.en", "reviews.de", "second.en", "second.de"}
    assert file.suite.version() == load_suite(write_suite(tmp_path, REVIEWS.replace(DATASET, TWO))).suite.version()


def test_another_content_of_a_file_of_examples_is_told(tmp_path, sqlite_harness):
    """The suite is the same, the requests are not."""
    runner = sqlite_harness.runner
    write_reviews(tmp_path, 6)
    labelled = tmp_path / "labelled.csv"
    file = write_suite(tmp_path, REVIEWS + "examples: {path: labelled.csv, count: 2}\n")
    labelled.write_text("text,label\nso good,positive\nso bad,negative\n")
    first = night(runner, load_suite(file))
    assert "2 examples before each question; rows that ask what an example asks were left out" in first.notes
    assert night(runner, load_suite(file)).differences == ()
    labelled.write_text("text,label\nso good,positive\nso poor,negative\n")
    assert night(runner, load_suite(file)).differences == ("the rows of the examples changed",)


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ('content: "Hello"', 'content: "Hi"', "the prompt changed"),
        ("role: assistant", "role: system", "the prompt changed"),
        ("label: positive}", "label: negative}", "the examples changed"),
        (DATASET, TWO, "the datasets 'reviews', 'second' are new, compared with nothing"),
    ],
)
def test_what_else_differs_names_chats_examples_and_datasets(tmp_path, before, after, told):
    """It is said before any fall."""
    chat = REVIEWS.replace(PROMPT, CHAT)
    text = REVIEWS + LISTED if "label" in before else chat
    then = load_suite(write_suite(tmp_path, text)).suite
    now = load_suite(write_suite(tmp_path, text.replace(before, after, 1))).suite
    assert list(described(now, then, RowDifferences(4, 0, 0, None, None))) == [told]
    assert now.version() != then.version()


def test_kept_answers_are_scored_again_when_the_suite_has_other_datasets(tmp_path, sqlite_harness):
    """Today's key and slices are columns that the rows of then do not have."""
    runner = sqlite_harness.runner
    write_reviews(tmp_path, 4)
    write_second(tmp_path)
    file = load_suite(write_suite(tmp_path))
    origin = runs.begin(runner, file)
    drive(runner, origin)
    runs.conclude(runner, origin)
    origin = baselines.named(runner, origin.name)
    now = load_suite(write_suite(tmp_path, REVIEWS.replace(DATASET, TWO))).suite
    derived = rescoring.rescore(runner, origin, file.suite, now, without=(), relabelled={})
    assert derived.finished_at is not None


def test_the_suite_of_the_readme_asks_what_it_says(tmp_path):
    """Its second suite, with the files that it names."""
    header, rows = "id,text,category,label\n", "a,good,garden,positive\nb,bad,office,negative\n"
    for name, text in {
        "reviews.csv": header + rows,
        "old/reviews.csv": header + "a,so so,garden,negative\n",
        "labelled.csv": "text,category,label\ngood,garden,positive\nawful,office,negative\n",
        "parts/scorers.yaml": REVIEWS[REVIEWS.index("answers:") :].replace("slices: [language]\n", ""),
        "readme.yaml": next(block.text for block in blocks(EVALUATE.read_text(), "yaml") if "include:" in block.text),
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    sent = rendered(load_suite(tmp_path / "readme.yaml"))
    assert list(sent) == ["reviews.b:gpt-oss-20b:1", "old-shop.a:gpt-oss-20b:1"]
    said = [message["content"] for message in sent["reviews.b:gpt-oss-20b:1"]["messages"]]
    assert (said[0], len(said)) == ("You label reviews of a shop for the office.", 6)
