"""What words name a table, and what is said of those that name none."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys

import pytest
import zstandard

from batchkit.datasets import open_table, rows_of
from batchkit.errors import UsageError


def ids(*words):
    """Read a table's ids."""
    table = open_table([str(word) for word in words])
    return [row["id"] for batch in table.batches() for row in rows_of(batch)]


@pytest.fixture
def folder(tmp_path):
    """Give a folder with files of a table, and with what other programs leave beside them."""
    parts = tmp_path / "parts"
    parts.mkdir()
    for number in (2, 10, 1):
        (parts / f"part-{number:02d}.csv").write_text(f"id\n{number}\n")
    for name in ("_SUCCESS", ".part-01.csv.crc", "README.md", "_metadata.csv"):
        (parts / name).write_text("not of the table")
    return parts


def test_folders_and_patterns_are_read_in_the_order_of_names(folder):
    """A folder is its tables, a pattern what it matches; the table is called after the first word."""
    assert ids(folder) == [1, 2, 10]
    assert ids(folder / "part-*.csv") == [1, 2, 10]
    assert ids(folder / "part-10.csv", folder / "part-0?.csv") == [10, 1, 2]
    assert open_table([str(folder)]).name == "parts"
    assert open_table([str(folder / "part-*.csv")]).name == "part-01"


def test_compression_is_told_by_the_first_bytes(tmp_path):
    """Whatever the name says: gzip and zstandard, also of several members, are read, and are no part of the table's name."""
    head, tail = b"id\n1\n", b"2\n"
    compress = zstandard.ZstdCompressor().compress
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(head) + gzip.compress(tail))
    (tmp_path / "b.csv.zst").write_bytes(compress(head) + compress(tail))
    (tmp_path / "c.csv").write_bytes(gzip.compress(head + tail))
    (tmp_path / "d.jsonl.gz").write_bytes(gzip.compress(b'{"id":1}\n{"id":2}'))
    for name in ("a.csv.gz", "b.csv.zst", "c.csv", "d.jsonl.gz"):
        assert ids(tmp_path / name) == [1, 2]
        assert open_table([str(tmp_path / name)]).name == name[0]


def test_digest_is_of_the_content(folder, tmp_path):
    """The same bytes under another name are the same table; other bytes, or another order, are not."""
    first, second = folder / "part-01.csv", folder / "part-02.csv"
    copy = tmp_path / "copy.csv"
    copy.write_bytes(first.read_bytes())

    def digest(*paths):
        return open_table([str(path) for path in paths]).digest()

    assert digest(first) == digest(copy)
    assert len({digest(first), digest(second), digest(first, second), digest(second, first)}) == 4


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "no table is named"),
        (["missing.csv"], r"missing\.csv: there is no such file"),
        (["no-*.csv"], r"no file matches no-\*\.csv"),
        (["notes.txt"], r"notes\.txt: \.txt: not a readable table"),
        (["empty"], "the folder empty holds no file of a readable format"),
        (["a.csv", "b.jsonl"], "files of different kinds"),
        (["t.parquet.gz"], "is compressed as a whole"),
        (["pipe.csv"], "is not a regular file"),
        (["sqlite:///rows.db"], "a database URL needs a query"),
        (["sqlite:///rows.db", "a.csv"], "a query needs exactly one database"),
        (["s3://bucket/rows.csv"], "a database URL needs a query"),
    ],
)
def test_words_that_name_no_table_are_refused(tmp_path, monkeypatch, words, message):
    """Each with a reason, and with what to do."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    os.mkfifo("pipe.csv")
    for name, content in {"notes.txt": "x", "a.csv": "id\n1\n", "b.jsonl": '{"id":1}\n', "t.parquet.gz": "x"}.items():
        (tmp_path / name).write_text(content)
    with pytest.raises(UsageError, match=message) as caught:
        open_table(words)
    assert caught.value.hint


def test_query_needs_a_database(tmp_path):
    """A query beside a file is a mistake and not ignored."""
    (tmp_path / "a.csv").write_text("id\n1\n")
    with pytest.raises(UsageError, match="a query needs exactly one database"):
        open_table([str(tmp_path / "a.csv")], query="select 1")


def test_nothing_heavy_is_loaded_before_a_table_is_opened():
    """What reads tables is an extra: to import batchkit, or the package of the tables, takes none of it."""
    script = (
        "import sys, batchkit, batchkit.cli, batchkit.datasets, batchkit.steps.csv_rows;"
        "print(*{'polars', 'pyarrow', 'scipy', 'genai_prices', 'jinja2'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("\n", "")


def test_missing_extra_says_what_to_install():
    """Without pyarrow the first use of a table says what to install."""
    script = (
        "import sys; sys.modules['pyarrow'] = None\n"
        "import importlib.util as u; found = u.find_spec\n"
        "u.find_spec = lambda name, *more: None if name == 'pyarrow' else found(name, *more)\n"
        "from batchkit import errors\n"
        "try:\n from batchkit.datasets import open_table\n"
        "except errors.UsageError as error: print(error, error.hint)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "the libraries for tables are not installed (pyarrow) pip install 'groq-batchkit[annotate]'\n"
