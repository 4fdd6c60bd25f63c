"""Batches record when the provider last did not know them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("batches", sa.Column("absent_at", sa.Float()))


def downgrade() -> None:
    op.drop_column("batches", "absent_at")
