"""What pandas and Hugging Face keep in a schema: labels are read by their names, and new columns are known to both."""

from __future__ import annotations

import pyarrow as pa
import pytest
from pyarrow import ipc

from batchkit.datasets import open_table, rows_of
from batchkit.datasets.metadata import with_columns
from batchkit.errors import UsageError
from batchkit.files import jsonl

LABEL = {"names": ["neg", "pos"], "_type": "ClassLabel"}
SEQUENCE = {"feature": LABEL, "_type": "Sequence"}
ADDED = [
    pa.field("answer", pa.string()),
    pa.field("tags", pa.list_(pa.string())),
    pa.field("answers", pa.list_(pa.struct([("n", pa.int64()), ("cost", pa.float64())]))),
]


def described(features):
    """Write features as a schema has them."""
    return {"huggingface": jsonl.dumps({"info": {"features": features, "own": 1}, "fingerprint": "x"}).decode()}


def labelled(values, kind, feature):
    """Read a column with a feature."""
    schema = pa.schema([("text", pa.string()), ("x", kind)], described({"text": {"_type": "Value"}, "x": feature}))
    batch = pa.RecordBatch.from_arrays([pa.array(["t"] * len(values)), pa.array(values, kind)], schema=schema)
    return [row["x"] for row in rows_of(batch)]


@pytest.mark.parametrize(
    ("feature", "kind", "values", "names"),
    [
        (LABEL, pa.int64(), [1, 0, None, -1, 2], ["pos", "neg", None, None, "2"]),
        (SEQUENCE, pa.list_(pa.int64()), [[1, None], [], None], [["pos", None], [], None]),
        ({"feature": LABEL, "_type": "List", "length": 1}, pa.list_(pa.int8(), 1), [[1]], [["pos"]]),
        ([SEQUENCE], pa.list_(pa.list_(pa.int64())), [[[0], [1]]], [[["neg"], ["pos"]]]),
        (
            {"tag": LABEL, "token": {"_type": "Value"}},
            pa.struct([("tag", pa.int64()), ("token", pa.int64())]),
            [{"tag": 1, "token": 1}, None],
            [{"tag": "pos", "token": 1}, None],
        ),
        (
            {"feature": {"tag": LABEL, "at": {"_type": "Value"}}, "_type": "Sequence"},
            pa.struct([("tag", pa.list_(pa.int64())), ("at", pa.list_(pa.int64()))]),
            [{"tag": [1, 0], "at": [1, 0]}],
            [{"tag": ["pos", "neg"], "at": [1, 0]}],
        ),
    ],
)
def test_labels_are_read_by_their_names(feature, kind, values, names):
    """Alone, in lists and in objects; -1 is no label, an unknown number is itself."""
    assert labelled(values, kind, feature) == names


deep: object = LABEL
for _ in range(200):
    deep = [deep]


@pytest.mark.parametrize(
    "feature",
    [
        {"_type": "ClassLabel"},
        {"_type": "ClassLabel", "names": [1]},
        {"_type": 5},
        "ClassLabel",
        None,
        [],
        [LABEL],
        SEQUENCE,
        deep,
    ],
)
def test_features_that_do_not_fit_change_nothing(feature):
    """The metadata may say anything."""
    assert labelled([1, 0], pa.int64(), feature) == [1, 0]


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"info":1}', b'{"info":{"features":[]}}', b"\xff"])
def test_metadata_of_no_meaning_is_kept(data):
    """It is not ours."""
    schema = pa.schema([("x", pa.int64())], {"huggingface": data, "pandas": data})
    assert rows_of(pa.RecordBatch.from_pydict({"x": [1]}, schema=schema)) == [{"x": 1}]
    assert with_columns(schema.metadata, ADDED) == {b"huggingface": data, b"pandas": data}


def test_new_columns_are_described_for_both():
    """Everything else stays as it was."""
    pandas = {"index_columns": [], "columns": [{"name": "x"}], "creator": {"library": "pyarrow"}}
    found = (
        with_columns(
            {
                b"huggingface": described({"x": LABEL})["huggingface"].encode(),
                b"pandas": jsonl.dumps(pandas),
                b"own": b"words",
            },
            ADDED,
        )
        or {}
    )
    assert found[b"own"] == b"words"
    text, number, real = ({"dtype": kind, "_type": "Value"} for kind in ("string", "int64", "float64"))
    features = {
        "x": LABEL,
        "answer": text,
        "tags": {"feature": text, "_type": "Sequence"},
        "answers": [{"n": number, "cost": real}],
    }
    assert jsonl.loads(found[b"huggingface"]) == {"info": {"features": features, "own": 1}, "fingerprint": "x"}
    told = jsonl.loads(found[b"pandas"])
    assert [(one["name"], one.get("pandas_type")) for one in told["columns"]] == [
        ("x", None),
        ("answer", "unicode"),
        ("tags", "object"),
        ("answers", "object"),
    ]
    assert {name: told[name] for name in ("index_columns", "creator")} == {
        "index_columns": [],
        "creator": {"library": "pyarrow"},
    }
    assert with_columns(None, ADDED) is None


def save(folder, features, *, names=("a.arrow",), metadata=None):
    """Save a data set with labels."""
    folder.mkdir()
    schema = pa.schema([("label", pa.int64())], metadata)
    for name in names:
        with ipc.new_stream(folder / name, schema) as stream:
            stream.write_table(pa.table({"label": [1]}, schema=schema))
    (folder / "state.json").write_bytes(jsonl.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_bytes(features)
    return open_table([str(folder)])


def test_features_beside_a_saved_data_set_are_read(tmp_path):
    """Where its files have none of their own; a description that cannot be read plays no part."""
    info = jsonl.dumps({"features": {"label": LABEL}})
    for name, data, metadata, label in (
        ("beside", info, None, "pos"),
        ("inside", b"{}", described({"label": LABEL}), "pos"),
        ("broken", b"{", None, 1),
    ):
        table = save(tmp_path / name, data, metadata=metadata)
        assert [row["label"] for batch in table.batches() for row in rows_of(batch)] == [label]


def test_files_with_other_labels_are_not_one_table(tmp_path):
    """Their numbers mean different things."""
    for name, names in (("a", ["x", "y"]), ("b", ["y", "x"])):
        schema = pa.schema([("label", pa.int64())], described({"label": {"names": names, "_type": "ClassLabel"}}))
        with ipc.new_file(tmp_path / f"{name}.arrow", schema) as file:
            file.write_table(pa.table({"label": [0]}, schema=schema))
    with pytest.raises(UsageError, match="number their class labels differently"):
        open_table([str(tmp_path)]).schema  # noqa: B018 - looking is what fails
