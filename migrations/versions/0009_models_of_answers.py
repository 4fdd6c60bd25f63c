"""Which model answered and which tier served: numbers in ``results``, their names in a table, and both in the views. And the outbox.

Old results have neither model nor tier. Each part of this revision has its own pair of functions below; ``upgrade`` calls them in order, ``downgrade``
in the reverse order.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

COLUMNS = ("model", "service_tier")

_FROM = (
    " FROM results"
    " JOIN workloads ON workloads.id = results.workload_id"
    " JOIN requests ON requests.workload_id = results.workload_id AND requests.seq = results.seq"
    " JOIN shards ON shards.id = results.shard_id"
    " LEFT JOIN names AS models ON models.id = results.model"
    " LEFT JOIN names AS tiers ON tiers.id = results.service_tier"
)
_SUCCEEDED = (
    "SELECT workloads.name AS workload, results.seq, requests.custom_id, {answer} AS answer, results.finish_reason,"
    " models.name AS model, tiers.name AS service_tier, results.prompt_tokens, results.completion_tokens, results.attempt,"
    f" shards.batch_id, bodies.body{_FROM}"
    " JOIN bodies ON bodies.shard_id = results.shard_id AND bodies.seq = results.seq"
    " WHERE results.state = 'succeeded'"
)
_FAILED = (
    "SELECT workloads.name AS workload, results.seq, requests.custom_id, results.status_code,"
    " results.error_code, results.error_message, models.name AS model, tiers.name AS service_tier, requests.attempts,"
    f" requests.expiries, shards.batch_id{_FROM}"
    " WHERE results.state = 'failed'"
)


def upgrade() -> None:
    """Add the table of names and its columns, define the views anew, and add the outbox of notifications."""
    _add_names()
    _show_names()
    _add_outbox()


def downgrade() -> None:
    """Forget all of it."""
    _drop_outbox()
    _hide_names()
    _drop_names()


def _add_names() -> None:
    op.create_table(
        "names",
        sa.Column("id", sa.SmallInteger(), autoincrement=False, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="names_pkey"),
        sa.UniqueConstraint("name", name="names_name_key"),
        sqlite_with_rowid=False,
    )
    for name in COLUMNS:
        op.add_column("results", sa.Column(name, sa.SmallInteger()))


def _drop_names() -> None:
    for name in COLUMNS:
        op.drop_column("results", name)
    op.drop_table("names")


def _show_names() -> None:
    before = _revision("0008")
    answer = before._sqlite_answer() if _is_sqlite() else before._postgres_answer()
    _define(succeeded=_SUCCEEDED.format(answer=answer), failed=_FAILED)


def _hide_names() -> None:
    before = _revision("0008")
    answer = before._sqlite_answer() if _is_sqlite() else before._postgres_answer()
    failed = _revision("0001")._views(op.get_bind().dialect.name)["failed"]
    _define(succeeded=before._SELECT.format(answer=answer), failed=failed)


def _add_outbox() -> None:
    op.create_table(
        "notifications",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("report", sa.Text(), nullable=False),
        sa.Column("lease_owner", sa.Text()),
        sa.Column("lease_until", sa.Float()),
        sa.Column("tries", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("delivered_at", sa.Float()),
        sa.Column("last_error", sa.Text()),
        sa.PrimaryKeyConstraint("id", "target", name="notifications_pkey"),
    )


def _drop_outbox() -> None:
    op.drop_table("notifications")


def _define(**views: str) -> None:
    for name, query in views.items():
        op.execute(f"DROP VIEW {name}")
        op.execute(f"CREATE VIEW {name} AS {query}")


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _revision(number: str):  # noqa: ANN202 - a module
    """Return an earlier revision: what it wrote down of a view is not written down again."""
    return op.get_context().environment_context.script.get_revision(number).module
