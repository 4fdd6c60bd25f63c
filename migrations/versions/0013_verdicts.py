"""More verdicts, runs outside the series, and what a row asked and expected; a view of the scores with their texts."""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

VERDICTS = ("passed", "regressed", "unscored", "incomparable", "first", "rescored")
_ROW_ID = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
_OLD_COLUMNS = (
    "id, suite, number, name, suite_version, definition, workload, arm_count, samples, scheduled_for, started_at,"
    " finished_at, verdict, summary"
)
_ROW_COLUMNS = (("cluster", sa.Text()), ("labels", sa.Text()), ("content", sa.LargeBinary()))
_SCORED_ROWS = (
    "SELECT evaluations.suite, evaluations.name AS run, evaluation_rows.number AS row_number,"
    " evaluation_rows.key AS row_key, evaluation_arms.prompt, evaluation_arms.model,"
    " scores.seq % evaluations.samples + 1 AS sample, scores.scorer, scores.score, scores.reason, scores.detail,"
    " {expected} AS expected, CASE WHEN results.state = 'succeeded' THEN {answer} END AS answer,"
    " results.error_code, results.error_message, results.finish_reason, results.prompt_tokens,"
    " results.completion_tokens, requests.custom_id"
    " FROM scores"
    " JOIN evaluations ON evaluations.id = scores.evaluation_id"
    " JOIN evaluation_arms ON evaluation_arms.evaluation_id = scores.evaluation_id"
    " AND evaluation_arms.arm = (scores.seq / evaluations.samples) % evaluations.arm_count"
    " JOIN evaluation_rows ON evaluation_rows.evaluation_id = scores.evaluation_id"
    " AND evaluation_rows.number = scores.seq / (evaluations.samples * evaluations.arm_count) + 1"
    " LEFT JOIN workloads ON workloads.name = evaluations.workload"
    " LEFT JOIN requests ON requests.workload_id = workloads.id AND requests.seq = scores.seq"
    " LEFT JOIN results ON results.workload_id = workloads.id AND results.seq = scores.seq"
    " LEFT JOIN bodies ON bodies.shard_id = results.shard_id AND bodies.seq = coalesce(results.body_seq, results.seq)"
)
#: The text of the first label; the suite's own column comes first.
_EXPECTED = {
    "sqlite": "(SELECT value FROM json_each(evaluation_rows.labels) LIMIT 1)",
    "postgresql": "(SELECT value FROM json_each_text(CAST(evaluation_rows.labels AS json)) LIMIT 1)",
}


def upgrade() -> None:
    """Widen the table of runs (SQLite changes a CHECK only by copying; it has a row per run), and add the view."""
    op.execute("DROP VIEW scored")
    if _is_sqlite():
        _copy_runs(_OLD_COLUMNS, _wide_columns())
        op.execute("UPDATE evaluations SET fully_scored = 1 WHERE finished_at IS NOT NULL")
    else:
        op.drop_constraint(op.f("evaluations_verdict"), "evaluations", type_="check")
        op.create_check_constraint(op.f("evaluations_verdict"), "evaluations", _verdict_check(VERDICTS))
        op.alter_column("evaluations", "number", nullable=True)
        op.add_column("evaluations", sa.Column("derived_from", sa.Text()))
        op.add_column("evaluations", sa.Column("fully_scored", sa.SmallInteger()))
        op.execute("UPDATE evaluations SET fully_scored = 1 WHERE finished_at IS NOT NULL")
    for name, kind in _ROW_COLUMNS:
        op.add_column("evaluation_rows", sa.Column(name, kind))
    op.execute(f"CREATE VIEW scored AS {_revision('0005').SCORED}")
    before = _revision("0008")
    answer = before._sqlite_answer() if _is_sqlite() else before._postgres_answer()
    query = _SCORED_ROWS.format(expected=_EXPECTED[op.get_bind().dialect.name], answer=answer)
    op.execute(f"CREATE VIEW scored_rows AS {query}")


def downgrade() -> None:
    """Forget the runs that have no number; a verdict that did not exist becomes ``regressed`` if it must not count as passed."""
    op.execute("DROP VIEW scored_rows")
    op.execute("DROP VIEW scored")
    for name, _ in _ROW_COLUMNS:
        op.drop_column("evaluation_rows", name)
    unnumbered = "(SELECT id FROM evaluations WHERE number IS NULL)"
    for table in ("scores", "evaluation_rows", "evaluation_arms"):
        op.execute(f"DELETE FROM {table} WHERE evaluation_id IN {unnumbered}")  # noqa: S608 - constants
    op.execute("DELETE FROM evaluations WHERE number IS NULL")
    if _is_sqlite():
        verdict = "CASE verdict WHEN 'first' THEN 'passed' WHEN 'unscored' THEN 'regressed' WHEN 'incomparable' THEN 'regressed' ELSE verdict END"
        _copy_runs(_OLD_COLUMNS, _narrow_columns(), selected=_OLD_COLUMNS.replace("verdict", verdict))
    else:
        op.drop_constraint(op.f("evaluations_verdict"), "evaluations", type_="check")
        op.execute("UPDATE evaluations SET verdict = 'passed' WHERE verdict = 'first'")
        op.execute("UPDATE evaluations SET verdict = 'regressed' WHERE verdict IN ('unscored', 'incomparable')")
        op.create_check_constraint(op.f("evaluations_verdict"), "evaluations", _verdict_check(VERDICTS[:2]))
        op.alter_column("evaluations", "number", nullable=False)
        op.drop_column("evaluations", "fully_scored")
        op.drop_column("evaluations", "derived_from")
    op.execute(f"CREATE VIEW scored AS {_revision('0005').SCORED}")


def _wide_columns() -> list[sa.schema.SchemaItem]:
    return [
        *_columns(number_is_required=False),
        sa.Column("derived_from", sa.Text()),
        sa.Column("fully_scored", sa.SmallInteger()),
        sa.CheckConstraint(_verdict_check(VERDICTS), name=op.f("evaluations_verdict")),
    ]


def _narrow_columns() -> list[sa.schema.SchemaItem]:
    return [
        *_columns(number_is_required=True),
        sa.CheckConstraint(_verdict_check(VERDICTS[:2]), name=op.f("evaluations_verdict")),
    ]


def _columns(*, number_is_required: bool) -> list[sa.schema.SchemaItem]:
    return [
        sa.Column("id", _ROW_ID, nullable=False),
        sa.Column("suite", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=not number_is_required),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("suite_version", sa.Text(), nullable=False),
        sa.Column("definition", sa.Text(), nullable=False),
        sa.Column("workload", sa.Text(), nullable=False),
        sa.Column("arm_count", sa.Integer(), nullable=False),
        sa.Column("samples", sa.Integer(), nullable=False),
        sa.Column("scheduled_for", sa.Float()),
        sa.Column("started_at", sa.Float(), nullable=False),
        sa.Column("finished_at", sa.Float()),
        sa.Column("verdict", sa.Text()),
        sa.Column("summary", sa.Text()),
        sa.CheckConstraint("arm_count > 0 AND samples > 0", name=op.f("evaluations_shape")),
        sa.CheckConstraint(
            "(finished_at IS NULL AND verdict IS NULL AND summary IS NULL)"
            " OR (finished_at IS NOT NULL AND verdict IS NOT NULL AND summary IS NOT NULL)",
            name=op.f("evaluations_finished_whole"),
        ),
        sa.PrimaryKeyConstraint("id", name="evaluations_pkey"),
        sa.UniqueConstraint("name", name="evaluations_name_key"),
    ]


def _copy_runs(names: str, columns: list[sa.schema.SchemaItem], *, selected: str | None = None) -> None:
    # The arms refer to the runs: the new table has the same name and the same rows before the transaction ends.
    op.execute("PRAGMA defer_foreign_keys = ON")
    op.execute("CREATE TABLE copied_evaluations AS SELECT * FROM evaluations")
    op.drop_table("evaluations")
    op.create_table("evaluations", *columns, sqlite_autoincrement=True)
    op.execute(f"INSERT INTO evaluations ({names}) SELECT {selected or names} FROM copied_evaluations ORDER BY id")  # noqa: S608 - constants
    op.drop_table("copied_evaluations")
    op.create_index("evaluations_suite_number", "evaluations", ["suite", "number"], unique=True)
    op.create_index("evaluations_suite_scheduled_for", "evaluations", ["suite", "scheduled_for"], unique=True)
    op.create_index("evaluations_running", "evaluations", ["id"], sqlite_where=sa.text("finished_at IS NULL"))


def _verdict_check(verdicts: tuple[str, ...]) -> str:
    return f"verdict IS NULL OR verdict IN ({', '.join(map(repr, verdicts))})"


def _is_sqlite() -> bool:
    return op.get_bind().dialect.name == "sqlite"


def _revision(number: str):  # noqa: ANN202 - a module
    """Return an earlier revision: what it wrote down of a view is not written down again."""
    return op.get_context().environment_context.script.get_revision(number).module
