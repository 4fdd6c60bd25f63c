"""The tables of evaluations, as SQLAlchemy Core; ``tables`` has those of workloads."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    CheckConstraint,
    Column,
    Float,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    SmallInteger,
    Table,
    Text,
    text,
)

from batchkit.store.metadata import metadata
from batchkit.store.rows import ROW_ID

# One run of a suite. ``definition`` is the suite at its start, so that any process can finish the run with this database alone. A run
# without a ``number`` is outside the suite's series: of some rows only, or ``derived_from`` another run, whose answers it scores.
evaluations = Table(
    "evaluations",
    metadata,
    Column("id", ROW_ID, primary_key=True),
    Column("suite", Text, nullable=False),
    Column("number", Integer),
    Column("name", Text, nullable=False, unique=True),
    Column("suite_version", Text, nullable=False),
    Column("definition", Text, nullable=False),
    Column("workload", Text, nullable=False),
    Column("arm_count", Integer, nullable=False),
    Column("samples", Integer, nullable=False),
    Column("scheduled_for", Float),
    Column("started_at", Float, nullable=False),
    Column("finished_at", Float),
    Column("verdict", Text),
    Column("summary", Text),
    Column("derived_from", Text),
    Column("fully_scored", SmallInteger),
    CheckConstraint("arm_count > 0 AND samples > 0", name="shape"),
    CheckConstraint(
        "verdict IS NULL OR verdict IN ('passed', 'regressed', 'unscored', 'incomparable', 'first', 'rescored')",
        name="verdict",
    ),
    CheckConstraint(
        "(finished_at IS NULL AND verdict IS NULL AND summary IS NULL)"
        " OR (finished_at IS NOT NULL AND verdict IS NOT NULL AND summary IS NOT NULL)",
        name="finished_whole",
    ),
    Index("evaluations_suite_number", "suite", "number", unique=True),
    # A schedule that fires twice for the same time makes one run.
    Index("evaluations_suite_scheduled_for", "suite", "scheduled_for", unique=True),
    sqlite_autoincrement=True,
)

RUNNING = text("finished_at IS NULL")
Index("evaluations_running", evaluations.c.id, postgresql_where=RUNNING, sqlite_where=RUNNING)

# An arm is a prompt with a model, which a run compares with others. The arm of a request is ``(seq / samples) % arm_count``.
evaluation_arms = Table(
    "evaluation_arms",
    metadata,
    Column("evaluation_id", ROW_ID, ForeignKey("evaluations.id"), primary_key=True, autoincrement=False),
    Column("arm", Integer, primary_key=True, autoincrement=False),
    Column("prompt", Text, nullable=False),
    Column("prompt_digest", Text, nullable=False),
    Column("model", Text, nullable=False),
)

# The rows of the dataset as the run read them; ``key`` pairs them with rows of other runs, NULL without a key column. ``labels`` has the
# texts of the expected columns as a JSON object, ``content`` a digest of the other columns; both are NULL in runs of earlier versions.
evaluation_rows = Table(
    "evaluation_rows",
    metadata,
    Column("evaluation_id", ROW_ID, primary_key=True, autoincrement=False),
    Column("number", BigInteger, primary_key=True, autoincrement=False),
    Column("key", Text),
    Column("slices", Text, nullable=False),
    Column("cluster", Text),
    Column("labels", Text),
    Column("content", LargeBinary),
    sqlite_with_rowid=False,
)

scores = Table(
    "scores",
    metadata,
    Column("evaluation_id", ROW_ID, primary_key=True, autoincrement=False),
    Column("scorer", Text, primary_key=True),
    Column("seq", ROW_ID, primary_key=True, autoincrement=False),
    Column("score", Float),
    Column("reason", Text),
    Column("detail", Text),
    CheckConstraint("(score IS NULL) <> (reason IS NULL)", name="scored_or_not"),
    sqlite_with_rowid=False,
)
