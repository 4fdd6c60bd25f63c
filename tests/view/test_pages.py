"""What the pages show, on both kinds of database, without a key and without a provider."""

from __future__ import annotations

import csv
import io
import re
from types import SimpleNamespace

import pyarrow as pa
import pytest
from pyarrow import parquet as pq
from sqlalchemy import insert, select, text

from batchkit.api import reading
from batchkit.engine.runtime import Runner
from batchkit.models import RequestState, ShardState
from batchkit.reports.writing import write_report
from batchkit.settings import load_settings
from batchkit.store import custom_id_index
from batchkit.store.engine import Store
from batchkit.store.tables import requests, shards, workloads
from batchkit.view import finding
from batchkit.view.server import ViewServer
from tests.factories import NOW, add_shard, add_workload
from tests.view.conftest import Browsing, serving
from tests.view.labelled import annotate
from tests.view.whole import run_whole

NAME = "night ä/../<b>"


def ids(reply):
    """Return the custom_ids of a table of requests."""
    return re.findall(r'<a class="id" href="[^"]*">([^<]*)</a>', reply.text)


def following(reply):
    """Return the address of the next page; None at the end."""
    found = re.search(r'id="following" rel="next" href="([^"]*)"', reply.text)
    return None if found is None else found[1].replace("&amp;", "&")


def walk(view, first):
    """Return the custom_ids of all pages from an address on."""
    found, url = [], first
    while url is not None:
        reply = view.get(url)
        assert reply.status == 200
        found += ids(reply)
        url = following(reply)
    return found


@pytest.fixture
def store(database_url):
    """Open the database of the server for writing."""
    opened = Store(database_url)
    yield opened
    opened.close()


def fill(store, *, merged=60, failed=6, pending=3):
    """Add a workload with requests in all states, row-0 to row-70; every tenth answer is of the model ``big``."""
    with store.write() as connection:
        workload = add_workload(connection, NAME)
        add_shard(connection, workload, lines=merged, state=ShardState.MERGED)
        for state, lines in ((RequestState.FAILED, failed), (RequestState.PENDING, pending)):
            add_shard(connection, workload, lines=lines, state=ShardState.MERGED, request_state=state)
        add_shard(connection, workload, lines=2, state=ShardState.SUBMITTED)
        for statement in (
            "INSERT INTO names (id, name) VALUES (1, 'big'), (2, 'small')",
            "UPDATE results SET model = CASE WHEN seq % 10 = 0 THEN 1 ELSE 2 END WHERE state = 'succeeded'",
            "UPDATE results SET error_code = CASE WHEN seq % 2 = 0 THEN NULL ELSE 'bad_image' END WHERE state = 'failed'",
            """UPDATE bodies SET body = replace(body, 'answer ' || seq, 'answer ' || (seq % 7))""",
        ):
            connection.execute(text(statement))
    return NAME


def unlike(table, id_, first):
    """Return what the copy of a row must have of its own."""
    if table is workloads:
        return {"name": f"w{id_ - first:03}"}
    if table is shards:
        return {"id": 10_000 + id_, "key": f"key {id_}", "batch_id": f"batch {id_}"}
    return {"shard_id": 10_000 + id_}


def test_it_works_on_nothing(tmp_path, empty_database_url):
    """Without a database, or with an empty one, the pages say so, and nothing is created."""
    with serving(tmp_path / "home", empty_database_url) as view:
        for path in ("/", "/workload?name=x", "/requests?name=x"):
            reply = view.get(path)
            assert "nothing yet" in reply.words
            assert "batchkit run requests.jsonl" in reply.words
    assert list(tmp_path.iterdir()) == []


def test_the_sessions_cannot_write(view, store):
    """Whatever a page would try, the database refuses it."""
    name = fill(store)
    assert view.get("/workload", name=name).status == 200
    reader = view.server._view.reader
    with pytest.raises(Exception, match=r"read.?only"), reader.store.read() as connection:
        connection.execute(text("DELETE FROM requests"))
    with pytest.raises(Exception, match="only read"), reader.store.write():
        pass


def test_home_lists_a_thousand_workloads_by_pages(view, store):
    """Running ones come first; by name and state they are filtered; each page reads only what it shows."""
    with store.write() as connection:
        add_shard(connection, add_workload(connection, "old but running"), lines=4, state=ShardState.SUBMITTED)
        done = add_shard(connection, add_workload(connection, "w000"), lines=1, state=ShardState.MERGED)
        copies = [done.workload_id + number for number in range(1, 1_000)]
        for table, key in ((workloads, "id"), (shards, "workload_id"), (requests, "workload_id")):
            row = dict(connection.execute(select(table).where(table.c[key] == done.workload_id)).mappings().one())
            made = [{**row, key: id_, **unlike(table, id_, done.workload_id)} for id_ in copies]
            connection.execute(insert(table), made)
    first = view.get("/")
    names = re.findall(r'<a href="/workload\?name=([^"]*)"', first.text)
    assert (len(names), names[0], names[1]) == (25, "old+but+running", "w999")
    assert "1,001 workloads, 1 running" in first.words
    assert "page 1 of 41" in first.words
    assert "1 batch at the provider" in first.words
    assert re.findall(r'name=(w\d+)"', view.get("/", order="name", page=41).text) == ["w999"]
    assert re.findall(r'name=(w\d+)"', view.get("/", q="W01", order="name").text)[:2] == ["w010", "w011"]
    assert re.findall(r'name=([^"]*)"', view.get("/", show="running").text.partition("<tbody")[2]) == [
        "old+but+running"
    ]
    assert view.get("/", page="99999999999999", show="odd", order="'").status == 200


def test_a_workload_shows_what_its_report_shows(view, store):
    """State, failures by reason with a link to the requests, batches, and the command that resumes."""
    name = fill(store)
    reply = view.get("/workload", name=name)
    assert "running" in reply.words
    assert "6 requests failed" in reply.words
    assert "3 with bad_image" in reply.words
    assert "batchkit watch" in reply.words
    assert "<bdi>night ä/../&lt;b&gt;</bdi>" in reply.text
    assert view.get("/workload", name="other").status == 404


def test_requests_are_filtered_and_paged(view, store, monkeypatch):
    """By state, error, model, answer and custom_id, alone and together; pages have each request once, in input order."""
    monkeypatch.setattr("batchkit.view.requests._ON_A_PAGE", 7)
    name = fill(store)
    everything = walk(view, "/requests?name=night+%C3%A4%2F..%2F%3Cb%3E")
    assert everything == [f"row-{seq}" for seq in range(71)]

    def found(**asked):
        reply = view.get("/requests", name=name, **asked)
        url = following(reply)
        return ids(reply) + (walk(view, url) if url else [])

    assert found(state="failed") == [f"row-{seq}" for seq in range(60, 66)]
    assert found(state="pending") == ["row-66", "row-67", "row-68"]
    assert found(state="in_flight") == ["row-69", "row-70"]
    assert len(found(state="succeeded")) == 60
    assert found(error="bad_image") == ["row-61", "row-63", "row-65"]
    assert found(error="unknown") == ["row-60", "row-62", "row-64"]
    assert found(error="bad_image", state="succeeded") == []
    assert found(model="big") == [f"row-{seq}" for seq in range(0, 60, 10)]
    assert found(model="none") == []
    assert found(label="answer 3") == [f"row-{seq}" for seq in range(3, 60, 7)]
    assert found(label="answer 3", model="big") == ["row-10"]
    assert found(id="row-17") == ["row-17"]
    assert found(id="ROW-17") == []
    assert found(id="row-1", match="prefix") == ["row-1", *(f"row-{seq}" for seq in range(10, 20))]
    assert found(id="w-5", match="contains", state="succeeded") == ["row-5", *(f"row-{seq}" for seq in range(50, 60))]
    assert found(id="%", match="contains") == []
    assert view.get("/requests", name=name, state="odd").status == 400
    back = view.get("/requests", name=name, before=7)
    assert ids(back) == [f"row-{seq}" for seq in range(7)]


def test_a_search_without_an_index_says_so_and_shows_progress(view, store, monkeypatch):
    """It reads for a moment, says how far it got, and continues from there; with the index it finds at once, and says nothing."""
    name = fill(store)
    monkeypatch.setattr(finding, "_FIRST_RANGE", 10)
    clock = iter(range(10_000))
    monkeypatch.setattr(finding, "time", SimpleNamespace(monotonic=lambda: next(clock) / 1e6))
    monkeypatch.setattr(finding, "_SCAN_SECONDS", 1.5e-6)
    reply = view.get("/requests", name=name, id="row-55")
    assert "read one after another: 10 of 71 so far" in reply.words
    assert "batchkit db index" in reply.words
    assert ids(reply) == []
    assert walk(view, following(reply)) == ["row-55"]

    custom_id_index.build(store)
    custom_id_index.build(store)
    reply = view.get("/requests", name=name, id="row-55")
    assert (ids(reply), "one after another" in reply.words) == (["row-55"], False)
    for other, is_found in (({"state": "failed"}, False), ({"model": "small"}, True), ({"model": "big"}, False)):
        assert ids(view.get("/requests", name=name, id="row-55", **other)) == (["row-55"] if is_found else [])
    assert walk(view, "/requests?name=night+%C3%A4%2F..%2F%3Cb%3E&id=row-6&match=prefix") == sorted(
        ["row-6", *(f"row-{seq}" for seq in range(60, 70))]
    )
    custom_id_index.drop(store)
    assert "one after another" in view.get("/requests", name=name, id="row-55").words


def test_a_request_shows_everything_of_it(view, database_url, tmp_path):
    """Question from its place in the file, attempts with their errors, answer as text and raw, batch and times."""
    name = run_whole(tmp_path, database_url)
    reply = view.get("/requests", name=name)
    assert ids(reply)[:2] == ["first", "twice"]
    shown = view.get("/request", name=name, place=2)
    assert "What is the capital of <Peru>?" in shown.words
    assert "max_tokens" in shown.words
    assert "2 attempts" in shown.words
    assert "Attempts without a usable answer" in shown.words
    assert "expired" in shown.words
    assert "submitting -> submitted" in shown.words
    assert "batch_" in shown.words
    raw = view.get("/answer", name=name, place=2)
    assert raw.headers["content-type"] == "application/json"
    assert raw.headers["content-disposition"].startswith("attachment")
    assert b'"choices"' in raw.body
    assert view.get("/request", name=name, place=4).status == 404
    for place in ("0", "-1", "x", "9" * 40, "1 OR 1=1"):
        assert view.get("/request", name=name, place=place).status == 404


def test_downloads_are_those_of_export(view, store, tmp_path, database_url):
    """The rows of a filter, in the lines and columns of ``batchkit export``; without a filter, the same file."""
    name = fill(store)
    settings = load_settings(home=tmp_path / "home", database_url=database_url)
    for kind in ("csv", "jsonl", "parquet"):
        target = tmp_path / f"all.{kind}"
        reading.export(name, target, settings=settings)
        reply = view.get("/download", name=name, format=kind)
        assert reply.headers["content-disposition"].startswith("attachment; filename=")
        if kind == "parquet":
            assert pq.read_table(pa.BufferReader(reply.body)).equals(pq.read_table(target))
        else:
            assert reply.body == target.read_bytes()
    rows = list(csv.DictReader(io.StringIO(view.get("/download", name=name, state="failed", error="bad_image").text)))
    assert [row["custom_id"] for row in rows] == ["row-61", "row-63", "row-65"]
    assert view.get("/download", name=name, format="exe").status == 400


def test_the_saved_page_is_the_report(view, store, tmp_path, database_url, monkeypatch):
    """``Save as file`` gives the bytes that ``batchkit report`` writes at the same moment."""
    name = fill(store)
    monkeypatch.setattr(view.server._view.reader, "clock", lambda: NOW)
    settings = load_settings(home=tmp_path / "home", database_url=database_url)
    with Runner(settings, clock=lambda: NOW) as runner:
        page = write_report(runner, name, tmp_path / "page.html")
    saved = view.get("/report", name=name)
    assert saved.body == page.read_bytes()
    assert saved.headers["content-disposition"].startswith("attachment")


def test_an_annotation_shows_labels_agreement_and_rows_to_review(view, database_url, tmp_path):
    """Shares by annotator, kappas, the disputed rows first; a workload of requests has no such page."""
    workload = annotate(tmp_path / "home", database_url, tmp_path, 24)
    reply = view.get("/annotation", name=workload.name)
    assert "Agreement of 3 annotators" in reply.words
    assert "75.0%" in reply.words
    assert reply.words.count("disputed") >= 6
    assert reply.words.index("review-1 disputed") < reply.words.index("review-5 disputed")
    assert ids(view.get("/requests", name=workload.name, label="mixed"))[0] == "review-1:gpt-oss-120b:1"
    columns = view.get("/request", name=workload.name, place=1)
    assert "As columns answer positive" in columns.words


def test_an_older_schema_is_named(view, store):
    """The page says which command helps, and changes nothing."""
    with store.write() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0015'"))
        connection.execute(text("ALTER TABLE reviews DROP COLUMN note"))
        connection.execute(text("ALTER TABLE events RENAME TO other"))
    reply = view.get("/")
    assert reply.status == 503
    assert "batchkit db upgrade" in reply.words


def test_a_path_in_the_database_does_not_leave_the_spool(view, store, tmp_path):
    """Who has changed the database gets no file of this machine to see."""
    name = fill(store)
    secret = tmp_path / "secret.txt"
    secret.write_text('{"body": {"messages": [{"role": "user", "content": "the secret"}]}}')
    with store.write() as connection:
        connection.execute(
            text("UPDATE shards SET path = :path, byte_count = :size"),
            {"path": f"../../{secret.name}", "size": secret.stat().st_size},
        )
        connection.execute(text("UPDATE requests SET line_offset = 0, line_length = 500"))
    (tmp_path / "home" / "spool").mkdir(parents=True)
    reply = view.get("/request", name=name, place=1)
    assert "the secret" not in reply.text
    assert "not available" in reply.words


def test_no_page_shows_the_key(database_url, tmp_path, store):
    """Neither the key nor the digest of the credential, which the database holds, is on any page."""
    name = fill(store)
    digest = "0123456789abcdef" * 4
    with store.write() as connection:
        connection.execute(text("UPDATE workloads SET credential = :digest"), {"digest": digest})
    settings = load_settings(home=tmp_path / "home", database_url=database_url, api_key="gsk_never_shown")
    with ViewServer(settings, port=0) as server:
        view = Browsing(server)
        for reply in (
            view.get("/"),
            view.get("/workload", name=name),
            view.get("/requests", name=name),
            view.get("/request", name=name, place=1),
            view.get("/report", name=name),
            view.get("/download", name=name, format="jsonl"),
        ):
            assert reply.status == 200
            assert "gsk_never_shown" not in reply.text
            assert digest not in reply.text
