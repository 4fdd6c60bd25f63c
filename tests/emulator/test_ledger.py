import httpx
import orjson

from batchkit.emulator import Scenario
from batchkit.emulator.faults import calls, lines
from tests.emulator.support import chat_lines, ids_of


def test_the_ledger_records_what_was_bought(make_client):
    """It has uploads, batches with their metadata, executions, successes and calls."""
    client = make_client()
    lines_in = chat_lines(10)
    first, second = ids_of(lines_in)[:2]
    client.emulator.set_scenario(
        Scenario(faults=(lines.FailLines(custom_ids={first}), lines.ExpireLines(custom_ids={second}, attempts=1)))
    )
    file_id = client.upload(lines_in)
    batch = client.wait(client.create(file_id, metadata={"workload": "w"}, completion_window="2d")["id"])
    client.run(lines_in[:2])
    ledger = client.emulator.ledger()
    assert ledger.uploads[0].id == file_id
    entry = ledger.batches[0]
    assert (entry.id, entry.metadata, entry.input_file_id) == (batch["id"], {"workload": "w"}, file_id)
    assert (entry.endpoint, entry.window, entry.status) == ("/v1/chat/completions", "2d", "expired")
    assert (entry.completed, entry.failed, entry.held, entry.total) == (8, 1, 1, 10)
    assert (ledger.executions(first), ledger.executions(second), ledger.executions("never")) == (2, 1, 0)
    assert (ledger.successes[first], ledger.successes[second]) == (0, 1)
    assert ledger.execution_counts() == ledger.executed
    assert (ledger.totals.requests_carried, ledger.totals.requests_executed, ledger.totals.requests_succeeded) == (
        12,
        11,
        9,
    )
    assert (ledger.totals.custom_ids, ledger.totals.bought_twice) == (10, 0)
    assert ledger.calls["files.create"] == 2


def test_a_second_success_is_bought_twice(make_client):
    """Every success of a custom_id beyond the first counts."""
    client = make_client()
    lines_in = chat_lines(3)
    for _ in range(3):
        client.run(lines_in)
    assert client.emulator.ledger().totals.bought_twice == 6


def test_the_ledger_is_a_snapshot(make_client):
    """Later events do not change a snapshot, and it can be read after the emulator has closed."""
    client = make_client()
    lines_in = chat_lines(1)
    before = client.emulator.ledger()
    client.run(lines_in)
    assert before.executions(lines_in[0]["custom_id"]) == 0
    assert before.batches == ()


def test_another_process_reads_the_ledger_over_http(make_client):
    """The summary is JSON, and the executions are a stream of JSON lines ordered by custom_id; neither needs a key."""
    client = make_client()
    lines_in = chat_lines(30)
    client.run(lines_in, metadata={"a": "b"})
    summary = httpx.get(f"{client.emulator.root_url}/_emulator/ledger").json()
    assert summary["totals"]["requests_executed"] == 30
    assert summary["batches"][0]["metadata"] == {"a": "b"}
    assert summary["calls"]["batches.create"] == 1
    assert "executed" not in summary
    streamed = httpx.get(f"{client.emulator.root_url}/_emulator/executions").content
    records = [orjson.loads(line) for line in streamed.split(b"\n") if line]
    assert ids_of(records) == sorted(ids_of(lines_in))
    assert records[0] | {"custom_id": ""} == {"custom_id": "", "carried": 1, "executed": 1, "succeeded": 1}


def test_another_process_sets_the_scenario_over_http(make_client):
    """A ready-made name or a whole scenario takes effect at once; nonsense and paths are refused."""
    client = make_client()
    url = f"{client.emulator.root_url}/_emulator/scenario"
    assert httpx.put(url, json="fail-all").json()["name"] == "fail-all"
    assert client.run(chat_lines(1))["request_counts"]["failed"] == 1
    assert httpx.put(url, json={"name": "mine", "faults": [{"fault": "bad-key"}]}).status_code == 200
    assert client.http.get("/models").status_code == 401
    assert httpx.get(url).json()["faults"][0]["fault"] == "bad-key"
    assert httpx.put(url, json="clean").status_code == 200
    for nonsense in (b'"nope"', b'"/etc/hosts.json"', b"{", b'{"sed": 1}'):
        response = httpx.put(url, content=nonsense)
        assert response.status_code == 400
        assert response.json()["error"]["message"]
    assert httpx.get(url).json()["name"] == "clean"


def test_the_catalogue_is_served(client):
    """Every fault is listed with its description."""
    listed = httpx.get(f"{client.emulator.root_url}/_emulator/faults").json()
    assert "lose-reply" in [info["name"] for info in listed]


def test_refused_calls_are_counted(emulate):
    """A refused call is counted too."""
    client = emulate(calls.BadKey())
    before = client.emulator.ledger().calls.get("models.list", 0)
    client.http.get("/models")
    assert client.emulator.ledger().calls["models.list"] == before + 1
