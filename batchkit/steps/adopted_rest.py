"""Facts about a workload of adopted batches: how its requests failed, and what it would take to send the rest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from batchkit import preflight
from batchkit.files import jsonl
from batchkit.steps.resubmit import OldShards
from batchkit.store import adopted_shards, requests

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from batchkit.models import BatchId, OutcomeKind, WorkloadId
    from batchkit.steps.context import StepContext

_REQUESTS_AT_ONCE = 5_000
_NO_MODEL = "(no model)"


@dataclass(frozen=True, slots=True)
class AdoptedFacts:
    """``failed`` counts failed requests by the outcome of their last attempt, ``unnamed`` requests that no file names.

    ``rest`` has estimates of the requests that ``resubmit`` would send, by their model.
    """

    batch_ids: Sequence[BatchId]
    failed: Mapping[OutcomeKind, int]
    unnamed: int
    rest: Mapping[str, preflight.ModelShare]


def adopted_facts(context: StepContext, workload_id: WorkloadId) -> AdoptedFacts:
    """Read the facts. Raises ``SpoolError`` when a file of requests is lost."""
    with context.store.read() as connection:
        ids = adopted_shards.batch_ids(connection, workload_id)
        failed = requests.failed_by_kind(connection, workload_id)
        unnamed = adopted_shards.unnamed_requests(connection, workload_id)
    return AdoptedFacts(ids, failed, unnamed, _rest(context, workload_id))


def _rest(context: StepContext, workload_id: WorkloadId) -> dict[str, preflight.ModelShare]:
    shares: dict[str, preflight.ModelShare] = {}
    after_seq = -1
    with OldShards(context, None) as files:
        while True:
            with context.store.read() as connection:
                found = requests.reopenable_after(connection, workload_id, after_seq=after_seq, limit=_REQUESTS_AT_ONCE)
            if not found:
                return shares
            after_seq = found[-1].seq
            for lines in files.lines_of(found):
                for line in filter(None, lines.data.split(b"\n")):
                    record = jsonl.loads_leniently(line)
                    model = _model_of(record)
                    shares.setdefault(model, preflight.ModelShare()).add(preflight.estimate_tokens(record))


def _model_of(record: object) -> str:
    body = record.get("body") if isinstance(record, dict) else None
    model = body.get("model") if isinstance(body, dict) else None
    return model if isinstance(model, str) and model else _NO_MODEL
