"""The initial schema, with the views for people."""

from collections.abc import Mapping

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

# SQLite numbers rows by itself only for a column of exactly this type.
_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def _views(dialect: str) -> Mapping[str, str]:
    """What somebody with a SQL shell or Datasette reads first."""
    # Text in SQL has no NUL: SQLite would end the answer there, and Postgres could not read the view at all.
    body = r"replace(bodies.body, '\u0000', '\ufffd')"
    content = {
        "sqlite": f"json_extract({body}, '$.choices[0].message.content')",
        "postgresql": f"CAST({body} AS json) #>> '{{choices,0,message,content}}'",
    }[dialect]
    transcript = {
        "sqlite": f"json_extract({body}, '$.text')",
        "postgresql": f"CAST({body} AS json) ->> 'text'",
    }[dialect]
    # The list repeats the condition of the partial index, which SQLite asks for.
    unfinished = (
        "(SELECT count(*) FROM requests WHERE requests.workload_id = workloads.id AND requests.state = '{}'"
        " AND (requests.state = 'pending' OR requests.state = 'failed' OR requests.state = 'cancelled'))"
    )
    open_lines = (
        "(SELECT coalesce(sum(line_count), 0) FROM shards WHERE shards.workload_id = workloads.id"
        " AND shards.state NOT IN ('merged', 'withdrawn'))"
    )
    return {
        "succeeded": (
            "SELECT workloads.name AS workload, results.seq, requests.custom_id,"  # noqa: S608 - constants of this file
            f" coalesce({content}, {transcript}) AS answer, results.finish_reason, results.prompt_tokens,"
            " results.completion_tokens, results.attempt, shards.batch_id, bodies.body"
            " FROM results"
            " JOIN workloads ON workloads.id = results.workload_id"
            " JOIN requests ON requests.workload_id = results.workload_id AND requests.seq = results.seq"
            " JOIN shards ON shards.id = results.shard_id"
            " JOIN bodies ON bodies.shard_id = results.shard_id AND bodies.seq = results.seq"
            " WHERE results.state = 'succeeded'"
        ),
        "failed": (
            "SELECT workloads.name AS workload, results.seq, requests.custom_id, results.status_code,"
            " results.error_code, results.error_message, requests.attempts, requests.expiries, shards.batch_id"
            " FROM results"
            " JOIN workloads ON workloads.id = results.workload_id"
            " JOIN requests ON requests.workload_id = results.workload_id AND requests.seq = results.seq"
            " JOIN shards ON shards.id = results.shard_id"
            " WHERE results.state = 'failed'"
        ),
        "progress": (
            f"SELECT workload, requests, pending, in_flight,"  # noqa: S608 - constants of this file
            " requests - pending - in_flight - failed - cancelled AS succeeded, failed, cancelled FROM ("
            f"SELECT workloads.name AS workload, coalesce(workloads.request_count, {open_lines}) AS requests,"
            f" {unfinished.format('pending')} AS pending, {open_lines} AS in_flight,"
            f" {unfinished.format('failed')} AS failed, {unfinished.format('cancelled')} AS cancelled"
            " FROM workloads) AS counted"
        ),
        "usage": (
            "SELECT workloads.name AS workload, count(shards.id) AS shards, coalesce(sum(shards.succeeded), 0) AS answers,"
            " coalesce(sum(shards.prompt_tokens), 0) AS prompt_tokens,"
            " coalesce(sum(shards.completion_tokens), 0) AS completion_tokens"
            " FROM workloads LEFT JOIN shards ON shards.workload_id = workloads.id GROUP BY workloads.name"
        ),
    }


def upgrade() -> None:
    op.create_table(
        "attempts",
        sa.Column("shard_id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("seq", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("workload_id", _ROW_ID, nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("status_code", sa.SmallInteger(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("shard_id", "seq", name="attempts_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "bodies",
        sa.Column("shard_id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("seq", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("shard_id", "seq", name="bodies_pkey"),
    )
    op.create_table(
        "events",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("workload_id", _ROW_ID, nullable=False),
        sa.Column("shard_id", _ROW_ID, nullable=True),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name="events_pkey"),
    )
    op.create_index("events_workload_id_id", "events", ["workload_id", "id"], unique=False)

    op.create_table(
        "requests",
        sa.Column("workload_id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("seq", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("custom_id", sa.Text(), nullable=False),
        sa.Column("shard_id", _ROW_ID, nullable=False),
        sa.Column("line_offset", sa.BigInteger(), nullable=False),
        sa.Column("line_length", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("attempts", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("expiries", sa.SmallInteger(), server_default=sa.text("0"), nullable=False),
        sa.CheckConstraint(
            "(state = 'in_flight' OR state = 'succeeded' OR state = 'pending' OR state = 'failed' OR state = 'cancelled')",
            name=op.f("requests_state"),
        ),
        sa.CheckConstraint("expiries <= attempts", name=op.f("requests_counters")),
        sa.PrimaryKeyConstraint("workload_id", "seq", name="requests_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "requests_unfinished",
        "requests",
        ["workload_id", "state", "seq", "shard_id"],
        unique=False,
        postgresql_where=sa.text("(state = 'pending' OR state = 'failed' OR state = 'cancelled')"),
        sqlite_where=sa.text("(state = 'pending' OR state = 'failed' OR state = 'cancelled')"),
    )

    op.create_table(
        "results",
        sa.Column("workload_id", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("seq", _ROW_ID, autoincrement=False, nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("shard_id", _ROW_ID, nullable=False),
        sa.Column("attempt", sa.SmallInteger(), nullable=False),
        sa.Column("status_code", sa.SmallInteger(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("finish_reason", sa.Text(), nullable=True),
        sa.Column("prompt_tokens", sa.Integer(), nullable=True),
        sa.Column("completion_tokens", sa.Integer(), nullable=True),
        sa.Column("total_tokens", sa.Integer(), nullable=True),
        sa.CheckConstraint("state IN ('succeeded', 'failed')", name=op.f("results_state")),
        sa.PrimaryKeyConstraint("workload_id", "seq", name="results_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_index(
        "results_failed",
        "results",
        ["workload_id", "error_code", "seq"],
        unique=False,
        postgresql_where=sa.text("state = 'failed'"),
        sqlite_where=sa.text("state = 'failed'"),
    )

    op.create_table(
        "workloads",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("directory", sa.Text(), nullable=False),
        sa.Column("input_sha256", sa.Text(), nullable=True),
        sa.Column("request_count", sa.BigInteger(), nullable=True),
        sa.Column("completion_window", sa.Text(), nullable=False),
        sa.Column("max_completion_window", sa.Text(), nullable=False),
        sa.Column("shard_lines", sa.Integer(), nullable=False),
        sa.Column("shard_bytes", sa.BigInteger(), nullable=False),
        sa.Column("max_attempts", sa.Integer(), nullable=False),
        sa.Column("max_expiries", sa.Integer(), nullable=False),
        sa.Column("credential", sa.Text(), nullable=True),
        sa.Column("cancel_requested_at", sa.Float(), nullable=True),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.Float(), nullable=True),
        sa.CheckConstraint("max_attempts > 0 AND max_expiries > 0", name=op.f("workloads_budgets")),
        sa.CheckConstraint("request_count IS NULL OR input_sha256 IS NOT NULL", name=op.f("workloads_split_whole")),
        sa.CheckConstraint("shard_lines > 0 AND shard_bytes > 0", name=op.f("workloads_shard_size")),
        sa.PrimaryKeyConstraint("id", name="workloads_pkey"),
        sa.UniqueConstraint("name", name="workloads_name_key"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "shards",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("workload_id", _ROW_ID, nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("completion_window", sa.Text(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("line_count", sa.Integer(), nullable=False),
        sa.Column("byte_count", sa.BigInteger(), nullable=False),
        sa.Column("first_seq", sa.BigInteger(), nullable=False),
        sa.Column("last_seq", sa.BigInteger(), nullable=False),
        sa.Column("input_file_id", sa.Text(), nullable=True),
        sa.Column("batch_id", sa.Text(), nullable=True),
        sa.Column("submitting_since", sa.Float(), nullable=True),
        sa.Column("not_before", sa.Float(), server_default=sa.text("0"), nullable=False),
        sa.Column("refusals", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("waits", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("lease_owner", sa.Text(), nullable=True),
        sa.Column("lease_until", sa.Float(), nullable=True),
        sa.Column("merged_at", sa.Float(), nullable=True),
        sa.Column("cleaned_at", sa.Float(), nullable=True),
        sa.Column("succeeded", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("failed", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("expired", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column("prompt_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("completion_tokens", sa.BigInteger(), server_default=sa.text("0"), nullable=False),
        sa.Column("next_lines", sa.Integer(), nullable=False),
        sa.Column("next_completion_window", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "NOT (state IN ('submitted', 'ended', 'merged')) OR (batch_id IS NOT NULL)", name=op.f("shards_has_batch")
        ),
        sa.CheckConstraint(
            "NOT (state IN ('submitting')) OR (submitting_since IS NOT NULL)", name=op.f("shards_has_intent")
        ),
        sa.CheckConstraint(
            "NOT (state IN ('uploaded', 'submitting', 'submitted')) OR (input_file_id IS NOT NULL)",
            name=op.f("shards_has_file"),
        ),
        sa.CheckConstraint(
            "state IN ('planned', 'uploaded', 'submitting', 'submitted', 'ended', 'merged', 'withdrawn')",
            name=op.f("shards_state"),
        ),
        sa.CheckConstraint("line_count > 0", name=op.f("shards_not_empty")),
        sa.ForeignKeyConstraint(["workload_id"], ["workloads.id"], name="shards_workload_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="shards_pkey"),
        sa.UniqueConstraint("batch_id", name="shards_batch_id_key"),
        sa.UniqueConstraint("key", name="shards_key_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("shards_workload_id_number", "shards", ["workload_id", "number"], unique=True)
    op.create_index("shards_workload_id_state", "shards", ["workload_id", "state"], unique=False)

    op.create_table(
        "batches",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("workload_id", _ROW_ID, nullable=False),
        sa.Column("shard_id", _ROW_ID, nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("completed", sa.Integer(), nullable=False),
        sa.Column("failed", sa.Integer(), nullable=False),
        sa.Column("output_file_id", sa.Text(), nullable=True),
        sa.Column("error_file_id", sa.Text(), nullable=True),
        sa.Column("problems", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("missing_since", sa.Float(), nullable=True),
        sa.Column("output_sha256", sa.Text(), nullable=True),
        sa.Column("error_sha256", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["shard_id"], ["shards.id"], name="batches_shard_id_fkey"),
        sa.ForeignKeyConstraint(["workload_id"], ["workloads.id"], name="batches_workload_id_fkey"),
        sa.PrimaryKeyConstraint("id", name="batches_pkey"),
        sa.UniqueConstraint("shard_id", name="batches_shard_id_key"),
    )
    op.create_index("batches_workload_id_status", "batches", ["workload_id", "status"], unique=False)
    for name, query in _views(op.get_bind().dialect.name).items():
        op.execute(f"CREATE VIEW {name} AS {query}")


def downgrade() -> None:
    for name in ("usage", "progress", "failed", "succeeded"):
        op.execute(f"DROP VIEW {name}")
    for name in ("batches", "shards", "workloads", "results", "requests", "events", "bodies", "attempts"):
        op.drop_table(name)
