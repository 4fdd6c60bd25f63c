"""Runs of suites: what was asked of which model, every score with where it comes from, and how the run ended."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")

SCORED = (
    "SELECT evaluations.suite, evaluations.name AS run, evaluations.suite_version, evaluation_arms.prompt,"
    " evaluation_arms.prompt_digest, evaluation_arms.model, scores.scorer, scores.score, scores.reason, scores.detail,"
    " evaluation_rows.number AS row_number, evaluation_rows.key AS row_key, evaluation_rows.slices,"
    " evaluations.workload, scores.seq, requests.custom_id, shards.batch_id, results.attempt"
    " FROM scores"
    " JOIN evaluations ON evaluations.id = scores.evaluation_id"
    " JOIN evaluation_arms ON evaluation_arms.evaluation_id = scores.evaluation_id"
    " AND evaluation_arms.arm = (scores.seq / evaluations.samples) % evaluations.arm_count"
    " JOIN evaluation_rows ON evaluation_rows.evaluation_id = scores.evaluation_id"
    " AND evaluation_rows.number = scores.seq / (evaluations.samples * evaluations.arm_count) + 1"
    # The scores outlive the workload.
    " LEFT JOIN workloads ON workloads.name = evaluations.workload"
    " LEFT JOIN requests ON requests.workload_id = workloads.id AND requests.seq = scores.seq"
    " LEFT JOIN results ON results.workload_id = workloads.id AND results.seq = scores.seq"
    " LEFT JOIN shards ON shards.id = results.shard_id"
)


def upgrade() -> None:
    """Make the tables, and the view for whoever asks where a score comes from."""
    op.create_table(
        "evaluations",
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("suite", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("suite_version", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("workload", sa.Text(), nullable=False),
        sa.Column("arm_count", sa.Integer(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("scheduled_for", sa.Float(), nullable=True),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("summary", sa.Text(), nullable=True),
        sa.CheckConstraint("arm_count > 0 AND samples > 0", name=op.f("evaluations_shape")),
        sa.CheckConstraint("verdict IS NULL OR verdict IN ('passed', 'regressed')", name=op.f("evaluations_verdict")),
        sa.CheckConstraint(
            "(finished_at IS NULL AND verdict IS NULL AND summary IS NULL)"
            " OR (finished_at IS NOT NULL AND verdict IS NOT NULL AND summary IS NOT NULL)",
            name=op.f("evaluations_finished_whole"),
        ),
        sa.PrimaryKeyConstraint("id", name="evaluations_pkey"),
        sa.UniqueConstraint("name", name="evaluations_name_key"),
        sqlite_autoincrement=True,
    )
    op.create_index("evaluations_suite_number", "evaluations", ["suite", "number"], unique=True)
    op.create_index("evaluations_suite_scheduled_for", "evaluations", ["suite", "scheduled_for"], unique=True)
    op.create_index(
        "evaluations_running",
        "evaluations",
        ["id"],
        unique=False,
        postgresql_where=sa.text("finished_at IS NULL"),
        sqlite_where=sa.text("finished_at IS NULL"),
    )
    op.create_table(
        "evaluation_arms",
        sa.Column("evaluation_id", _ROW_ID, nullable=False, autoincrement=False),
        sa.Column("arm", sa.Integer(), nullable=False, autoincrement=False),
        sa.Column("prompt", sa.Text(), nullable=False),
        sa.Column("prompt_digest", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["evaluation_id"], ["evaluations.id"], name="evaluation_arms_evaluation_id_fkey"),
        sa.PrimaryKeyConstraint("evaluation_id", "arm", name="evaluation_arms_pkey"),
    )
    op.create_table(
        "evaluation_rows",
        sa.Column("evaluation_id", _ROW_ID, nullable=False, autoincrement=False),
        sa.Column("number", sa.BigInteger(), nullable=False, autoincrement=False),
        sa.Column("key", sa.Text(), nullable=True),
        sa.Column("slices", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("evaluation_id", "number", name="evaluation_rows_pkey"),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "scores",
        sa.Column("evaluation_id", _ROW_ID, nullable=False, autoincrement=False),
        sa.Column("scorer", sa.Text(), nullable=False),
        sa.Column("seq", _ROW_ID, nullable=False, autoincrement=False),
        sa.Column("score", sa.Float(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("detail", sa.Text(), nullable=True),
        sa.CheckConstraint("(score IS NULL) <> (reason IS NULL)", name=op.f("scores_scored_or_not")),
        sa.PrimaryKeyConstraint("evaluation_id", "scorer", "seq", name="scores_pkey"),
        sqlite_with_rowid=False,
    )
    op.execute(f"CREATE VIEW scored AS {SCORED}")


def downgrade() -> None:
    """Forget every run; the workloads stay."""
    op.execute("DROP VIEW scored")
    for name in ("scores", "evaluation_rows", "evaluation_arms", "evaluations"):
        op.drop_table(name)
