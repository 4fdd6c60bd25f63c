"""The tables, as SQLAlchemy Core. ``migrations/`` creates them; a test compares the two.

``requests`` and ``results`` stay narrow because they are queried by state and upserted; the answers are in ``bodies``, which only
grows. ``batchkit.store.rows`` defines the columns of the tables with a row per request. ``shards`` holds the counts of its merge,
so that a report reads hundreds of rows, not millions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    SmallInteger,
    Table,
    Text,
    false,
    text,
    true,
)

from batchkit.models import RequestState, ShardState
from batchkit.store import evaluation_tables  # noqa: F401 - the metadata of this module has all tables
from batchkit.store.metadata import metadata as metadata  # noqa: PLC0414 - exported, as above
from batchkit.store.rows import ROW_ID, columns

if TYPE_CHECKING:
    from collections.abc import Iterable
    from enum import StrEnum


def _one_of(column: str, states: Iterable[StrEnum]) -> str:
    return f"{column} IN ({', '.join(repr(state.value) for state in states)})"


def _implies(states: Iterable[StrEnum], condition: str) -> str:
    return f"NOT ({_one_of('state', states)}) OR ({condition})"


workloads = Table(
    "workloads",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("name", Text, nullable=False, unique=True),
    Column("created_at", Float, nullable=False),
    Column("source", Text, nullable=False),
    Column("directory", Text, nullable=False),
    Column("input_sha256", Text),
    Column("request_count", BigInteger),
    Column("completion_window", Text, nullable=False),
    Column("max_completion_window", Text, nullable=False),
    Column("shard_lines", Integer, nullable=False),
    Column("shard_bytes", BigInteger, nullable=False),
    Column("max_attempts", Integer, nullable=False),
    Column("max_expiries", Integer, nullable=False),
    Column("credential", Text),
    Column("cancel_requested_at", Float),
    Column("lease_owner", Text),
    Column("lease_until", Float),
    Column("answer_rules", Text),
    Column("recipe", Text),
    Column("output", Text),
    Column("stopped_at", Float),
    Column("stopped_reason", Text),
    Column("skipped_rows", BigInteger, nullable=False, server_default=text("0")),
    Column("reuse", Text),
    Column("reused_requests", BigInteger, nullable=False, server_default=text("0")),
    Column("repeated_requests", BigInteger, nullable=False, server_default=text("0")),
    Column("provider", Text, nullable=False, server_default=text("'groq'")),
    Column("adopted_at", Float),
    Column("holds", Boolean, nullable=False, server_default=false()),
    Column("lane", Text, nullable=False, server_default=text("'batch'")),
    Column("is_lane_auto", Boolean, nullable=False, server_default=false()),
    Column("tiers", Text),
    Column("resends_doubts", Boolean, nullable=False, server_default=true()),
    Column("max_cost_usd", Float),
    Column("max_total_tokens", BigInteger),
    Column("budget_of", ROW_ID),
    # What the next part of it may use that the budget had no room for; NULL when it had.
    Column("held_tokens", Float),
    Column("held_usd", Float),
    Column("stops_late", Boolean, nullable=False, server_default=false()),
    Column("deadline", Float),
    Column("deadline_since", Float),
    Column("sync_rate", Float),
    Column("drain_since", Float),
    CheckConstraint("request_count IS NULL OR input_sha256 IS NOT NULL", name="split_whole"),
    CheckConstraint("shard_lines > 0 AND shard_bytes > 0", name="shard_size"),
    CheckConstraint("max_attempts > 0 AND max_expiries > 0", name="budgets"),
    sqlite_autoincrement=True,  # an id is never used again: another process may still work on the removed workload
)

shards = Table(
    "shards",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("workload_id", ROW_ID, ForeignKey("workloads.id"), nullable=False),
    Column("number", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("completion_window", Text, nullable=False),
    Column("key", Text, nullable=False, unique=True),
    Column("path", Text),
    Column("sha256", Text),
    Column("line_count", Integer, nullable=False),
    Column("byte_count", BigInteger, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("input_file_id", Text),
    Column("batch_id", Text, unique=True),
    Column("submitting_since", Float),
    Column("not_before", Float, nullable=False, server_default=text("0")),
    Column("refusals", Integer, nullable=False, server_default=text("0")),
    Column("waits", Integer, nullable=False, server_default=text("0")),
    Column("lease_owner", Text),
    Column("lease_until", Float),
    Column("merged_at", Float),
    Column("cleaned_at", Float),
    # The counts of the merge, and the terms of the next attempt.
    Column("succeeded", Integer, nullable=False, server_default=text("0")),
    Column("failed", Integer, nullable=False, server_default=text("0")),
    Column("expired", Integer, nullable=False, server_default=text("0")),
    Column("prompt_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("completion_tokens", BigInteger, nullable=False, server_default=text("0")),
    Column("next_lines", Integer, nullable=False),
    Column("next_completion_window", Text, nullable=False),
    Column("looks", Integer, nullable=False, server_default=text("0")),
    Column("model", Text),
    Column("is_adopted", Boolean, nullable=False, server_default=false()),
    Column("id_prefix", Text),
    Column("lane", Text, nullable=False, server_default=text("'batch'")),
    Column("answered", Integer, nullable=False, server_default=text("0")),
    # What its requests may use, once that is reserved; after the merge what those with an answer might have used, and what all did.
    Column("estimated_tokens", Float),
    Column("estimated_usd", Float),
    Column("spent_tokens", Float),
    Column("spent_usd", Float),
    CheckConstraint(_one_of("state", ShardState), name="state"),
    # Of an adopted batch the file may be unknown, and all of its requests may be in other batches, too.
    CheckConstraint(
        _implies(
            (ShardState.PLANNED, ShardState.UPLOADED, ShardState.SUBMITTING, ShardState.SENDING),
            "line_count > 0 AND path IS NOT NULL AND sha256 IS NOT NULL",
        ),
        name="not_empty",
    ),
    CheckConstraint(
        _implies((ShardState.UPLOADED, ShardState.SUBMITTING), "input_file_id IS NOT NULL"), name="has_file"
    ),
    CheckConstraint(_implies((ShardState.SUBMITTING,), "submitting_since IS NOT NULL"), name="has_intent"),
    CheckConstraint(
        # The sync lane has no batches.
        _implies((ShardState.SUBMITTED, ShardState.ENDED, ShardState.MERGED), "batch_id IS NOT NULL OR lane = 'sync'"),
        name="has_batch",
    ),
    Index(None, "workload_id", "number", unique=True),
    # With the number in the index, a claim of 200 stops after 200 rows, however many shards are in that state.
    Index("shards_workload_id_state_number", "workload_id", "state", "number"),
    sqlite_autoincrement=True,
)

LEASED = text("lease_owner IS NOT NULL")
Index("shards_leased", shards.c.lease_owner, postgresql_where=LEASED, sqlite_where=LEASED)

requests = Table(
    "requests",
    metadata,
    *columns("requests"),
    # For an IN (...) of more than two values SQLite builds a small index for each written row, which took half the time of an
    # insert. OR does not; the most frequent state comes first.
    CheckConstraint(
        "(state = 'in_flight' OR state = 'succeeded' OR state = 'pending' OR state = 'failed' OR state = 'cancelled')",
        name="state",
    ),
    CheckConstraint("expiries <= attempts", name="counters"),
    sqlite_with_rowid=False,
)

# Only requests without a success are in this index, so it is small for a finished workload. SQLite uses a partial index only for
# a query that repeats its condition literally, and prefers it to the primary key only when it covers every selected column:
# here all columns that resubmission reads, which would otherwise look up each request in the table again.
UNFINISHED = text("(state = 'pending' OR state = 'failed' OR state = 'cancelled')")
Index(
    "requests_unfinished",
    requests.c.workload_id,
    requests.c.state,
    requests.c.seq,
    requests.c.shard_id,
    requests.c.custom_id,
    requests.c.line_offset,
    requests.c.line_length,
    postgresql_where=UNFINISHED,
    sqlite_where=UNFINISHED,
)

# What a request asks, where its answer may be reused. Workloads without reuse have no entry.
DIGESTED = text("digest IS NOT NULL")
Index("requests_digest", requests.c.digest, postgresql_where=DIGESTED, sqlite_where=DIGESTED)
# Requests that get the result of another request of their workload.
FOLLOWS = text("leader_seq IS NOT NULL")
Index(
    "requests_followers",
    requests.c.workload_id,
    requests.c.state,
    requests.c.leader_seq,
    postgresql_where=FOLLOWS,
    sqlite_where=FOLLOWS,
)

# The lines of requests that several adopted batches have: one row for each batch.
placements = Table(
    "placements",
    metadata,
    Column("shard_id", ROW_ID, primary_key=True, autoincrement=False),
    Column("seq", ROW_ID, primary_key=True, autoincrement=False),
    Column("line_offset", BigInteger, nullable=False),
    Column("line_length", Integer, nullable=False),
    sqlite_with_rowid=False,
)

batches = Table(
    "batches",
    metadata,
    Column("id", Text, primary_key=True),
    Column("workload_id", ROW_ID, ForeignKey("workloads.id"), nullable=False),
    Column("shard_id", ROW_ID, ForeignKey("shards.id"), nullable=False, unique=True),
    Column("status", Text, nullable=False),
    Column("created_at", BigInteger),
    Column("expires_at", BigInteger),
    Column("total", Integer, nullable=False),
    Column("completed", Integer, nullable=False),
    Column("failed", Integer, nullable=False),
    Column("output_file_id", Text),
    Column("error_file_id", Text),
    Column("problems", Text, nullable=False),
    Column("raw", Text, nullable=False),
    Column("seen_at", Float, nullable=False),
    Column("missing_since", Float),
    Column("output_sha256", Text),
    Column("error_sha256", Text),
    Column("absent_at", Float),
    Index("batches_workload_id_status", "workload_id", "status"),
)

# Batches with problems are few, and read for every snapshot.
TROUBLED = text(
    "(status IN ('failed', 'expired', 'cancelled', 'gone') OR missing_since IS NOT NULL OR problems <> '[]')"
)
Index(
    "batches_troubled",
    batches.c.workload_id,
    batches.c.shard_id,
    postgresql_where=TROUBLED,
    sqlite_where=TROUBLED,
)

results = Table(
    "results",
    metadata,
    *columns("results"),
    CheckConstraint(_one_of("state", (RequestState.SUCCEEDED, RequestState.FAILED)), name="state"),
    sqlite_with_rowid=False,
)

FAILED = text("state = 'failed'")
Index(
    "results_failed",
    results.c.workload_id,
    results.c.error_code,
    results.c.seq,
    results.c.state,
    postgresql_where=FAILED,
    sqlite_where=FAILED,
)

# Results with the answers of other requests, by these answers: cleaning keeps the bodies.
REUSED = text("body_seq IS NOT NULL")
Index("results_reused", results.c.shard_id, results.c.body_seq, postgresql_where=REUSED, sqlite_where=REUSED)

# Where the answers of cleaned workloads come from that other workloads have reused. ``answered_at`` is when they were merged.
cleaned_answers = Table(
    "cleaned_answers",
    metadata,
    Column("shard_id", ROW_ID, primary_key=True, autoincrement=False),
    Column("seq", ROW_ID, primary_key=True, autoincrement=False),
    Column("custom_id", Text, nullable=False),
    Column("workload", Text, nullable=False),
    Column("answered_at", Float),
    sqlite_with_rowid=False,
)

# The names whose numbers ``results`` holds: see ``batchkit.store.names``.
names = Table(
    "names",
    metadata,
    Column("id", SmallInteger, primary_key=True, autoincrement=False),
    Column("name", Text, nullable=False, unique=True),
    sqlite_with_rowid=False,
)

bodies = Table("bodies", metadata, *columns("bodies"))
attempts = Table("attempts", metadata, *columns("attempts"), sqlite_with_rowid=False)

events = Table(
    "events",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("at", Float, nullable=False),
    Column("workload_id", ROW_ID, nullable=False),
    Column("shard_id", ROW_ID),
    Column("kind", Text, nullable=False),
    Column("detail", Text),
    Index("events_workload_id_id", "workload_id", "id"),
)

# One row per process that drives workloads; ``workload_id`` is NULL for a process that drives all open ones.
runners = Table(
    "runners",
    metadata,
    Column("owner", Text, primary_key=True),
    Column("verb", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("workload_id", ROW_ID),
    Column("seen_at", Float, nullable=False),
    Column("waiting_for", Text),
    Column("since", Float),
    Column("until", Float),
)

# What people decided about rows of annotated tables. ``number`` is the row's, from 1; without a ``decision`` somebody is at it.
# ``note`` is what they wrote beside it.
reviews = Table(
    "reviews",
    metadata,
    Column("workload_id", ROW_ID, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    Column("reviewer", Text, nullable=False),
    Column("decision", Text),
    Column("note", Text),
    sqlite_with_rowid=False,
)

# The outbox of notifications. ``id`` identifies the event, so that it is written once although several processes see it; ``report``
# is JSON.
notifications = Table(
    "notifications",
    metadata,
    Column("id", Text, primary_key=True),
    Column("target", Text, primary_key=True),
    Column("at", Float, nullable=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("report", Text, nullable=False),
    Column("lease_owner", Text),
    Column("lease_until", Float),
    Column("tries", Integer, nullable=False, server_default=text("0")),
    Column("delivered_at", Float),
    Column("last_error", Text),
)
