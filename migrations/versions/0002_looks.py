"""Count how often the list of batches was read for a shard whose creation was not answered."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the count to the shards."""
    op.add_column("shards", sa.Column("looks", sa.Integer(), nullable=False, server_default=sa.text("0")))


def downgrade() -> None:
    """Forget the count."""
    op.drop_column("shards", "looks")
