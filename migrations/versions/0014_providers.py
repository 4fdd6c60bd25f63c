"""The provider of a workload, and the model of a shard whose file may have one only."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add two columns; every workload until now is Groq's."""
    op.add_column("workloads", sa.Column("provider", sa.Text(), server_default=sa.text("'groq'"), nullable=False))
    op.add_column("shards", sa.Column("model", sa.Text()))


def downgrade() -> None:
    """Forget both."""
    op.drop_column("shards", "model")
    op.drop_column("workloads", "provider")
