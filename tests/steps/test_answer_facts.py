"""Model and tier of an answer reach the results, the views and the tables, whatever server wrote the answer."""

from __future__ import annotations

import csv

import pytest
from pyarrow import parquet as pq
from sqlalchemy import text

from batchkit.steps import export
from tests.properties.lab import Lab, content
from tests.properties.odd_json import written
from tests.properties.scripted import Ending
from tests.properties.test_output_bytes import REFUSAL, answer, row
from tests.properties.wording import chat_body
from tests.workloads import chat_line

MODEL = "openai/gpt-oss-20b"


def merged(store, folder, bodies) -> Lab:
    """Send one request per body, and merge a batch that answers with these bodies; an error body is a refusal."""
    lab = Lab(store, folder)
    lab.split(content([written(chat_line(row(number))) for number in range(len(bodies))]))
    lab.send()
    (batch_id,) = lab.provider.running()
    lines = [answer(row(number), body) for number, body in enumerate(bodies)]
    for line in lines:
        if line["response"]["body"] == REFUSAL:
            line["response"]["status_code"] = 400
    lab.provider.end(batch_id, Ending("completed", output=content([written(line) for line in lines])))
    lab.look()
    lab.merge()
    return lab


def told(lab) -> list[tuple[str | None, str | None]]:
    """Return the model and tier of each request."""
    return [(found.facts.model, found.facts.service_tier) for found in lab.rows()]


def test_model_and_tier_of_plain_answers_are_kept(store, tmp_path):
    """Answers of the usual shape state their model and tier; one that does not is stored without them."""
    plain = chat_body("x")
    lab = merged(
        store,
        tmp_path,
        [
            plain | {"model": MODEL, "service_tier": "batch"},
            plain | {"model": f"{MODEL}-2", "service_tier": "flex"},
            plain,
            plain | {"model": None, "service_tier": None},
            {"text": "spoken", "x_groq": {"id": "req"}},
        ],
    )

    assert told(lab) == [(MODEL, "batch"), (f"{MODEL}-2", "flex"), (None, None), (None, None), (None, None)]


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (7, None),
        ({"id": MODEL}, None),
        ([MODEL], None),
        (True, None),
        ("", None),
        ("m" * 100_000, "m" * 200),
        ("a\x00b\ud800", "a\ufffdb?"),
    ],
    ids=["number", "object", "list", "boolean", "empty", "long", "no text"],
)
def test_unusable_names_are_stored_as_none(store, tmp_path, value, kept):
    """Unusable values for model and tier are cut or dropped, and the other rows keep theirs."""
    plain = chat_body("x") | {"model": MODEL, "service_tier": "batch"}

    lab = merged(store, tmp_path, [plain, plain | {"model": value}, plain | {"service_tier": value}])

    assert told(lab) == [(MODEL, "batch"), (kept, "batch"), (MODEL, kept)]
    assert [found.state for found in lab.rows()] == ["succeeded"] * 3


def test_people_see_names(store, tmp_path):
    """Views, CSV and Parquet show names where the table has numbers, and nothing for a failure."""
    lab = merged(store, tmp_path, [chat_body("x") | {"model": MODEL, "service_tier": "batch"}, REFUSAL])

    for suffix in (".csv", ".parquet"):
        export.export(store, lab.workload(), tmp_path / f"out{suffix}", advance=lambda _rows: None)
    with (tmp_path / "out.csv").open(encoding="utf-8", newline="") as handle:
        cells = [(found["model"], found["service_tier"]) for found in csv.DictReader(handle)]
    columns = pq.read_table(tmp_path / "out.parquet").select(["model", "service_tier"]).to_pylist()
    named = {"name": lab.name}
    with store.read() as connection:
        views = [
            tuple(connection.execute(text(query), named).one())
            for query in (
                "SELECT model, service_tier FROM succeeded WHERE workload = :name",
                "SELECT model, service_tier FROM failed WHERE workload = :name",
            )
        ]
    assert cells == [(MODEL, "batch"), ("", "")]
    assert columns == [{"model": MODEL, "service_tier": "batch"}, {"model": None, "service_tier": None}]
    assert views == [(MODEL, "batch"), (None, None)]
