"""What one call of an ordinary endpoint costs: our client, the same library without it, and other clients, one after the other.

``python -m tests.benchmarks.calls`` prints the CPU time of this process per call. A server in another process answers each POST of
1 KB with 0.9 KB of JSON after 50 ms, so the calls of all threads are in flight at once.
"""

from __future__ import annotations

import asyncio
import http.client
import resource
import statistics
import sys
import threading
import time
from typing import TYPE_CHECKING

import aiohttp
import httpx

from batchkit.files import jsonl
from batchkit.provider.calls import CallClient
from tests.benchmarks.call_server import serving

if TYPE_CHECKING:
    from collections.abc import Callable

_PATH = "/v1/chat/completions"
_REQUEST = jsonl.dumps({"model": "m", "messages": [{"role": "user", "content": "x" * 950}]})
_WIDTHS = (20, 200, 1_000)
#: httpx takes milliseconds a call there.
_NARROW = 200


def _in_threads(call_of: Callable[[], Callable[[], object]], width: int, calls: int) -> None:
    """Make ``calls`` calls in ``width`` threads, each with what ``call_of`` returns."""

    def work() -> None:
        call = call_of()
        for _ in range(calls // width):
            call()

    threads = [threading.Thread(target=work) for _ in range(width)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def _ours(address: str, width: int, calls: int) -> None:
    with CallClient(f"http://{address}/v1", "gsk_none_at_all") as client:
        _in_threads(lambda: lambda: client.call(_PATH, _REQUEST).status == 200 or sys.exit("no answer"), width, calls)


def _bare(address: str, width: int, calls: int) -> None:
    def call_of() -> Callable[[], object]:
        connection = http.client.HTTPConnection(address, timeout=60)

        def call() -> bytes:
            connection.request(
                "POST", _PATH, _REQUEST, {"Content-Type": "application/json", "Authorization": "Bearer x"}
            )
            return connection.getresponse().read()

        return call

    _in_threads(call_of, width, calls)


def _httpx_threads(address: str, width: int, calls: int) -> None:
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    with httpx.Client(base_url=f"http://{address}", limits=limits, timeout=60, trust_env=False) as client:
        _in_threads(lambda: lambda: client.post(_PATH, content=_REQUEST).content, width, calls)


def _httpx_async(address: str, width: int, calls: int) -> None:
    async def work() -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        async with httpx.AsyncClient(
            base_url=f"http://{address}", limits=limits, timeout=60, trust_env=False
        ) as client:

            async def several() -> None:
                for _ in range(calls // width):
                    await client.post(_PATH, content=_REQUEST)

            await asyncio.gather(*(several() for _ in range(width)))

    asyncio.run(work())


def _aiohttp(address: str, width: int, calls: int) -> None:
    async def work() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def several() -> None:
                for _ in range(calls // width):
                    async with session.post(f"http://{address}{_PATH}", data=_REQUEST) as reply:
                        await reply.read()

            await asyncio.gather(*(several() for _ in range(width)))

    asyncio.run(work())


_CLIENTS = {
    "`CallClient`, threads": _ours,
    "`http.client`, threads": _bare,
    "aiohttp": _aiohttp,
    "httpx, async": _httpx_async,
    "httpx, one client, threads": _httpx_threads,
}


def _sample(name: str, address: str, width: int) -> tuple[float, float]:
    """Return microseconds of CPU per call and calls per second, connections included."""
    slow = name.startswith("httpx")
    calls = width * max(2, (400 if slow else 4_000) // width)
    began, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    _CLIENTS[name](address, width, calls)
    now = resource.getrusage(resource.RUSAGE_SELF)
    cpu = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    return cpu / calls * 1e6, calls / (time.perf_counter() - began)


def main(rounds: int = 3) -> None:
    """Print a table: the median of the rounds, with the lowest and the highest."""
    print("| Client | In flight | CPU us a call (spread) | Calls/s |\n| --- | ---: | ---: | ---: |")  # noqa: T201 - the table
    with serving() as address:
        for width in _WIDTHS:
            names = [name for name in _CLIENTS if width <= _NARROW or not name.startswith("httpx")]
            taken: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
            for number in range(rounds):
                for name in names if number % 2 == 0 else reversed(names):
                    taken[name].append(_sample(name, address, width))
            for name, samples in taken.items():
                cpu = sorted(sample[0] for sample in samples)
                wall = statistics.median(sample[1] for sample in samples)
                spread = f"{statistics.median(cpu):.0f} ({cpu[0]:.0f}-{cpu[-1]:.0f})"
                print(f"| {name} | {width:,} | {spread} | {wall:,.0f} |", flush=True)  # noqa: T201 - as above


if __name__ == "__main__":
    main()
