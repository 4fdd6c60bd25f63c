"""The lane of shards and workloads, the state of shards whose requests are sent one by one, deadlines and budgets."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OLD_COLUMNS = (
    "id, workload_id, number, state, endpoint, completion_window, key, path, sha256, line_count, byte_count, first_seq,"
    " last_seq, input_file_id, batch_id, submitting_since, not_before, refusals, waits, lease_owner, lease_until, merged_at,"
    " cleaned_at, succeeded, failed, expired, prompt_tokens, completion_tokens, next_lines, next_completion_window, looks,"
    " model, is_adopted, id_prefix"
)
_CHECKS = (
    (
        "shards_state",
        "state IN ('planned', 'uploaded', 'submitting', 'submitted', 'ended', 'merged', 'withdrawn')",
        "state IN ('planned', 'uploaded', 'submitting', 'submitted', 'sending', 'ended', 'merged', 'withdrawn')",
    ),
    (
        "shards_not_empty",
        "NOT (state IN ('planned', 'uploaded', 'submitting')) OR (line_count > 0 AND path IS NOT NULL AND sha256 IS NOT NULL)",
        "NOT (state IN ('planned', 'uploaded', 'submitting', 'sending')) OR (line_count > 0 AND path IS NOT NULL AND sha256 IS NOT NULL)",
    ),
    (
        "shards_has_batch",
        "NOT (state IN ('submitted', 'ended', 'merged')) OR (batch_id IS NOT NULL)",
        "NOT (state IN ('submitted', 'ended', 'merged')) OR (batch_id IS NOT NULL OR lane = 'sync')",
    ),
)


_OF_DEADLINES = ("deadline", "deadline_since", "sync_rate", "drain_since")


def upgrade() -> None:
    """Add the columns; everything until now travels as batches. SQLite changes a CHECK only by copying: it has a row per batch."""
    op.add_column("workloads", sa.Column("lane", sa.Text(), server_default=sa.text("'batch'"), nullable=False))
    op.add_column("workloads", sa.Column("is_lane_auto", sa.Boolean(), server_default=sa.false(), nullable=False))
    op.add_column("workloads", sa.Column("tiers", sa.Text()))
    op.add_column("workloads", sa.Column("resends_doubts", sa.Boolean(), server_default=sa.true(), nullable=False))
    for column in _budget_columns():
        op.add_column("workloads", column)
    op.add_column("workloads", sa.Column("stops_late", sa.Boolean(), server_default=sa.false(), nullable=False))
    for name in _OF_DEADLINES:
        op.add_column("workloads", sa.Column(name, sa.Float()))
    if _is_sqlite():
        _copy_shards(is_wide=True)
        return
    for column in _new_columns():
        op.add_column("shards", column)
    for name, _, check in _CHECKS:
        op.drop_constraint(op.f(name), "shards", type_="check")
        op.create_check_constraint(op.f(name), "shards", check)


def downgrade() -> None:
    """Forget the lanes. A shard of the sync lane that the old schema cannot hold becomes withdrawn or gets its key as a batch."""
    op.execute("UPDATE shards SET state = 'withdrawn' WHERE state = 'sending'")
    op.execute("UPDATE shards SET batch_id = key WHERE batch_id IS NULL AND state IN ('ended', 'merged')")
    if _is_sqlite():
        _copy_shards(is_wide=False)
    else:
        for name, check, _ in _CHECKS:
            op.drop_constraint(op.f(name), "shards", type_="check")
            op.create_check_constraint(op.f(name), "shards", check)
        for column in _new_columns():
            op.drop_column("shards", column.name)
    for column in _budget_columns():
        op.drop_column("workloads", column.name)
    for name in (*_OF_DEADLINES, "stops_late", "resends_doubts", "tiers", "is_lane_auto", "lane"):
        op.drop_column("workloads", name)


def _budget_columns() -> list[sa.Column]:
    return [
        sa.Column("max_cost_usd", sa.Float()),
        sa.Column("max_total_tokens", sa.BigInteger()),
        sa.Column("budget_of", _ROW_ID),
        sa.Column("held_tokens", sa.Float()),
        sa.Column("held_usd", sa.Float()),
    ]


def _new_columns() -> list[sa.Column]:
    return [
        sa.Column("lane", sa.Text(), server_default=sa.text("'batch'"), nullable=False),
        sa.Column("answered", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("estimated_tokens", sa.Float()),
        sa.Column("estimated_usd", sa.Float()),
        sa.Column("spent_tokens", sa.Float()),
        sa.Column("spent_usd", sa.Float()),
    ]


def _copy_shards(*, is_wide: bool) -> None:
    # The batches refer to the shards: the new table has the same name and the same rows before the transaction ends.
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute("CREATE TABLE copied_shards AS SELECT * FROM shards")
    # Ids of removed shards are never used again.
    op.execute("CREATE TABLE copied_sequence AS SELECT seq FROM sqlite_sequence WHERE name = 'shards'")
    op.drop_table("shards")
    op.create_table("shards", *_columns(is_wide=is_wide), sqlite_autoincrement=True)
    op.execute(f"INSERT INTO shards ({_OLD_COLUMNS}) SELECT {_OLD_COLUMNS} FROM copied_shards ORDER BY id")  # noqa: S608 - constants
    op.execute("DELETE FROM sqlite_sequence WHERE name = 'shards'")
    op.execute("INSERT INTO sqlite_sequence (name, seq) SELECT 'shards', seq FROM copied_sequence")
    op.drop_table("copied_sequence")
    op.drop_table("copied_shards")
    op.create_index("shards_workload_id_number", "shards", ["workload_id", "number"], unique=True)
    op.create_index("shards_workload_id_state_number", "shards", ["workload_id", "state", "number"])
    op.create_index("shards_leased", "shards", ["lease_owner"], sqlite_where=sa.text("lease_owner IS NOT NULL"))


def _columns(*, is_wide: bool) -> list[sa.schema.SchemaItem]:
    zero = sa.text("0")
    return [
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("workload_id", _ROW_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("completion_window", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=True),
        sa.Column("sha256", sa.Text(), nullable=True),
        sa.Column("line_count", sa.Integer(), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("input_file_id", sa.Text()),
        sa.Column("batch_id", sa.Text()),
        sa.Column("submitting_since", sa.Float()),
        sa.Column("not_before", sa.Float(), server_default=zero, nullable=False),
        sa.Column("refusals", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("waits", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_until", sa.Float()),
        sa.Column("merged_at", sa.Float()),
        sa.Column("cleaned_at", sa.Float()),
        sa.Column("succeeded", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("failed", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("expired", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), server_default=zero, nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), server_default=zero, nullable=False),
        sa.Column("next_lines", sa.Integer(), nullable=False),
        sa.Column("next_completion_window", sa.Text(), nullable=False),
        sa.Column("looks", sa.Integer(), server_default=zero, nullable=False),
        sa.Column("model", sa.Text()),
        sa.Column("is_adopted", sa.Boolean(), server_default=sa.false(), nullable=False),
        sa.Column("id_prefix", sa.Text()),
        *(_new_columns() if is_wide else ()),
        *(sa.CheckConstraint(new if is_wide else old, name=op.f(name)) for name, old, new in _CHECKS),
        sa.CheckConstraint(
            "NOT (state IN ('submitting')) OR (submitting_since IS NOT NULL)", name=op.f("shards_has_intent")
        ),
        sa.CheckConstraint(
            "NOT (state IN ('uploaded', 'submitting')) OR (input_file_id IS NOT NULL)", name=op.f("shards_has_file")
        ),
        sa.ForeignKeyConstraint(["workload_id"], ["workloads.id"], name="shards_workload_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="shards_pkey"),
        sa.UniqueConstraint("batch_id", name="shards_batch_id_key"),
        sa.UniqueConstraint("key", name="shards_key_key"),
    ]


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"
