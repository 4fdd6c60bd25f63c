"""What a request asks and whose answer it got, so that no question is bought twice; the views show reused answers, too."""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_COLUMNS = (
    ("requests", "digest", sa.LargeBinary()),
    ("requests", "leader_seq", sa.BigInteger()),
    ("results", "body_seq", sa.BigInteger()),
    ("workloads", "reuse", sa.Text()),
)
_COUNTS = ("reused_requests", "repeated_requests")
_INDEXES = (
    ("requests_digest", "requests", ("digest",), "digest IS NOT NULL"),
    ("requests_followers", "requests", ("workload_id", "state", "leader_seq"), "leader_seq IS NOT NULL"),
    ("results_reused", "results", ("shard_id", "body_seq"), "body_seq IS NOT NULL"),
)
#: The shard of a reused answer may be gone: its workload was cleaned.
_REUSED_VIEWS = (
    (" JOIN shards ON shards.id = results.shard_id", " LEFT JOIN shards ON shards.id = results.shard_id"),
    ("bodies.seq = results.seq", "bodies.seq = coalesce(results.body_seq, results.seq)"),
)


def upgrade() -> None:
    """Add columns that may be NULL, indexes of the rows that have them, and a table; define the views anew."""
    for table, name, kind in _COLUMNS:
        op.add_column(table, sa.Column(name, kind))
    for name in _COUNTS:
        op.add_column("workloads", sa.Column(name, sa.BigInteger(), server_default=sa.text("0"), nullable=False))
    for name, table, columns, where in _INDEXES:
        condition = sa.text(where)
        op.create_index(name, table, list(columns), postgresql_where=condition, sqlite_where=condition)
    op.create_table(
        "cleaned_answers",
        sa.Column("shard_id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("seq", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("custom_id", sa.Text(), nullable=False),
        sa.Column("workload", sa.Text(), nullable=False),
        sa.Column("answered_at", sa.Float(), nullable=True),
        sa.PrimaryKeyConstraint("shard_id", "seq", name="cleaned_answers_pkey"),
        sqlite_with_rowid=False,
    )
    _define_views(_REUSED_VIEWS)


def downgrade() -> None:
    """Forget all of it; results that were reused lose their answers."""
    _define_views(())
    op.drop_table("cleaned_answers")
    for name, table, _, _ in _INDEXES:
        op.drop_index(name, table)
    for name in _COUNTS:
        op.drop_column("workloads", name)
    for table, name, _ in _COLUMNS:
        op.drop_column(table, name)


def _define_views(changes: tuple[tuple[str, str], ...]) -> None:
    before = _revision("0009")
    answers = _revision("0008")
    answer = answers._sqlite_answer() if before._is_sqlite() else answers._postgres_answer()
    views = {"succeeded": before._SUCCEEDED.format(answer=answer), "failed": before._FAILED}
    for name, query in views.items():
        for old, new in changes:
            query = query.replace(old, new)  # noqa: PLW2901 - the same query, changed
        op.execute(f"DROP VIEW {name}")
        op.execute(f"CREATE VIEW {name} AS {query}")


def _revision(number: str):  # noqa: ANN202 - a module
    """Return an earlier revision: what it wrote down of a view is not written down again."""
    return op.get_context().environment_context.script.get_revision(number).module
