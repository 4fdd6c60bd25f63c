import os
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import httpx
import pytest

from batchkit.emulator import DEFAULT_PROVIDER, DirectoryInUse, Emulator, Scenario, Timing
from batchkit.emulator.faults import batches, calls, lines
from batchkit.errors import BatchkitError, UsageError
from tests.emulator.dialects import create
from tests.emulator.support import FAST, Client, chat_lines, ids_of

SERVE = """
import sys
from pathlib import Path
from batchkit.emulator import serve
serve(Path(sys.argv[1]), speed=float(sys.argv[2]), port=int(sys.argv[3]), on_ready=lambda e: print(e.root_url, flush=True))
print("ended", flush=True)
"""


def start(directory, *, speed=FAST, port=0):
    """Start an emulator in another process and return it with its URL."""
    process = subprocess.Popen(
        [sys.executable, "-c", SERVE, str(directory), str(speed), str(port)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def test_everything_survives_a_restart(tmp_path):
    """Files, batches, results, the ledger, the calls and the clock are restored."""
    lines_in = chat_lines(5)
    with Emulator(tmp_path, speed=FAST) as emulator, Client(emulator) as client:
        batch = client.run(lines_in, metadata={"a": "b"})
        content = client.content(batch["output_file_id"])
        before = emulator.ledger()
        seen = emulator.world.clock.now()
    with Emulator(tmp_path, speed=1) as emulator, Client(emulator) as client:
        assert client.batch(batch["id"]) == batch
        assert client.content(batch["output_file_id"]) == content
        after = emulator.ledger()
        assert after.batches == before.batches
        assert after.executed == before.executed
        assert after.calls["files.create"] == before.calls["files.create"]
        assert emulator.world.clock.now() >= seen


def test_a_batch_continues_after_a_restart(tmp_path):
    """A batch that was running ends with one result per line, each executed once."""
    lines_in = chat_lines(300)
    slow = Scenario(timing=Timing(seconds_per_line=50), faults=(batches.ShuffleOutput(),))
    with Emulator(tmp_path, slow, speed=50_000) as emulator, Client(emulator) as client:
        batch = client.create(client.upload(lines_in))
        client.wait_for_results(batch["id"])
    with Emulator(tmp_path, speed=50_000) as emulator, Client(emulator) as client:
        assert emulator.world.script.scenario == slow
        done = client.wait(batch["id"])
        assert done["status"] == "completed"
        assert sorted(ids_of(client.records(done["output_file_id"]))) == sorted(ids_of(lines_in))
        assert set(emulator.ledger().executed.values()) == {1}


def test_a_killed_emulator_continues(tmp_path):
    """After kill -9 in mid-batch no line is lost, doubled or executed twice."""
    lines_in = chat_lines(5_000)
    process, url = start(tmp_path, speed=20_000)
    try:
        httpx.put(f"{url}/_emulator/scenario", json={"timing": {"seconds_per_line": 8}})
        with httpx.Client(base_url=f"{url}/openai/v1", headers={"authorization": "Bearer x"}, timeout=20) as http:
            client = Client.__new__(Client)
            client.http = http
            batch = client.create(client.upload(lines_in))
            client.wait_for_results(batch["id"], least=500)
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    with Emulator(tmp_path, speed=FAST) as emulator, Client(emulator) as revived:
        done = revived.wait(batch["id"])
        assert done["request_counts"] == {"completed": 5_000, "failed": 0, "total": 5_000}
        assert ids_of(revived.records(done["output_file_id"])) == ids_of(lines_in)
        assert set(emulator.ledger().executed.values()) == {1}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_stops_cleanly_on_a_signal(tmp_path, number):
    """Ctrl-C and SIGTERM make serve return, with nothing on standard error."""
    process, url = start(tmp_path)
    assert httpx.get(f"{url}/_emulator/ledger").json()["totals"]["batches"] == 0
    os.kill(process.pid, number)
    output, _ = process.communicate(timeout=10)
    assert (output.strip(), process.returncode) == ("ended", 0)


def test_a_fault_counted_by_calls_is_not_reset(tmp_path):
    """The reply of the first create is lost once, not once more after a restart with the same scenario."""
    scenario = Scenario(faults=(calls.LoseReply(on=("batches.create",)),))
    with (
        Emulator(tmp_path, scenario, speed=FAST) as emulator,
        Client(emulator) as client,
        pytest.raises(httpx.TransportError),
    ):
        client.post_batch("file_x")
    with Emulator(tmp_path, scenario, speed=FAST) as emulator, Client(emulator) as client:
        assert client.post_batch("file_x").status_code == 200
    with Emulator(tmp_path, "clean", speed=FAST) as emulator:
        assert emulator.world.script.scenario.name == "clean"


def test_attempts_are_remembered(tmp_path):
    """A request that expired before the restart is at its second attempt afterwards."""
    scenario = Scenario(faults=(lines.FailLines(attempts=1),))
    lines_in = chat_lines(1)
    for failed in (1, 0):
        with Emulator(tmp_path, scenario, speed=FAST) as emulator, Client(emulator) as client:
            assert client.run(lines_in)["request_counts"]["failed"] == failed


def test_a_directory_has_one_emulator(tmp_path):
    """A second emulator on the same directory is refused while the first runs."""
    with Emulator(tmp_path), pytest.raises(DirectoryInUse), Emulator(tmp_path):
        pass
    with Emulator(tmp_path):
        pass


def test_the_temporary_directory_is_deleted_afterwards():
    """Without a directory option, an emulator leaves no files behind."""
    with Emulator() as emulator:
        directory = emulator.directory
        assert directory.exists()
    assert not directory.exists()


def test_a_directory_stays_with_its_provider(tmp_path):
    """It is served again as the same provider without being told, and refused to another; nothing unknown is served."""
    with Emulator(tmp_path, speed=FAST, provider="mistral") as emulator, Client(emulator) as client:
        job = create(client, "file-x").json()["id"]
    with Emulator(tmp_path, speed=FAST) as emulator, Client(emulator) as client:
        assert emulator.base_url.endswith("/v1")
        assert client.http.get(f"/batch/jobs/{job}").json()["id"] == job
    with pytest.raises(BatchkitError, match="emulated mistral, not of openai"), Emulator(tmp_path, provider="openai"):
        pass
    with pytest.raises(UsageError, match="nobody"):
        Emulator(provider="nobody")


def test_a_directory_of_an_older_emulator_is_groqs(tmp_path):
    """A directory without the columns and the name of a provider continues, as Groq."""
    with Emulator(tmp_path, speed=FAST) as emulator, Client(emulator) as client:
        batch = client.run(chat_lines(1))
    with sqlite3.connect(tmp_path / "emulator.sqlite3") as database:
        database.execute("DELETE FROM meta WHERE key = 'provider'")
        for table, column in (("files", "ready_at"), ("batches", "model"), ("batches", "idempotency_key")):
            database.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
    database.close()
    with Emulator(tmp_path, speed=FAST) as emulator, Client(emulator) as client:
        assert emulator.dialect.name == DEFAULT_PROVIDER
        assert client.batch(batch["id"]) == batch
        assert client.run(chat_lines(1))["status"] == "completed"
    with pytest.raises(BatchkitError, match="emulated groq"), Emulator(tmp_path, provider="openai"):
        pass
