"""A process that adopts a batch at the same moment as another one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchkit.engine.runtime import Runner
from batchkit.errors import WorkloadConflict
from batchkit.models import BatchId
from batchkit.settings import load_settings
from batchkit.steps import adopt
from batchkit.steps.split import SplitOptions

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.queues import Queue
    from multiprocessing.synchronize import Barrier

_LONGEST_WAIT_SECONDS = 60


def adopt_at_once(
    barrier: Barrier, ended: Queue[tuple[str, str]], settings: dict[str, Any], batch_id: str, name: str, *, step: str
) -> None:
    """Adopt a batch; both processes begin ``step`` of the writer together. Report what became of it, and a message."""
    plain: Callable[..., Any] = getattr(adopt._Writer, step)

    def together(*given: Any) -> Any:
        barrier.wait(_LONGEST_WAIT_SECONDS)
        return plain(*given)

    setattr(adopt._Writer, step, together)
    with Runner(load_settings(**settings)) as runner:
        try:
            runner.adopt([BatchId(batch_id)], name=name, options=SplitOptions())
        except WorkloadConflict as refused:
            ended.put(("refused", refused.message))
        except Exception as error:  # noqa: BLE001 - whatever it is, the test shows it
            ended.put((type(error).__name__, str(error)))
        else:
            ended.put(("adopted", name))
