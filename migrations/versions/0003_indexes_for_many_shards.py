"""Indexes for workloads of many thousand shards: what a pass asks for is found, not sought among all that is done."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_FAILED = sa.text("state = 'failed'")
_LEASED = sa.text("lease_owner IS NOT NULL")
_TROUBLED = sa.text(
    "(status IN ('failed', 'expired', 'cancelled', 'gone') OR missing_since IS NOT NULL OR problems <> '[]')"
)


def upgrade() -> None:
    """Let claims, leases, batches in trouble and reasons of failure be read from an index alone."""
    op.drop_index("shards_workload_id_state", table_name="shards")
    op.create_index("shards_workload_id_state_number", "shards", ["workload_id", "state", "number"])
    op.create_index("shards_leased", "shards", ["lease_owner"], postgresql_where=_LEASED, sqlite_where=_LEASED)
    op.create_index(
        "batches_troubled",
        "batches",
        ["workload_id", "shard_id"],
        postgresql_where=_TROUBLED,
        sqlite_where=_TROUBLED,
    )
    _index_failed(["workload_id", "error_code", "seq", "state"])


def downgrade() -> None:
    """Go back to the narrower indexes."""
    _index_failed(["workload_id", "error_code", "seq"])
    op.drop_index("batches_troubled", table_name="batches")
    op.drop_index("shards_leased", table_name="shards")
    op.drop_index("shards_workload_id_state_number", table_name="shards")
    op.create_index("shards_workload_id_state", "shards", ["workload_id", "state"])


def _index_failed(columns: list[str]) -> None:
    op.drop_index("results_failed", table_name="results")
    op.create_index("results_failed", "results", columns, postgresql_where=_FAILED, sqlite_where=_FAILED)
