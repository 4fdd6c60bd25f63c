"""``python -m tests.benchmarks.view``: when the first byte of each page of ``batchkit view`` comes, and what an open page costs."""

from __future__ import annotations

import http.client
import resource
import threading
import time
from statistics import median
from typing import TYPE_CHECKING, Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console

from batchkit.settings import load_settings
from batchkit.store import custom_id_index, migrate
from batchkit.store.engine import Store
from batchkit.view.server import ViewServer
from tests.scale.fill import fill
from tests.scale.status import filling_of
from tests.scale.temporary_databases import DATABASES, temporary_database, vacuum

if TYPE_CHECKING:
    from collections.abc import Iterator

_IDLE_SECONDS = 10.0


def pages(count: int) -> dict[str, str]:
    """Return the addresses by what they show; ``count`` is the number of requests."""
    late = count * 3 // 4 + 1
    requests = "/requests?name=scale"
    return {
        "all workloads": "/",
        "a workload": "/workload?name=scale",
        "requests": requests,
        "the last ones": f"{requests}&before={count}",
        "failed": f"{requests}&state=failed&after={late}",
        "an error": f"{requests}&error=json_validate_failed&after={late}",
        "a request": f"/request?name=scale&place={late}",
        "custom_id, index": f"{requests}&id=request-{late}-of-nightly",
        "prefix, index": f"{requests}&id=request-{late // 10}&match=prefix",
        "contains: a part of the scan": f"{requests}&id=t-{late}-o&match=contains",
        "to the end of the scan": f"{requests}&id=t-{late}-o&match=contains",
    }


class Asking:
    """Asks one server over one connection."""

    def __init__(self, root: str) -> None:
        self._connection = http.client.HTTPConnection(urlsplit(root).netloc, timeout=300)

    def ask(self, path: str) -> tuple[float, str]:
        """Return the seconds until the first byte, and the page."""
        began = time.perf_counter()
        self._connection.request("GET", path)
        reply = self._connection.getresponse()
        first = reply.read(1)
        took = time.perf_counter() - began
        assert reply.status == 200, path
        return took, (first + reply.read()).decode()

    def scan(self, path: str) -> float:
        """Return the seconds until a scan has read everything."""
        began = time.perf_counter()
        url: str | None = path
        while url is not None:
            page = self.ask(url)[1]
            marked = page.partition('data-scan="')[2]
            url = marked.partition('"')[0].replace("&amp;", "&") or None
        return time.perf_counter() - began


def first_bytes(root: str, count: int, rounds: int) -> Iterator[tuple[str, float]]:
    """Yield the median of each page in seconds; the first round counts, too."""
    asking = Asking(root)
    for name, path in pages(count).items():
        if name.startswith("to the end"):
            yield name, asking.scan(path)
        else:
            yield name, median(asking.ask(path)[0] for _ in range(rounds))


def idle_share(root: str, seconds: float = _IDLE_SECONDS) -> float:
    """Return the share of a core that this process takes while a page is open and nothing changes."""
    connection = http.client.HTTPConnection(urlsplit(root).netloc, timeout=60)
    connection.request("GET", "/events")
    reply = connection.getresponse()
    threading.Thread(target=lambda: [reply.readline() for _ in range(3)], daemon=True).start()
    wait = threading.Event().wait
    wait(2.0)
    before = time.process_time()
    wait(seconds)
    share = (time.process_time() - before) / seconds
    connection.close()
    return share


def main(
    requests: Annotated[int, typer.Option(help="Requests in the store.")] = 1_000_000,
    rounds: Annotated[int, typer.Option(help="How often each page is asked for.")] = 15,
    database: Annotated[str, typer.Option(help="sqlite, postgres, or both.")] = "both",
) -> None:
    """Fill a store of each kind, ask for each page, and print a Markdown table of milliseconds."""
    console = Console(width=10_000)

    def row(cells: list[str]) -> None:
        console.print(f"| {' | '.join(cells)} |", markup=False, highlight=False)

    row([f"{requests:,} requests", *pages(requests), "index built, s", "an open page, % of a core", "peak MB"])
    console.print(f"|{'---|' * (len(pages(requests)) + 4)}", markup=False, highlight=False)
    for kind in DATABASES if database == "both" else (database,):
        with temporary_database(kind) as place:
            store = Store(place.url)
            migrate.upgrade(store)
            fill(store, filling_of(requests, 1_000))
            if not store.is_sqlite:
                vacuum(store)
            began = time.perf_counter()
            custom_id_index.build(store)
            built = time.perf_counter() - began
            store.close()
            settings = load_settings(home=place.folder / "home", database_url=place.url)
            with ViewServer(settings, port=0) as server:
                seconds = dict(first_bytes(server.root, requests, rounds))
                share = idle_share(server.root)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1_000
        cells = [f"{took:.1f} s" if took >= 1 else f"{took * 1_000:.0f}" for took in seconds.values()]
        row([kind, *cells, f"{built:.1f}", f"{share:.2%}", f"{peak:.0f}"])


if __name__ == "__main__":
    typer.run(main)
