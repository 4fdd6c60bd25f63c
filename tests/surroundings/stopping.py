"""The command, in a process that stops itself (SIGSTOP) the first time that it reaches a moment.

Start it as ``python -m tests.surroundings.stopping MOMENT run ...``; ``MOMENTS`` has the moments.
"""

from __future__ import annotations

import functools
import signal
import sys
import threading
from typing import Any

from batchkit.cli import main
from batchkit.engine.leases import ProcessLeases
from batchkit.provider.client import BatchApi
from batchkit.steps import merge, submit

#: The place of each moment: the module or class of a function, its name, and whether the stop is before or after it.
MOMENTS: dict[str, tuple[Any, str, str]] = {
    "before an upload": (BatchApi, "upload_file", "before"),
    "before the last check": (submit, "_refuse_when_late", "before"),
    "after the last check": (submit, "_refuse_when_late", "after"),
    "after the answer": (submit, "attach", "before"),
    "before a merge": (merge, "_merge_once", "before"),
}


def stop_at(moment: str) -> None:
    """Wrap the function of a moment so that its first call stops this process, but never inside a transaction of its leases."""
    place, name, side = MOMENTS[moment]
    renewing = threading.Lock()
    renew = ProcessLeases._renew

    def renew_alone(leases: ProcessLeases) -> None:
        with renewing:
            renew(leases)

    setattr(ProcessLeases, "_renew", renew_alone)  # noqa: B010 - mypy takes no assignment to a method
    function = getattr(place, name)
    once = threading.Lock()

    def stop() -> None:
        if once.acquire(blocking=False):
            with renewing:
                # Sent to this very thread; otherwise it would run on for a moment.
                signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)

    @functools.wraps(function)
    def stopping(*arguments: Any, **keywords: Any) -> Any:
        if side == "before":
            stop()
        result = function(*arguments, **keywords)
        if side == "after":
            stop()
        return result

    setattr(place, name, stopping)


if __name__ == "__main__":
    stop_at(sys.argv.pop(1))
    main()
