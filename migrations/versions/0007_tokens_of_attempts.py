"""A ride whose answer did not count was paid for: its tokens stand with it."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

COLUMNS = ("prompt_tokens", "completion_tokens")


def upgrade() -> None:
    """Add the tokens to the failed rides."""
    for name in COLUMNS:
        op.add_column("attempts", sa.Column(name, sa.Integer()))


def downgrade() -> None:
    """Forget them."""
    for name in COLUMNS:
        op.drop_column("attempts", name)
