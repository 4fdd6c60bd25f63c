"""Who works on what, why the last command stopped, and where the results are to be written."""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMNS = (("output", sa.Text()), ("stopped_at", sa.Float()), ("stopped_reason", sa.Text()))


def upgrade() -> None:
    """Add the table of runners, and the columns to the workloads."""
    op.create_table(
        "runners",
        sa.Column("owner", sa.Text(), primary_key=True),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("workload_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("waiting_for", sa.Text()),
        sa.Column("since", sa.Float()),
        sa.Column("until", sa.Float()),
    )
    for name, kind in COLUMNS:
        op.add_column("workloads", sa.Column(name, kind))


def downgrade() -> None:
    """Forget them."""
    for name, _ in COLUMNS:
        op.drop_column("workloads", name)
    op.drop_table("runners")
