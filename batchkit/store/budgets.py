"""Budgets: what the workloads of one budget have spent, what is reserved for their shards, and what it holds back.

A workload has its own budget, or with ``budget_of`` shares that of another one: the judges of a run share the run's. Nothing is
counted twice or lost by a death: a reservation is the estimate on the row of its shard, and the sums are made from these rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, bindparam, case, func, or_, select, update

from batchkit.budget import Amount, Budget, Ledger, is_held
from batchkit.lifecycle import OPEN_SHARD_STATES
from batchkit.models import ShardId, ShardState, WorkloadId
from batchkit.store.shards import COLUMNS, read_row
from batchkit.store.tables import names, results, shards, workloads

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy.engine import Connection

    from batchkit.models import Shard, Workload

_MERGED = shards.c.state == ShardState.MERGED.value
#: Answers to adopted batches were bought by something else.
_OURS = shards.c.is_adopted.is_(False)
_OF_BUDGET = and_(
    _OURS,
    shards.c.workload_id.in_(
        select(workloads.c.id).where(
            or_(workloads.c.id == bindparam("holder"), workloads.c.budget_of == bindparam("holder"))
        )
    ),
)
_IS_OPEN = and_(
    shards.c.state.in_([state.value for state in OPEN_SHARD_STATES]),
    or_(shards.c.state != ShardState.PLANNED.value, shards.c.estimated_tokens.is_not(None)),
)


def _sum(condition: Any, column: Any) -> Any:
    return func.coalesce(func.sum(case((condition, column), else_=0)), 0)


_USED_TOKENS = func.coalesce(shards.c.spent_tokens, shards.c.prompt_tokens + shards.c.completion_tokens)
_LEDGER = select(
    _sum(_MERGED, _USED_TOKENS),
    _sum(_MERGED, shards.c.spent_usd),
    # Answers without an estimate prove nothing about estimates.
    _sum(and_(_MERGED, shards.c.estimated_tokens.is_not(None)), shards.c.succeeded),
    _sum(_MERGED, shards.c.estimated_tokens),
    _sum(_MERGED, shards.c.estimated_usd),
    _sum(_IS_OPEN, shards.c.estimated_tokens),
    _sum(_IS_OPEN, shards.c.estimated_usd),
    _sum(_IS_OPEN, 1),
).where(_OF_BUDGET)
_HOLDER = select(workloads.c.max_cost_usd, workloads.c.max_total_tokens).where(workloads.c.id == bindparam("holder"))
_LOCKED_HOLDER = _HOLDER.with_for_update(key_share=True)
_HELD = select(workloads.c.held_tokens, workloads.c.held_usd).where(workloads.c.id == bindparam("own_id"))


@dataclass(frozen=True, slots=True)
class BudgetState:
    """A budget with its ledger, and the least that a workload would send next and had no room for; None when nothing waits."""

    budget: Budget
    ledger: Ledger
    held: Amount | None

    @property
    def is_held(self) -> bool:
        """Whether nothing more of the workload may be sent now."""
        return is_held(self.budget, self.ledger, self.held)

    @property
    def lacks_tokens(self) -> bool:
        """Whether it is the limit of tokens that leaves no room."""
        return is_held(replace(self.budget, max_cost_usd=None), self.ledger, self.held)

    @property
    def is_exhausted(self) -> bool:
        """Whether nothing more may be sent, and nothing is in flight that could cost less than estimated."""
        return self.is_held and not self.ledger.open_shards


def holder_of(workload: Workload) -> WorkloadId:
    """Return the workload whose row has the budget."""
    return workload.budget_of or workload.id


def read(connection: Connection, workload: Workload, *, lock: bool = False) -> BudgetState | None:
    """Read the budget of a workload; None without one. With ``lock`` nobody else reserves before the transaction ends."""
    if not workload.may_have_budget:
        return None
    bound = {"holder": holder_of(workload)}
    row = connection.execute(_LOCKED_HOLDER if lock else _HOLDER, bound).one_or_none()
    if row is None or (row.max_cost_usd is None and row.max_total_tokens is None):
        return None
    held = connection.execute(_HELD, {"own_id": workload.id}).one()
    sums = connection.execute(_LEDGER, bound).one()
    used_tokens, used_usd, answers, estimated_tokens, estimated_usd, open_tokens, open_usd, open_shards = sums
    ledger = Ledger(
        spent=Amount(float(used_tokens), float(used_usd)),
        estimated=Amount(float(estimated_tokens), float(estimated_usd)),
        answers=int(answers),
        in_flight=Amount(float(open_tokens), float(open_usd)),
        open_shards=int(open_shards),
    )
    return BudgetState(
        Budget(row.max_cost_usd, row.max_total_tokens),
        ledger,
        None if held.held_tokens is None else Amount(held.held_tokens, held.held_usd or 0.0),
    )


def set_held(connection: Connection, workload_id: WorkloadId, least: Amount | None) -> None:
    """Store what a workload would send next and has no room for; None: it had room."""
    tokens, usd = (None, None) if least is None else least
    statement = update(workloads).where(workloads.c.id == workload_id)
    connection.execute(statement.values(held_tokens=tokens, held_usd=usd))


def set_budget(
    connection: Connection, workload: Workload, *, max_cost_usd: float | None, max_total_tokens: int | None
) -> None:
    """Store the limits that are not None, where the budget of the workload is."""
    given = {"max_cost_usd": max_cost_usd, "max_total_tokens": max_total_tokens}
    values = {name: value for name, value in given.items() if value is not None}
    if values:
        connection.execute(update(workloads).where(workloads.c.id == holder_of(workload)).values(**values))


def unestimated(connection: Connection, workload: Workload, *, in_usd: bool) -> list[Shard]:
    """Read the shards of a budget that were sent without an estimate (``in_usd``) and are not merged, by id."""
    column = shards.c.estimated_usd if in_usd else shards.c.estimated_tokens
    query = (
        select(*COLUMNS).where(_OF_BUDGET, _IS_OPEN, column.is_(None), shards.c.path.is_not(None)).order_by(shards.c.id)
    )
    return [read_row(row) for row in connection.execute(query, {"holder": holder_of(workload)})]


def set_estimate(connection: Connection, shard_id: ShardId, estimate: Amount, *, in_usd: bool) -> None:
    """Store what an open shard may use that was sent without an estimate; one that is merged by now stays as it is."""
    values = {"estimated_tokens": estimate.tokens, **({"estimated_usd": estimate.usd} if in_usd else {})}
    connection.execute(update(shards).where(shards.c.id == shard_id, _IS_OPEN).values(**values))


_UNPRICED = and_(_OF_BUDGET, _MERGED, shards.c.spent_usd.is_(None))


def unpriced(connection: Connection, workload: Workload) -> dict[ShardId, dict[str | None, tuple[int, int]]]:
    """Return the tokens of merged shards of a budget whose price is not stored, by shard and by the model that answered."""
    bound = {"holder": holder_of(workload)}
    found: dict[ShardId, dict[str | None, tuple[int, int]]] = {
        ShardId(shard_id): {} for shard_id in connection.scalars(select(shards.c.id).where(_UNPRICED), bound)
    }
    if not found:
        return found
    sums = (
        select(
            results.c.shard_id,
            names.c.name,
            func.coalesce(func.sum(results.c.prompt_tokens), 0),
            func.coalesce(func.sum(results.c.completion_tokens), 0),
        )
        .join_from(results, shards, shards.c.id == results.c.shard_id)
        .outerjoin(names, names.c.id == results.c.model)
        .where(_UNPRICED, results.c.workload_id == shards.c.workload_id)
        .group_by(results.c.shard_id, names.c.name)
    )
    for shard_id, model, prompt, completion in connection.execute(sums, bound):
        found[ShardId(shard_id)][model] = (int(prompt), int(completion))
    return found


def set_prices(connection: Connection, usd: Mapping[ShardId, float]) -> None:
    """Store what merged shards have cost, in USD."""
    for shard_id, price in usd.items():
        connection.execute(update(shards).where(shards.c.id == shard_id).values(spent_usd=price))
