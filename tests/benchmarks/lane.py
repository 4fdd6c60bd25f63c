"""The sync lane against loops that keep nothing: requests a second, CPU and memory, at 20, 200 and 1,000 calls in flight.

``python -m tests.benchmarks.lane`` runs the whole command of a user in Python (split, calls, journal, merge, output) over a server in another
process that answers after 50 ms. Beside it run a loop of the same client in threads, and the usual loop of ``AsyncOpenAI`` with a semaphore;
both forget their answers. Each run has a process of its own, for its CPU time and its memory above the imports.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import batchkit
from batchkit.api.running import run
from batchkit.files import jsonl
from batchkit.models import LaneChoice
from batchkit.provider.calls import CallClient
from tests.benchmarks.call_server import serving
from tests.lazy import LazyModule

if TYPE_CHECKING:
    from collections.abc import Callable

openai = LazyModule("openai")

_PATH = "/v1/chat/completions"
_MESSAGES = [{"role": "user", "content": "x" * 900}]
_KEY = "gsk_none_at_all"
_WIDTHS = (20, 200, 1_000)
_LONGEST_SECONDS = 3_600


@dataclass(frozen=True)
class LaneSample:
    """One run: requests a second, microseconds of our CPU per request, and MiB at its peak above the imports."""

    per_second: float
    cpu_microseconds: float
    grown_mib: float


def _body() -> dict[str, object]:
    return {"model": "m", "messages": _MESSAGES, "max_completion_tokens": 20}


def _lane(address: str, width: int, calls: int) -> None:
    with tempfile.TemporaryDirectory(prefix="batchkit-lane-") as folder:
        place = Path(folder)
        with (place / "input.jsonl").open("wb") as lines:
            for number in range(calls):
                line = {"custom_id": f"r{number}", "method": "POST", "url": _PATH, "body": _body()}
                lines.write(jsonl.dumps(line) + b"\n")
        settings = batchkit.load_settings(
            provider="custom",
            base_url=f"http://{address}/v1",
            api_key=_KEY,
            home=place / "home",
            lane=LaneChoice.SYNC,
            max_in_flight=width,
        )
        progress = run(place / "input.jsonl", output=place / "out.jsonl", settings=settings)
        assert progress.counts.succeeded == calls, progress


def _loop(address: str, width: int, calls: int) -> None:
    body = jsonl.dumps(_body())
    with CallClient(f"http://{address}/v1", _KEY) as client:

        def work() -> None:
            for _ in range(calls // width):
                assert client.call(_PATH, body).status == 200

        threads = [threading.Thread(target=work) for _ in range(width)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


def _async_openai(address: str, width: int, calls: int) -> None:
    async def work() -> None:
        places = asyncio.Semaphore(width)
        async with openai.AsyncOpenAI(base_url=f"http://{address}/v1", api_key=_KEY, max_retries=0) as client:

            async def one() -> None:
                async with places:
                    await client.chat.completions.create(model="m", messages=_MESSAGES, max_completion_tokens=20)

            await asyncio.gather(*(one() for _ in range(calls)))

    asyncio.run(work())


_LOOPS: dict[str, Callable[[str, int, int], None]] = {
    "the lane": _lane,
    "a loop of the same client": _loop,
    "AsyncOpenAI with a semaphore": _async_openai,
}


def _peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_024


def _measured(name: str, address: str, width: int, calls: int) -> LaneSample:
    if name == "AsyncOpenAI with a semaphore":
        assert openai.AsyncOpenAI  # loaded before its memory is measured
    imported, began, used = _peak_mib(), time.perf_counter(), time.process_time()
    _LOOPS[name](address, width, calls)
    seconds, cpu = time.perf_counter() - began, time.process_time() - used
    return LaneSample(calls / seconds, cpu / calls * 1e6, _peak_mib() - imported)


def _in_its_own_process(name: str, address: str, width: int, calls: int) -> LaneSample:
    command = [sys.executable, "-m", __spec__.name, "--measure", name, "--address", address]
    ended = subprocess.run(
        [*command, "--calls", str(calls), "--width", str(width)],
        check=True,
        stdout=subprocess.PIPE,
        timeout=_LONGEST_SECONDS,
    )
    return LaneSample(**jsonl.loads(ended.stdout.splitlines()[-1]))


def _spread(values: list[float]) -> str:
    return f"{statistics.median(values):,.0f} ({min(values):,.0f}-{max(values):,.0f})"


def main(
    calls: Annotated[int, typer.Option(min=1, help="The number of requests of each run of the lane.")] = 20_000,
    width: Annotated[list[int] | None, typer.Option(help="Calls in flight (default 20, 200, 1000).")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="How often each is measured, alternately.")] = 3,
    only: Annotated[str | None, typer.Option(help="Only what has this name.")] = None,
    measure: Annotated[str | None, typer.Option(hidden=True)] = None,
    address: Annotated[str, typer.Option(hidden=True)] = "",
) -> None:
    """Print a table: the median of the rounds, with the lowest and the highest."""
    widths = tuple(width or _WIDTHS)
    if measure is not None:
        print(jsonl.dumps(asdict(_measured(measure, address, widths[0], calls))).decode())  # noqa: T201 - for the parent process
        return
    names = [name for name in _LOOPS if only in {None, name}]
    print("| In flight | | Requests/s | CPU us a request | MiB above the imports | times the lane |")  # noqa: T201 - the table
    print("| ---: | --- | ---: | ---: | ---: | ---: |")  # noqa: T201 - the table
    for at_once in widths:
        taken: dict[str, list[LaneSample]] = {name: [] for name in names}
        with serving() as server:
            for number in range(rounds):
                for name in names if number % 2 == 0 else reversed(names):
                    # The other loops do the same for longer; their rate does not depend on the number.
                    count = calls if name == "the lane" else max(calls // 5, 4 * at_once)
                    taken[name].append(_in_its_own_process(name, server, at_once, count))
        for name, samples in taken.items():
            rates, lane = (
                [one.per_second for one in samples],
                [one.per_second for one in taken.get("the lane", samples)],
            )
            ratio = statistics.median(a / b for a, b in zip(rates, lane, strict=True))
            memory = statistics.median(one.grown_mib for one in samples)
            cpu = _spread([one.cpu_microseconds for one in samples])
            print(f"| {at_once:,} | {name} | {_spread(rates)} | {cpu} | {memory:,.0f} | {ratio:.2f} |", flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    typer.run(main)
