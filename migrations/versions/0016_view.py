"""What a reviewer wrote beside a decision."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Add the column."""
    op.add_column("reviews", sa.Column("note", sa.Text()))


def downgrade() -> None:
    """Forget it."""
    op.drop_column("reviews", "note")
