"""What a dry run can know of reuse: opens the database if there is one, and changes nothing."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from batchkit.api import existing
from batchkit.engine import composition
from batchkit.models import ReuseMode
from batchkit.steps.request_digests import RequestDigests
from batchkit.steps.reuse import ValidAnswers
from batchkit.steps.reuse_plan import PlannedReuse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.settings import Settings
    from batchkit.steps.split import SplitOptions


@contextmanager
def planned_reuse(
    settings: Settings, options: SplitOptions, *, answer_rules: str | None = None, is_of_table: bool = False
) -> Iterator[PlannedReuse | None]:
    """Yield what tells the requests that a split with these options would not send; None if it would send all."""
    mode = options.reuse_mode
    if mode is ReuseMode.OFF:
        yield None
        return
    digests = RequestDigests(mode, scope=composition.reuse_scope(settings, options), is_of_table=is_of_table)
    with existing.readable_store(settings) as store:
        yield PlannedReuse(digests, None if store is None else ValidAnswers(store, answer_rules))
