"""The answers of a workload as a table, for questions about them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from batchkit.errors import UsageError
from batchkit.files.spool import directory_name

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchkit.datasets import Table
    from batchkit.engine.runtime import Runner

_COLUMNS = ["custom_id", "text"]


@contextmanager
def answers_as_table(runner: Runner, name: str) -> Iterator[Table]:
    """Yield a table of ``custom_id`` and ``text`` of the requests with a text answer, until the ``with`` block ends.

    Raises ``UnknownWorkload``, and ``UsageError`` for a workload that is not finished.
    """
    import pyarrow.compute as pc  # noqa: PLC0415 - an extra

    from batchkit.datasets import Snapshot  # noqa: PLC0415 - as above

    workload = runner.find(name)
    if not runner.progress(workload.id).is_finished:
        raise UsageError(
            f"the workload {name!r} is not finished",
            hint=f"`batchkit watch {name}` waits until all its answers are there",
        )
    with runner.scratch() as scratch:
        exported, kept = scratch / "answers.parquet", scratch / f"{directory_name(name, 'answers')}.parquet"
        runner.export(name, exported)
        table = Snapshot.open(exported)
        schema = table.schema
        for column in reversed(table.columns):
            if column not in _COLUMNS:
                schema = schema.remove(schema.get_field_index(column))
        with Snapshot.writer(kept, schema) as writer:
            for batch in table.batches():
                has_text = pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(batch.column("text"))), 0)
                writer.write(batch.filter(has_text).select(schema.names))
        yield Snapshot.open(kept)
