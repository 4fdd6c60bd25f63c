"""Servers of third parties as real processes on loopback, each with its storage in a temporary folder."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import httpx

from .environments import Package
from .upstream import MODEL

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

OGX = Package("ogx", "1.5.0", python_minor=12)
AIBRIX = Package("aibrix", "0.8.0")
#: Later versions want parts that the index does not have.
LITELLM = Package("litellm", "1.106.12", "[proxy]")
LLMOCK = Package("llmock", "0.2.2")

#: The longest start in seconds, on a busy machine.
_START_SECONDS = 300
_STOP_SECONDS = 30
#: Whatever a server tries to reach beside this machine is refused at once.
_NOWHERE = "http://127.0.0.1:9"

_OGX = """\
version: 2
distro_name: tests
apis: [batches, files, inference]
providers:
  inference:
  - provider_id: engine
    provider_type: remote::openai
    config: {{base_url: "{engine}", api_key: any}}
  files:
  - provider_id: local
    provider_type: inline::localfs
    config:
      storage_dir: "{folder}/files"
      metadata_store: {{backend: sql_default, table_name: files_metadata}}
  batches:
  - provider_id: reference
    provider_type: inline::reference
    config:
      sqlstore: {{backend: sql_default, table_name: batches}}
storage:
  backends:
    kv_default: {{type: kv_sqlite, db_path: "{folder}/kv.db"}}
    sql_default: {{type: sql_sqlite, db_path: "{folder}/sql.db"}}
  stores:
    metadata: {{namespace: registry, backend: kv_default}}
    inference: {{table_name: inference_store, backend: sql_default}}
    conversations: {{table_name: conversations, backend: sql_default}}
    prompts: {{table_name: prompts, backend: sql_default}}
registered_resources:
  models: []
server: {{host: 127.0.0.1, port: {port}}}
"""

_LITELLM = """\
model_list:
- model_name: {model}
  litellm_params: {{model: "openai/{model}", api_base: "{engine}", api_key: "{engine_key}"}}
files_settings:
- {{custom_llm_provider: openai, api_base: "{engine}", api_key: "{engine_key}"}}
general_settings: {{master_key: "{key}"}}
litellm_settings: {{telemetry: false}}
"""


@dataclass(frozen=True)
class Server:
    """A running server: ``provider`` is the name of its profile, ``model`` what requests name there."""

    provider: str
    base_url: str
    model: str
    api_key: str = "sk-tests"


@contextmanager
def ogx(commands: Path, folder: Path, engine: str) -> Iterator[Server]:
    """Run OGX's reference batches, which ask an engine of OpenAI's shape."""
    port = free_port()
    config = folder / "config.yaml"
    config.write_text(_OGX.format(engine=engine, folder=folder, port=port))
    server = Server("ogx", f"http://127.0.0.1:{port}/v1", f"engine/{MODEL}")
    with running([str(commands / "ogx"), "run", str(config), "--insecure"], folder, server):
        yield server


@contextmanager
def aibrix(commands: Path, folder: Path) -> Iterator[Server]:
    """Run AIBrix's metadata service in its dry-run mode, in which the answer to a request is its own body."""
    port = free_port()
    server = Server("aibrix", f"http://127.0.0.1:{port}/v1", MODEL)
    words = [str(commands / "aibrix_metadata"), "--dry-run", "--host", "127.0.0.1", "--port", str(port)]
    with running(words, folder, server, STORAGE_LOCAL_PATH=str(folder / "storage")):
        yield server


@contextmanager
def litellm(commands: Path, folder: Path, engine: str, engine_key: str, model: str) -> Iterator[Server]:
    """Run LiteLLM's proxy, which passes files and batches on to a server of OpenAI's shape."""
    port = free_port()
    server = Server("litellm", f"http://127.0.0.1:{port}/v1", model)
    config = folder / "config.yaml"
    config.write_text(_LITELLM.format(engine=engine, engine_key=engine_key, model=model, key=server.api_key))
    words = [str(commands / "litellm"), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    own = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_TELEMETRY": "False",
        "OPENAI_API_KEY": engine_key,
        "OPENAI_BASE_URL": engine,
    }
    with running(words, folder, server, **own):
        yield server


@contextmanager
def llmock(commands: Path, folder: Path, provider: str, path: str, model: str) -> Iterator[Server]:
    """Run LLMock, which has a batch API in the shape of several providers, each below a path of its own."""
    port = free_port()
    server = Server(provider, f"http://127.0.0.1:{port}{path}", model)
    words = [str(commands / "llmock"), "serve", "--host", "127.0.0.1", "--port", str(port), "--response-style", "echo"]
    with running(words, folder, server):
        yield server


@contextmanager
def running(words: Sequence[str], folder: Path, server: Server, **variables: str) -> Iterator[None]:
    """Run a server until the end of the block, in a process group of its own; its output is in ``log.txt`` in the folder."""
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), _NOWHERE),
        **dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost"),
        "HF_HUB_OFFLINE": "1",
        **variables,
    }
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=output, stderr=output, stdin=subprocess.DEVNULL, start_new_session=True
        )  # fmt: skip
    try:
        _wait_for(server, process, log)
        yield
    finally:
        _end(process)


def _wait_for(server: Server, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + _START_SECONDS
    headers = {"Authorization": f"Bearer {server.api_key}"}
    while process.poll() is None and time.monotonic() < deadline:
        with suppress(httpx.TransportError):
            if httpx.get(f"{server.base_url}/models", headers=headers, timeout=30).is_success:
                return
        time.sleep(0.2)  # noqa: TID251 - a real server is polled
    raise AssertionError(f"{server.provider} does not start:\n{log.read_text(errors='replace')[-4_000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_STOP_SECONDS)


def free_port() -> int:
    """Return a port of loopback that nothing listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
