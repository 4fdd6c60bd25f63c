"""Resubmission finds all that it needs of pending requests in one index."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_UNFINISHED = sa.text("(state = 'pending' OR state = 'failed' OR state = 'cancelled')")
_BEFORE = ["workload_id", "state", "seq", "shard_id"]


def upgrade() -> None:
    """Let the index of what is unfinished hold the requests' names and the places of their lines, too."""
    _index([*_BEFORE, "custom_id", "line_offset", "line_length"])


def downgrade() -> None:
    """Go back to the narrower index."""
    _index(_BEFORE)


def _index(columns: list[str]) -> None:
    op.drop_index("requests_unfinished", table_name="requests")
    op.create_index("requests_unfinished", "requests", columns, postgresql_where=_UNFINISHED, sqlite_where=_UNFINISHED)
