"""The flows in a real engine with a real server; the other files cover everything that needs neither."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest
from batchkit.flows import entry
from batchkit.flows.temporary_server import TemporaryServer

from batchkit.api.driving import drive
from batchkit.api.serving import serve
from batchkit.emulator import Emulator
from batchkit.engine.observer import Observers
from batchkit.engine.runtime import Runner
from batchkit.engine.waves import DriveUntil, Wave
from batchkit.errors import Unauthorized
from batchkit.models import WorkloadId
from batchkit.settings import load_settings
from batchkit.steps.split import SplitOptions
from tests.flows.support import wait_until
from tests.observing import Watching
from tests.workloads import chat_line, write_lines

if TYPE_CHECKING:
    from batchkit.steps.context import StepReport

CHECKOUT = Path(__file__).parents[2]

# Prefect leaves the connection for its events to the garbage collector.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@dataclass
class Told:
    """The notes of a run, and every host name that this process resolves."""

    waves: list[Wave]
    notes: list[str]
    lookups: list[str]


def write_input(folder, count=40):
    """Write some chat requests."""
    path = folder / "input.jsonl"
    write_lines(path, [chat_line(f"row-{number}") for number in range(count)])
    return path


def split(runner, folder, name="work"):
    """Split a workload of 40 requests into 4 shards."""
    return runner.split([write_input(folder)], name=name, options=SplitOptions(shard_lines=10))


def process(runner, workload, told):
    """Run a workload as the command line does."""
    mirror = entry.open_mirror(runner.settings, on_note=told.notes.append, until=DriveUntil.FINISHED)
    watching = Watching(on_wave=lambda wave, _report: told.waves.append(wave))
    return drive(runner, workload, until=DriveUntil.FINISHED, observer=Observers(watching, mirror))


def leave(within_seconds: float | None = 60):
    """Wait for the last reports, as at the end of a command but with more time; return how long that took."""
    began = time.monotonic()
    for mirror in entry._mirrors.values():
        mirror.close(within_seconds)
    return time.monotonic() - began


@pytest.fixture
def told(monkeypatch) -> Told:
    """Record the notes of a run, and every host name that this process resolves."""
    lookups: list[str] = []
    original = socket.getaddrinfo

    def watched(host, *arguments, **keywords):
        lookups.append(host.decode() if isinstance(host, bytes) else str(host))
        return original(host, *arguments, **keywords)

    monkeypatch.setattr(socket, "getaddrinfo", watched)
    return Told([], [], lookups)


def ask(path, **filters):
    """Query the Prefect API."""
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - as in conftest.py

    with get_client(sync_client=True) as client:
        return client.request("POST", path, json=filters).json()


def is_loopback(host):
    """Return whether a host name resolves to this machine without a DNS query."""
    if host in {"localhost", "None", ""}:
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def test_a_run_is_shown_in_prefect(prefect_server, prefect_api, open_settings, tmp_path, told):
    """A run has a flow run under its workload's name and tags, with a task run per wave, artifacts and events."""
    prefect_api(prefect_server.api_url)
    with Runner(open_settings()) as runner:
        workload = split(runner, tmp_path, "tea & cakes {x}")
        progress = process(runner, workload, told)
    leave()

    assert progress.all_succeeded
    assert told.notes == []
    (run,) = ask("/flow_runs/filter", flow_runs={"name": {"any_": ["run tea & cakes {x}"]}})
    assert run["state_type"] == "COMPLETED"
    assert set(run["tags"]) == {"batchkit", "workload:tea & cakes {x}"}
    assert run["parameters"] == {"workload_id": workload.id, "workload_name": workload.name, "until": "finished"}
    mine = {"id": {"any_": [run["id"]]}}
    tasks = settled(
        lambda: ask("/task_runs/filter", flow_runs=mine, task_runs={"state": {"type": {"any_": ["COMPLETED"]}}}),
        len(told.waves),
    )
    assert sorted(task["name"] for task in tasks) == sorted(name_of(wave) for wave in told.waves)
    # A tag on a task run would make the engine call the server at each start, and fail when the server is gone.
    assert all(task["tags"] == [] for task in tasks)
    artifacts = ask("/artifacts/filter", flow_runs=mine)
    assert {artifact["key"] for artifact in artifacts} == {
        "batchkit-progress-tea-cakes-x",
        "batchkit-summary-tea-cakes-x",
    }
    resource = "batchkit.workload.tea & cakes {x}"
    (event,) = settled(lambda: ask("/events/filter", filter={"any_resource": {"id": [resource]}})["events"], 1)
    assert event["event"] == "batchkit.workload.finished"
    assert f"prefect.flow-run.{run['id']}" in {related["prefect.resource.id"] for related in event["related"]}
    assert [host for host in told.lookups if not is_loopback(host)] == []


def settled(read, count):
    """Read until there are ``count`` entries: the server stores task runs and events with a delay."""
    wait_until(lambda: len(read()) >= count, 10)
    return read()


def name_of(wave):
    """Return the name of a wave's task run."""
    shards = len(wave.shard_ids)
    return f"{wave.kind} {shards} shard{'' if shards == 1 else 's'}"


def test_an_unreachable_configured_server_is_reported_and_not_needed(prefect_api, open_settings, tmp_path, told):
    """A run whose Prefect server does not answer reports it, without the server's password, and finishes anyway."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        prefect_api(f"http://me:hunter2@127.0.0.1:{unused.getsockname()[1]}/api")
        with Runner(open_settings()) as runner:
            progress = process(runner, split(runner, tmp_path), told)
        assert wait_until(lambda: told.notes, 60)
        leave()

    assert progress.all_succeeded
    assert len(told.notes) == 1
    assert "does not answer; the work continues without Prefect" in told.notes[0]
    assert "hunter2" not in told.notes[0]


def test_a_task_run_has_the_times_and_the_final_state_of_its_wave(
    prefect_server, prefect_api, open_settings, tmp_path, told, monkeypatch
):
    """Each task run has the times of its wave, whenever it was written; a failed wave is Failed, and so is the run."""
    prefect_api(prefect_server.api_url)
    trouble = Unauthorized("wrong key", status=401)
    with Runner(open_settings()) as runner:
        workload = split(runner, tmp_path, "failing")
        began_at: list[float] = []

        def fails(_wave: Wave) -> StepReport:
            began_at.append(time.time())
            raise trouble

        monkeypatch.setattr(runner, "run_wave", fails)
        with pytest.raises(Unauthorized) as caught:
            process(runner, workload, told)
    leave()

    assert caught.value is trouble
    (run,) = ask("/flow_runs/filter", flow_runs={"name": {"any_": ["run failing"]}})
    assert run["state_type"] == "FAILED"
    assert run["state"]["message"] == "wrong key."
    mine = {"id": {"any_": [run["id"]]}}
    failed = {"state": {"type": {"any_": ["FAILED"]}}}
    (task,) = settled(lambda: ask("/task_runs/filter", flow_runs=mine, task_runs=failed), 1)
    assert (task["state_type"], task["state"]["message"]) == ("FAILED", "wrong key.")
    assert abs(datetime.fromisoformat(task["start_time"]).timestamp() - began_at[0]) < 0.5
    assert abs(datetime.fromisoformat(task["end_time"]).timestamp() - began_at[0]) < 0.5


def test_a_run_that_is_interrupted_is_shown_as_cancelled(prefect_server, prefect_api, open_settings, tmp_path, told):
    """Ctrl-C ends the flow run, and the output says how to resume."""
    prefect_api(prefect_server.api_url)

    def interrupt(_wait):
        raise KeyboardInterrupt

    with Runner(open_settings(speed=1)) as runner:
        workload = split(runner, tmp_path, "interrupted")
        mirror = entry.open_mirror(runner.settings, on_note=told.notes.append)
        mirror.began(workload)
        runner._wait = interrupt
        with pytest.raises(KeyboardInterrupt):
            runner.process(workload.id, observer=mirror)
    leave()

    (run,) = ask("/flow_runs/filter", flow_runs={"name": {"any_": ["run interrupted"]}})
    assert run["state_type"] == "CANCELLED"
    assert "the same command resumes" in run["state"]["message"]


def test_a_pass_on_a_worker_opens_its_own_runner(prefect_server, prefect_api, open_settings, tmp_path, monkeypatch):
    """The scheduled flow needs only the environment; a run that starts too late does nothing and reports it."""
    from batchkit.flows.advance_workloads import advance_workloads  # noqa: PLC0415 - imports Prefect
    from prefect.client.orchestration import get_client  # noqa: PLC0415 - imports Prefect
    from prefect.flow_engine import run_flow  # noqa: PLC0415 - as above
    from prefect.states import Scheduled  # noqa: PLC0415 - as above

    prefect_api(prefect_server.api_url)
    settings = open_settings()
    assert settings.api_key is not None
    monkeypatch.setenv("GROQ_API_KEY", settings.api_key.get_secret_value())
    monkeypatch.setenv("BATCHKIT_BASE_URL", settings.base_url)
    monkeypatch.setenv("BATCHKIT_HOME", str(settings.home))
    with Runner(settings) as runner:
        workload = split(runner, tmp_path)

    def scheduled(at):
        with get_client(sync_client=True) as client:
            run = client.create_flow_run(
                advance_workloads, parameters={"interval_seconds": 60}, state=Scheduled(scheduled_time=at)
            )
        flow = run_flow(advance_workloads, flow_run=run, parameters={"interval_seconds": 60}, return_type="state")
        return asyncio.run(cast("Any", flow))

    now = datetime.now(UTC)  # noqa: TID251 - Prefect's scheduler has no other clock
    late = scheduled(now - timedelta(seconds=180))
    on_time = scheduled(now)

    assert (late.type, late.name) == ("COMPLETED", "Skipped")
    assert on_time.type == "COMPLETED"
    with Runner(settings) as runner:
        assert "submitted" in {str(state) for state in runner.progress(WorkloadId(workload.id)).shards}


def test_serve_advances_open_workloads_until_it_is_stopped(prefect_server, prefect_api, open_settings, tmp_path, told):
    """The schedule in one process finishes a workload, with one flow run per pass, and SIGTERM ends it cleanly."""
    prefect_api(prefect_server.api_url)
    settings = open_settings()
    with Runner(settings) as runner:
        workload = split(runner, tmp_path)
    before = ask("/flow_runs/count", flows={"name": {"any_": ["advance_workloads"]}})

    def note(text: str) -> None:
        told.notes.append(text)
        os.kill(os.getpid(), signal.SIGTERM)

    mirror = entry.open_mirror(settings, on_note=note, interval_seconds=0.1)
    serve(settings, interval_seconds=0.1, on_note=note, observer=mirror)
    leave()

    assert told.notes == ["work: finished, 40 succeeded"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    with Runner(settings) as runner:
        assert runner.progress(workload.id).all_succeeded
    runs = ask("/flow_runs/filter", flows={"name": {"any_": ["advance_workloads"]}})
    assert len(runs) > before
    # Other tests of this session have runs on the same server.
    mine = [run for run in runs if "work: 40 of 40 answered" in run["state"]["message"]]
    assert mine
    assert {run["state_type"] for run in mine} == {"COMPLETED"}


def test_a_server_that_hangs_delays_neither_the_work_nor_its_end(prefect_api, open_settings, tmp_path, told):
    """A server that accepts connections and never answers costs only reports: the command ends within two seconds."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        prefect_api(f"http://127.0.0.1:{silent.getsockname()[1]}/api")
        with Runner(open_settings()) as runner:
            progress = process(runner, split(runner, tmp_path), told)
        seconds = leave(None)

    assert progress.all_succeeded
    assert seconds < 3


def test_a_short_run_starts_no_server_of_its_own(prefect_api, open_settings, tmp_path, told):
    """Without a configured server, a short run is over before a temporary server is worth starting."""
    prefect_api("")
    with Runner(open_settings()) as runner:
        progress = process(runner, split(runner, tmp_path), told)
        seconds = leave(None)
        assert not list((runner.settings.home / "prefect-servers").glob("*"))

    assert progress.all_succeeded
    assert told.notes == []
    assert seconds < 1.5


@pytest.mark.patient
def test_a_server_killed_in_mid_run_changes_nothing(prefect_server, monkeypatch, tmp_path):
    """When the Prefect server is killed in mid-run, the command ends promptly after its work, with its result and exit code."""
    prefect_server.copy_database(tmp_path / "prefect")
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))
    server = TemporaryServer.start(tmp_path / "server")
    source = write_input(tmp_path)
    server.wait_until_ready(60, sleep=time.sleep)  # noqa: TID251 - waits for a process
    # Slow enough that the batches are still running when the server is killed.
    with Emulator(tmp_path / "emulator", speed=1) as emulator:
        command = subprocess.Popen(
            [sys.executable, "-m", "batchkit", "run", str(source), "--name", "work", "--poll-interval", "0.5"],
            cwd=tmp_path,
            env={
                **os.environ,
                "PREFECT_API_URL": server.api_url,
                "GROQ_API_KEY": emulator.api_key,
                "BATCHKIT_BASE_URL": emulator.base_url,
                "BATCHKIT_HOME": str(tmp_path / "home"),
            },
            stderr=subprocess.PIPE,
            text=True,
        )
        began = wait_until(lambda: emulator.ledger(with_executions=False).batches, 40)
        server._process.kill()
        _out, said = command.communicate(timeout=60)
        ended_at = time.time()
    server.stop(0)

    assert began
    assert command.returncode == 0
    assert "Traceback" not in said
    with Runner(load_settings(home=tmp_path / "home")) as runner:
        progress = runner.progress(runner.find("work").id)
    assert progress.all_succeeded
    assert progress.last_merged_at is not None
    assert ended_at - progress.last_merged_at < 5
