import logging
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from batchkit.emulator import Emulator, EmulatorNotStarted, Scenario, ScenarioError, Timing
from batchkit.emulator.contract.ids import completion_id, fraction_of, new_batch_id, new_file_id
from batchkit.emulator.contract.windows import Windows
from batchkit.emulator.state.clock import Clock
from tests.emulator.support import FAST, Client, chat_line, chat_lines, jsonl

ROOT = Path(__file__).parents[2]
ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"


def decode(type_id):
    """Decode the UUID of a TypeID."""
    value = 0
    for character in type_id.rpartition("_")[2]:
        value = value * 32 + ALPHABET.index(character)
    return value


def test_the_urls_fit_the_sdks():
    """The base URL has the prefix, the root URL does not, and both have the real port."""
    with Emulator(speed=FAST) as emulator:
        assert emulator.base_url == f"{emulator.root_url}/openai/v1"
        assert emulator.api_key == "gsk_emulator"
        assert not emulator.root_url.endswith(":0")
    with pytest.raises(EmulatorNotStarted):
        emulator.ledger()


def test_a_used_port_is_an_error():
    """The error names the address."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(EmulatorNotStarted, match=str(port)), Emulator(port=port):
            pass


def test_a_scenario_is_checked_before_anything_starts():
    """An unknown scenario is refused by the constructor."""
    with pytest.raises(ScenarioError):
        Emulator(scenario="nope")


def test_listening_beyond_loopback_is_a_warning(caplog):
    """A host that others can reach causes a warning, loopback does not."""
    with caplog.at_level(logging.WARNING):
        with Emulator(host="127.0.0.1"):
            pass
        assert not caplog.records
        with Emulator(host="0.0.0.0"):  # noqa: S104 - what is warned about
            pass
    assert "anyone who can reach" in caplog.text


def test_the_emulator_can_be_used_from_a_thread():
    """Nothing requires the main thread."""
    statuses = []

    def use():
        with Emulator(speed=FAST) as emulator, Client(emulator) as client:
            statuses.append(client.run(chat_lines(1))["status"])

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert statuses == ["completed"]


def test_batchkit_does_not_import_the_server():
    """Importing batchkit, or only the emulator's package, does not import uvicorn."""
    code = "import sys, batchkit, batchkit.emulator, batchkit.emulator.pytest_plugin; print('uvicorn' in sys.modules, 'starlette' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "False"]


def test_the_fixture_reads_its_mark(tmp_path):
    """The plugin provides an emulator configured by the test's mark, and a factory for more."""
    (tmp_path / "test_it.py").write_text(
        "import pytest\n"
        "@pytest.mark.groq_emulator(scenario='fail-all', api_key='gsk_k')\n"
        "def test_marked(groq_emulator):\n"
        "    assert groq_emulator.world.script.scenario.name == 'fail-all'\n"
        "    assert groq_emulator.api_key == 'gsk_k'\n"
        "def test_plain(groq_emulator, groq_emulator_factory):\n"
        "    assert groq_emulator_factory('demo', speed=5.0).base_url != groq_emulator.base_url\n"
    )
    plugin = ["-p", "batchkit.emulator.pytest_plugin", "--strict-markers"]
    command = [sys.executable, "-m", "pytest", "-q", *plugin, "--rootdir", str(tmp_path), str(tmp_path)]
    environment = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT, env=environment)
    assert "2 passed" in done.stdout, done.stdout + done.stderr


def test_polls_are_fast_while_batches_run(make_client):
    """A running batch does not delay replies: nearly every poll takes less than a few dozen milliseconds."""
    client = make_client()
    batch = client.create(client.upload(chat_lines(8_000)))
    waits = []
    while True:
        started = time.monotonic()
        status = client.batch(batch["id"])["status"]
        waits.append(time.monotonic() - started)
        if status == "completed":
            break
    assert sorted(waits)[len(waits) * 9 // 10] < 0.3


def test_many_batches_run_in_parallel(make_client):
    """A hundred simultaneous batches all complete."""
    client = make_client(Scenario(timing=Timing(seconds_per_line=5)))
    ids = [client.create(client.upload(chat_lines(20)))["id"] for _ in range(100)]
    assert {client.wait(batch_id)["request_counts"]["completed"] for batch_id in ids} == {20}


def test_a_large_file_costs_little_memory(tmp_path):
    """50,000 requests in a 60 MB file pass through a process that grows by less than half of that."""
    path = tmp_path / "big.jsonl"
    line = jsonl([chat_line("NUMBER", "x" * 60) | {"padding": "y" * 1_000}])
    with path.open("wb") as file:
        file.writelines(line.replace(b"NUMBER", b"r%d" % number) for number in range(50_000))
    command = [sys.executable, "-m", "tests.emulator.volume", str(path), str(tmp_path / "emulator")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    completed, uploaded, downloaded, grown_kib = map(int, done.stdout.split())
    assert completed == 50_000
    assert uploaded == path.stat().st_size > 60_000_000
    assert downloaded > 30_000_000
    assert grown_kib < 30_000


def test_ids_are_type_ids_of_version_7():
    """Ids hold a UUIDv7 whose time is the creation, and do not repeat."""
    for make in (new_file_id, new_batch_id):
        value = decode(make(1_736_472_501.25))
        assert value >> 80 == 1_736_472_501_250
        assert value >> 76 & 15 == 7
        assert value >> 62 & 3 == 2
    assert len({new_batch_id(1.0) for _ in range(1_000)}) == 1_000
    assert completion_id(2**127 + 7)[len("chatcmpl-") + 14] == "4"


def test_shares_are_uniform():
    """The seeded hash is uniform and depends on every part."""
    shares = [fraction_of(1, "fault", f"id-{n}") for n in range(2_000)]
    assert 0.27 < sum(share < 0.3 for share in shares) / 2_000 < 0.33
    assert fraction_of(1, "a") != fraction_of(2, "a")


def test_the_clock_has_the_requested_speed():
    """Provider time passes ``speed`` times as fast as real time."""
    real = [100.0]
    clock = Clock(speed=3_600, start=1_000.0, monotonic=lambda: real[0])
    real[0] += 2
    assert clock.now() == 8_200
    assert clock.real_seconds(1_800) == 0.5
    with pytest.raises(ValueError, match="speed"):
        Clock(speed=0, start=0)


@pytest.mark.parametrize(
    ("window", "seconds"),
    [
        ("24h", 86_400),
        ("1d", 86_400),
        ("7d", 604_800),
        ("23h", None),
        ("169h", None),
        ("8d", None),
        ("24", None),
        ("024h", None),
        ("24H", None),
        ("", None),
    ],
)
def test_windows(window, seconds):
    """Only whole hours and days from 24h to 7d are windows."""
    assert Windows(24, 7 * 24).seconds(window) == seconds


def test_bytes_after_the_last_newline_are_a_line(client):
    """A last line without a newline is executed like the others."""
    data = jsonl([chat_line("last-1"), chat_line("last-2")])[:-1]
    batch = client.wait(client.create(client.post_file(data).json()["id"])["id"])
    assert batch["request_counts"]["completed"] == 2


def test_a_client_that_dies_in_mid_request_is_no_error(caplog):
    """A request that breaks off logs no error, and the next one is answered."""
    with Emulator(speed=FAST) as emulator, Client(emulator) as client:
        address = urlsplit(emulator.base_url)
        for path, kind in (("files", "multipart/form-data; boundary=b"), ("batches", "application/json")):
            head = f"POST {address.path}/{path} HTTP/1.1\r\nHost: {address.netloc}\r\nAuthorization: Bearer {emulator.api_key}"
            with socket.create_connection((str(address.hostname), address.port or 0)) as half:
                half.sendall(f"{head}\r\nContent-Type: {kind}\r\nContent-Length: 100\r\n\r\n--b\r\n".encode())

        assert client.upload(chat_lines(1))
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
