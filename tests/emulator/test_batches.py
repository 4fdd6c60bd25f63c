import re

import pytest

from batchkit.emulator import Scenario, ScenarioLimits, Timing
from batchkit.emulator.faults import batches, calls, lines
from tests.emulator.support import CHAT, Client, chat_lines, ids_of

KEYS = [
    "id",
    "object",
    "endpoint",
    "input_file_id",
    "completion_window",
    "status",
    "output_file_id",
    "error_file_id",
    "created_at",
    "in_progress_at",
    "finalizing_at",
    "completed_at",
    "failed_at",
    "cancelling_at",
    "cancelled_at",
    "expires_at",
    "expired_at",
    "request_counts",
    "metadata",
    "errors",
    "project_id",
]


def test_create_shows_the_batch_object(client):
    """A new batch is validating, has every key in wire order, and expires one window after its creation."""
    shown = client.create(client.upload(chat_lines(1)), metadata={"shard": "3"}, completion_window="48h")
    assert list(shown) == KEYS
    assert re.fullmatch(r"batch_[0-7][0-9a-hjkmnp-tv-z]{25}", shown["id"])
    assert shown["status"] == "validating"
    assert shown["expires_at"] - shown["created_at"] == 48 * 3_600
    assert shown["metadata"] == {"shard": "3"}
    assert shown["request_counts"] == {"completed": 0, "failed": 0, "total": 0}
    assert shown["project_id"].startswith("project_")
    assert [shown[key] for key in KEYS if key.endswith("_at") and key not in {"created_at", "expires_at"}] == [None] * 7


def test_a_completed_batch_has_its_times_in_order(client):
    """Completion sets the three timestamps in order, the counts and only the output file."""
    batch = client.run(chat_lines(5))
    assert batch["status"] == "completed"
    assert batch["created_at"] <= batch["in_progress_at"] <= batch["finalizing_at"] <= batch["completed_at"]
    assert batch["request_counts"] == {"completed": 5, "failed": 0, "total": 5}
    assert batch["output_file_id"] is not None
    assert batch["error_file_id"] is None
    output = client.http.get(f"/files/{batch['output_file_id']}").json()
    assert output["purpose"] == "batch_output"
    assert output["bytes"] == len(client.content(batch["output_file_id"]))


def test_the_statuses_follow_each_other(make_client):
    """A slow batch is validating, then in progress with rising counts and without files, then finalizing."""
    timing = Timing(validating_seconds=2_000, seconds_per_line=200, finalizing_seconds=2_000)
    client = make_client(Scenario(timing=timing), speed=8_000)
    batch = client.create(client.upload(chat_lines(20)))
    seen, counts = [], []
    while batch["status"] != "completed":
        if batch["status"] not in seen:
            seen.append(batch["status"])
        assert batch["output_file_id"] is None
        counts.append(batch["request_counts"]["completed"])
        batch = client.batch(batch["id"])
    assert seen == ["validating", "in_progress", "finalizing"]
    assert counts == sorted(counts)
    assert len(set(counts)) > 3


@pytest.mark.parametrize(
    ("change", "code", "param"),
    [
        ({"endpoint": "/v1/embeddings"}, "invalid_value", "endpoint"),
        ({"completion_window": "1h"}, "invalid_value", "completion_window"),
        ({"completion_window": "8d"}, "invalid_value", "completion_window"),
        ({"completion_window": "a day"}, "invalid_value", "completion_window"),
        ({"completion_window": 24}, "invalid_type", "completion_window"),
        ({"metadata": {"shard": 3}}, "invalid_type", "metadata.shard"),
        ({"metadata": "x"}, "invalid_type", "metadata"),
        ({"metadata": {str(n): "" for n in range(17)}}, "object_above_max_properties", "metadata"),
        ({"metadata": {"k": "v" * 513}}, "string_above_max_length", "metadata.k"),
    ],
)
def test_malformed_creates_are_refused(client, change, code, param):
    """A wrong endpoint, window or metadata is 400 and names the parameter; no batch is created."""
    before = client.emulator.ledger().totals.batches
    response = client.post_batch(client.upload(chat_lines(1)), **change)
    assert response.status_code == 400
    assert (response.json()["error"]["code"], response.json()["error"]["param"]) == (code, param)
    assert client.emulator.ledger().totals.batches == before


def test_a_create_without_its_fields_is_refused(client):
    """A missing field, and a body that is no JSON object, are 400."""
    response = client.http.post("/batches", json={"endpoint": CHAT, "completion_window": "24h"})
    assert response.json()["error"]["param"] == "input_file_id"
    assert client.http.post("/batches", content=b"[").status_code == 400
    assert client.http.post("/batches", json=[]).status_code == 400


@pytest.mark.parametrize(("window", "hours"), [("24h", 24), ("1d", 24), ("36h", 36), ("7d", 168), ("168h", 168)])
def test_windows_from_a_day_to_a_week_are_accepted(client, window, hours):
    """Hours and days are understood."""
    shown = client.create(client.upload(chat_lines(1)), completion_window=window)
    assert shown["expires_at"] - shown["created_at"] == hours * 3_600


def test_an_unknown_input_file_is_accepted_and_fails_later(client):
    """A batch of a file that does not exist is created and then fails with an error that names no line."""
    batch = client.wait(client.create("file_01jh6x76wtemjr74t1fh0faj5t")["id"])
    assert batch["status"] == "failed"
    assert batch["failed_at"] is not None
    assert batch["errors"][0]["code"] == "invalid_request"
    assert batch["errors"][0]["line"] is None


def test_an_input_file_deleted_before_validation_fails_the_batch(make_client):
    """A file that is deleted while its batch is validating is not found."""
    client = make_client(Scenario(timing=Timing(validating_seconds=10_000)), speed=100_000)
    file_id = client.upload(chat_lines(1))
    batch = client.create(file_id)
    client.http.delete(f"/files/{file_id}")
    assert client.wait(batch["id"])["status"] == "failed"


@pytest.mark.parametrize("status", [400, 404])
def test_an_unknown_input_file_may_be_refused_at_once(emulate, status):
    """A fault makes the create refuse an unknown file, and no others."""
    client = emulate(calls.UnknownFileRefused(status=status))
    assert client.post_batch("file_nonsense").status_code == status
    assert client.post_batch(client.upload(chat_lines(1))).status_code == 200


def test_unknown_batches_are_404(client):
    """Reading and cancelling a batch that does not exist is 404."""
    assert client.http.get("/batches/batch_nope").status_code == 404
    assert client.http.post("/batches/batch_nope/cancel").status_code == 404


def test_cancel_keeps_finished_lines(make_client):
    """A batch is cancelling first, then cancelled, with the finished lines in one file and all others in the other."""
    client = make_client(Scenario(timing=Timing(seconds_per_line=400, cancelling_seconds=2_000)), speed=40_000)
    lines_in = chat_lines(100)
    batch = client.create(client.upload(lines_in))
    client.wait_for_results(batch["id"])
    cancelling = client.http.post(f"/batches/{batch['id']}/cancel").json()
    assert cancelling["status"] == "cancelling"
    assert cancelling["cancelling_at"] is not None
    assert cancelling["output_file_id"] is None
    cancelled = client.wait(batch["id"])
    assert cancelled["status"] == "cancelled"
    output, errors = client.results(cancelled)
    assert 0 < len(output) < 100
    assert sorted(ids_of(output) + ids_of(errors)) == sorted(ids_of(lines_in))
    assert {record["error"]["code"] for record in errors} == {"batch_cancelled"}
    assert cancelled["request_counts"] == {"completed": len(output), "failed": 0, "total": 100}
    assert client.emulator.ledger().totals.requests_executed == len(output)
    assert client.http.post(f"/batches/{batch['id']}/cancel").json()["status"] == "cancelled"


def test_cancel_while_validating_leaves_no_files(make_client):
    """A batch that is cancelled before it ran has no files and executed nothing."""
    client = make_client(Scenario(timing=Timing(validating_seconds=50_000)), speed=50_000)
    batch = client.create(client.upload(chat_lines(3)))
    client.http.post(f"/batches/{batch['id']}/cancel")
    cancelled = client.wait(batch["id"])
    assert (cancelled["status"], cancelled["output_file_id"], cancelled["error_file_id"]) == ("cancelled", None, None)
    assert client.emulator.ledger().totals.requests_executed == 0


def test_cancel_after_the_end_is_a_conflict(client):
    """Cancelling a completed batch is 409, and the batch is unchanged."""
    batch = client.run(chat_lines(1))
    response = client.http.post(f"/batches/{batch['id']}/cancel")
    assert response.status_code == 409
    assert "completed" in response.json()["error"]["message"]
    assert client.batch(batch["id"]) == batch


@pytest.mark.parametrize("status", [200, 400])
def test_cancel_after_the_end_may_be_answered_otherwise(emulate, status):
    """A fault changes the status of that answer."""
    client = emulate(batches.CancelEnded(status=status))
    batch = client.run(chat_lines(1))
    assert client.http.post(f"/batches/{batch['id']}/cancel").status_code == status


def test_a_batch_expires_with_its_finished_lines(emulate):
    """Unfinished lines are in the error file, the others in the output; the counts are below the total."""
    client = emulate(lines.ExpireLines(count=3))
    lines_in = chat_lines(10)
    batch = client.run(lines_in)
    assert batch["status"] == "expired"
    assert batch["expired_at"] == batch["expires_at"]
    assert batch["completed_at"] is None
    assert batch["request_counts"] == {"completed": 7, "failed": 0, "total": 10}
    output, errors = client.results(batch)
    assert len(output) == 7
    assert len(errors) == 3
    assert errors[0]["response"] is None
    assert errors[0]["error"]["code"] == "batch_expired"
    assert sorted(ids_of(output + errors)) == sorted(ids_of(lines_in))


def test_a_batch_that_is_too_slow_expires(make_client):
    """Lines whose turn would come after the end of the window expire, without any fault."""
    client = make_client(Scenario(timing=Timing(seconds_per_line=3_600)), speed=864_000)
    batch = client.run(chat_lines(30))
    assert batch["status"] == "expired"
    output, errors = client.results(batch)
    assert (len(output), len(errors)) == (23, 7)
    assert client.emulator.ledger().totals.requests_executed == 23


def test_expired_lines_may_be_in_neither_file(emulate):
    """A fault leaves unexecuted lines out of the error file."""
    client = emulate(lines.ExpireLines(count=3), batches.UnlistedLines())
    batch = client.run(chat_lines(10))
    assert (batch["status"], batch["error_file_id"]) == ("expired", None)
    assert len(client.records(batch["output_file_id"])) == 7


class TestListing:
    """GET /batches."""

    def test_pages_follow_each_other_newest_first(self, make_client):
        """Pages hold 20 batches, newest first, and are chained by an opaque cursor."""
        client = make_client()
        file_id = client.upload(chat_lines(1))
        created = [client.create(file_id)["id"] for _ in range(45)]
        pages = client.pages()
        assert [len(page["data"]) for page in pages] == [20, 20, 5]
        assert [shown["id"] for page in pages for shown in page["data"]] == created[::-1]
        assert pages[0]["paging"]["next_cursor"].startswith("cursor_")
        assert not pages[-1]["paging"]

    def test_an_empty_account_has_an_empty_page(self, make_client):
        """Without batches, the list is empty."""
        assert make_client().pages() == [{"object": "list", "data": [], "paging": {}}]

    @pytest.mark.parametrize("cursor", ["nonsense", "cursor_!!", "cursor_e30", "cursor_eyJpZCI6ImJhdGNoX3gifQ"])
    def test_an_unknown_cursor_is_refused(self, client, cursor):
        """It is 400."""
        assert client.http.get("/batches", params={"cursor": cursor}).status_code == 400

    def test_batches_can_be_requested_by_id(self, client):
        """Repeated ids return those batches in another order, without paging; unknown ids are left out."""
        file_id = client.upload(chat_lines(1))
        wanted = [client.create(file_id)["id"] for _ in range(30)]
        listed = client.http.get("/batches", params=[("id", one) for one in [*wanted, "batch_nope"]]).json()
        assert "paging" not in listed
        found = [shown["id"] for shown in listed["data"]]
        assert sorted(found) == sorted(wanted)
        assert found not in (wanted, wanted[::-1])

    def test_at_most_200_ids(self, client):
        """200 ids are answered, 201 are refused."""
        assert client.http.get("/batches", params=[("id", f"batch_{n}") for n in range(200)]).json()["data"] == []
        assert client.http.get("/batches", params=[("id", f"batch_{n}") for n in range(201)]).status_code == 400

    def test_a_comma_separated_list_is_one_unknown_id(self, client):
        """Ids joined by a comma, as an SDK encodes a list, name no batch."""
        file_id = client.upload(chat_lines(1))
        joined = ",".join(client.create(file_id)["id"] for _ in range(2))
        assert client.http.get("/batches", params={"id": joined}).json()["data"] == []

    @pytest.mark.parametrize(
        ("how", "sizes"),
        [
            ("no-paging", [2, 1]),
            ("null-cursor", [2, 1]),
            ("overlap", [2, 2]),
            ("empty-page", [0, 2, 1]),
            ("single-page", [2]),
            ("repeat", [2, 2, 2, 2]),
        ],
    )
    def test_pages_can_go_wrong(self, make_client, how, sizes):
        """Each kind of wrong paging has its own sequence of pages."""
        client = make_client(Scenario(faults=(calls.ListPages(how=how),), limits=ScenarioLimits(page_size=2)))
        file_id = client.upload(chat_lines(1))
        created = [client.create(file_id)["id"] for _ in range(3)]
        pages = client.pages(limit=4)
        assert [len(page["data"]) for page in pages] == sizes
        if how == "no-paging":
            assert "paging" not in pages[-1]
        elif how == "null-cursor":
            assert pages[-1]["paging"] == {"next_cursor": None}
        elif how == "overlap":
            assert pages[1]["data"][0]["id"] == pages[0]["data"][-1]["id"] == created[1]

    def test_cursors_can_be_refused(self, make_client):
        """A server may refuse its own cursor."""
        client = make_client(
            Scenario(faults=(calls.ListPages(how="refuse-cursor"),), limits=ScenarioLimits(page_size=1))
        )
        file_id = client.upload(chat_lines(1))
        for _ in range(2):
            client.create(file_id)
        cursor = client.pages(limit=1)[0]["paging"]["next_cursor"]
        assert client.http.get("/batches", params={"cursor": cursor}).status_code == 400

    def test_the_list_can_lag(self, emulate):
        """A new batch is missing from the first list calls, but can be read."""
        client: Client = emulate(batches.ListLag(calls=2))
        batch_id = client.create(client.upload(chat_lines(1)))["id"]
        listed = [batch_id in [shown["id"] for shown in client.http.get("/batches").json()["data"]] for _ in range(3)]
        assert listed == [False, False, True]
        assert client.batch(batch_id)["id"] == batch_id

    def test_a_batch_can_be_absent_for_a_moment(self, emulate):
        """It is hidden from the selected list calls, by id too, and from reads by its id until the next list call."""
        client: Client = emulate(batches.AbsentBatches(listings={2, 4}))
        batch_id = client.create(client.upload(chat_lines(1)))["id"]
        seen = []
        for query in ({}, {"id": batch_id}, {"id": batch_id}, {}, {}):
            listed = client.http.get("/batches", params=query).json()["data"]
            status = client.http.get(f"/batches/{batch_id}").status_code
            seen.append((batch_id in [shown["id"] for shown in listed], status))
        assert seen == [(True, 200), (False, 404), (True, 200), (False, 404), (True, 200)]
