import pytest

from batchkit.emulator import Scenario, Timing
from batchkit.emulator.faults import batches, lines
from tests.emulator.support import TERMINAL, chat_lines, ids_of


def test_output_may_be_shuffled(emulate):
    """All lines are there, with the same number of bytes, in another order."""
    client = emulate("out-of-order")
    lines_in = chat_lines(200)
    output, _ = client.results(client.run(lines_in))
    assert ids_of(output) != ids_of(lines_in)
    assert sorted(ids_of(output)) == sorted(ids_of(lines_in))


@pytest.mark.parametrize("status", ["validating", "in_progress", "finalizing"])
def test_batches_can_be_stuck_past_their_window(make_client, status):
    """A stuck batch keeps its status after expires_at, and a new scenario releases it."""
    client = make_client(Scenario(faults=(batches.StuckBatches(status=status),)), speed=2_000_000)
    batch = client.create(client.upload(chat_lines(2)))
    client.wait(batch["id"], status)
    while client.emulator.world.clock.now() < batch["expires_at"]:
        pass
    assert client.batch(batch["id"])["status"] == status
    assert client.emulator.ledger().totals.requests_executed == (2 if status == "finalizing" else 0)
    client.emulator.set_scenario("clean")
    assert client.wait(batch["id"])["status"] in {"completed", "expired"}


def test_only_selected_batches_are_hit(emulate):
    """A fault for the second batch does not affect the first and the third."""
    client = emulate(batches.FailBatches(batches={2}, code="too_many_tasks"))
    assert [client.run(chat_lines(1))["status"] for _ in range(3)] == ["completed", "failed", "completed"]


@pytest.mark.parametrize("ends_as", ["cancelled", "completed"])
def test_a_cancellation_can_be_slow_and_end_as_completed(make_client, ends_as):
    """A slow cancellation takes its ten minutes and ends with the fault's status, with partial files."""
    faults = (batches.SlowCancel(seconds=600, ends_as=ends_as), batches.SlowBatches(seconds_per_line=60))
    client = make_client(Scenario(faults=faults), speed=6_000)
    batch = client.create(client.upload(chat_lines(50)))
    client.wait_for_results(batch["id"])
    cancelling = client.http.post(f"/batches/{batch['id']}/cancel").json()
    ended = client.wait(batch["id"])
    assert ended["status"] == ends_as
    assert ended[f"{ends_as}_at"] - cancelling["cancelling_at"] in {600, 601}
    output, errors = client.results(ended)
    assert output
    assert len(output) + len(errors) == 50


def test_finalizing_can_be_long(make_client):
    """All counts are final while the batch is still finalizing."""
    client = make_client(Scenario(faults=(batches.SlowBatches(finalizing_seconds=2_000),)), speed=8_000)
    batch = client.create(client.upload(chat_lines(3)))
    finalizing = client.wait(batch["id"], "finalizing")
    assert finalizing["request_counts"]["completed"] == 3
    assert finalizing["output_file_id"] is None
    assert client.wait(batch["id"])["completed_at"] - finalizing["finalizing_at"] in {2_000, 2_001}


@pytest.mark.parametrize(
    ("say", "shown"),
    [
        ("all-completed", {"completed": 4, "failed": 0, "total": 4}),
        ("none-failed", {"completed": 3, "failed": 0, "total": 4}),
        ("zeros", {"completed": 0, "failed": 0, "total": 0}),
        ("null", None),
    ],
)
def test_counts_can_be_wrong(emulate, say, shown):
    """The counts of an ended batch differ from its files; the ledger has the correct ones."""
    client = emulate(lines.FailLines(count=1), batches.LyingCounts(say=say))
    batch = client.run(chat_lines(4))
    assert batch["request_counts"] == shown
    assert len(client.records(batch["error_file_id"])) == 1
    assert client.emulator.ledger().batches[-1].failed == 1


def test_counts_can_be_absent(emulate):
    """The key may be missing."""
    assert "request_counts" not in emulate(batches.LyingCounts(say="absent")).run(chat_lines(1))


@pytest.mark.parametrize(("value", "shown"), [("empty", ""), ("object", {})])
def test_a_missing_file_can_be_written_oddly(emulate, value, shown):
    """A missing file id is an empty string or an empty object; an existing one is unchanged."""
    batch = emulate(batches.NoFileAs(value=value)).run(chat_lines(1))
    assert batch["error_file_id"] == shown
    assert batch["output_file_id"].startswith("file_")


def test_the_key_of_a_missing_file_can_be_absent(emulate):
    """The object then has no such key."""
    assert "error_file_id" not in emulate(batches.NoFileAs(value="absent")).run(chat_lines(1))


def test_empty_files_can_be_named(emulate):
    """An empty error file has an id, and it can be read."""
    client = emulate(batches.EmptyFiles())
    batch = client.run(chat_lines(1))
    assert client.content(batch["error_file_id"]) == b""
    assert client.http.get(f"/files/{batch['error_file_id']}").json()["bytes"] == 0


def test_a_file_can_be_hidden(emulate):
    """The id of an existing output file is not given."""
    client = emulate(batches.HideFiles())
    assert client.run(chat_lines(1))["output_file_id"] is None
    assert client.emulator.ledger().batches[-1].output_file_id is not None


@pytest.mark.parametrize(("shape", "kind"), [("object", dict), ("null", type(None))])
def test_errors_have_other_shapes(emulate, shape, kind):
    """The errors of a failed batch may be an object with data, or null."""
    errors = emulate(batches.ErrorsShape(shape=shape)).run([{"custom_id": "x"}])["errors"]
    assert isinstance(errors, kind)
    if errors:
        assert errors["object"] == "list"
        assert errors["data"][0]["line"] == 1


def test_errors_can_be_an_empty_object_on_success(emulate):
    """Where there are no errors the value may be {}."""
    assert emulate(batches.ErrorsShape(shape="empty-object")).run(chat_lines(1))["errors"] == {}


def test_a_completed_batch_can_carry_errors(emulate):
    """An entry in errors does not mean that the batch failed."""
    batch = emulate(batches.ErrorsOnCompleted()).run(chat_lines(1))
    assert (batch["status"], batch["errors"][0]["code"]) == ("completed", "invalid_method")


def test_timestamps_can_be_sparse(emulate):
    """Passed statuses may have no time."""
    batch = emulate(batches.SparseTimestamps()).run(chat_lines(1))
    assert (batch["in_progress_at"], batch["finalizing_at"]) == (None, None)
    assert batch["completed_at"] is not None


def test_statuses_can_be_hidden_and_renamed(make_client):
    """A running batch is shown as validating, or with an unknown status."""
    timing = Timing(seconds_per_line=100)
    for fault, word in ((batches.SkipStatuses(), "validating"), (batches.RenameStatus(shown="queued"), "queued")):
        client = make_client(Scenario(timing=timing, faults=(fault,)), speed=10_000)
        batch_id = client.create(client.upload(chat_lines(30)))["id"]
        seen = set()
        while (status := client.batch(batch_id)["status"]) != "completed":
            seen.add(status)
        assert word in seen
        assert "in_progress" not in seen


def test_objects_can_have_more_or_fewer_fields(emulate):
    """Fields may be added and removed."""
    batch = emulate(batches.ExtraFields(fields={"new": 1}), batches.OmitFields(fields={"metadata"})).run(chat_lines(1))
    assert batch["new"] == 1
    assert "metadata" not in batch


def test_the_providers_clock_can_be_wrong(emulate):
    """All timestamps are shifted together."""
    client = emulate(batches.SkewedClock(seconds=-86_400))
    batch = client.run(chat_lines(1))
    assert client.emulator.ledger().batches[-1].created_at - batch["created_at"] == 86_400
    assert batch["expires_at"] - batch["created_at"] == 86_400


def test_ended_batches_can_be_gone(emulate):
    """After its retention a batch is 404, is not listed, and cannot be cancelled."""
    client = emulate(batches.GoneBatches())
    batch_id = client.create(client.upload(chat_lines(1)))["id"]
    while (response := client.http.get(f"/batches/{batch_id}")).status_code == 200:
        assert response.json()["status"] not in TERMINAL
    assert response.status_code == 404
    assert client.http.get("/batches", params={"id": batch_id}).json()["data"] == []
    assert batch_id not in [shown["id"] for shown in client.http.get("/batches").json()["data"]]
    assert client.http.post(f"/batches/{batch_id}/cancel").status_code == 404


def test_a_gone_batch_can_come_as_an_error_object_with_status_200(emulate):
    """Reading it returns HTTP 200 with the error as its body; the list omits it as before."""
    client = emulate(batches.GoneBatches(status=200))
    batch_id = client.create(client.upload(chat_lines(1)))["id"]
    while "error" not in (shown := client.http.get(f"/batches/{batch_id}").raise_for_status().json()):
        assert shown["status"] not in TERMINAL
    assert shown["error"]["code"] == "not_found"
    assert "id" not in shown
    assert client.http.get("/batches", params={"id": batch_id}).json()["data"] == []


def test_the_ids_of_result_files_can_come_late(make_client):
    """The batch has ended and its files exist, but their ids come only after a while."""
    client = make_client(Scenario(faults=(batches.LateFiles(seconds=2_000),)), speed=8_000)
    ended = client.run(chat_lines(2))
    assert (ended["status"], ended["output_file_id"]) == ("completed", None)
    assert client.emulator.ledger().batches[-1].output_file_id is not None
    while (shown := client.batch(ended["id"]))["output_file_id"] is None:
        assert client.emulator.world.clock.now() < ended["completed_at"] + 4_000
    assert client.emulator.world.clock.now() >= ended["completed_at"] + 2_000
    assert len(client.records(shown["output_file_id"])) == 2


def test_an_input_can_be_lost_before_it_is_validated(emulate):
    """The create is accepted, and the batch fails because its file cannot be found."""
    batch = emulate(batches.LostInput()).run(chat_lines(1))
    assert (batch["status"], batch["output_file_id"]) == ("failed", None)
    assert (batch["errors"][0]["code"], batch["errors"][0]["line"]) == ("invalid_request", None)
    assert "Cannot find file" in batch["errors"][0]["message"]


def test_a_share_of_the_batches_is_selected_by_the_seed(emulate):
    """The same seed hits the same batches, another seed others, and neither all nor none."""

    def failed(seed):
        client = emulate(batches.FailBatches(fraction=0.5), seed=seed)
        return [client.run(chat_lines(1))["status"] == "failed" for _ in range(12)]

    first = failed(1)
    assert first == failed(1)
    assert first != failed(2)
    assert 0 < sum(first) < 12
