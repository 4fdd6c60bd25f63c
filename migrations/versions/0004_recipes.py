"""A workload that is made of a table keeps what its requests were made of, and what an answer must be to count."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

COLUMNS = ("answer_rules", "recipe")


def upgrade() -> None:
    """Add both to the workloads, as JSON."""
    for name in COLUMNS:
        op.add_column("workloads", sa.Column(name, sa.Text()))


def downgrade() -> None:
    """Forget them."""
    for name in COLUMNS:
        op.drop_column("workloads", name)
