"""How many rows of a workload's table have no request."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column; a workload that exists has skipped no row."""
    op.add_column("workloads", sa.Column("skipped_rows", sa.BigInteger(), server_default=sa.text("0"), nullable=False))


def downgrade() -> None:
    """Drop it."""
    op.drop_column("workloads", "skipped_rows")
