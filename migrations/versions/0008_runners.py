"""Who works on what, why the last command stopped, where results are written; absences of batches; a view of any text.

The view of answers reads half a surrogate pair, which no database's text holds, as U+FFFD.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

COLUMNS = (
    ("workloads", "output", sa.Text()),
    ("workloads", "stopped_at", sa.Float()),
    ("workloads", "stopped_reason", sa.Text()),
    ("batches", "absent_at", sa.Float()),
)

_SELECT = (
    "SELECT workloads.name AS workload, results.seq, requests.custom_id, {answer} AS answer, results.finish_reason,"
    " results.prompt_tokens, results.completion_tokens, results.attempt, shards.batch_id, bodies.body"
    " FROM results"
    " JOIN workloads ON workloads.id = results.workload_id"
    " JOIN requests ON requests.workload_id = results.workload_id AND requests.seq = results.seq"
    " JOIN shards ON shards.id = results.shard_id"
    " JOIN bodies ON bodies.shard_id = results.shard_id AND bodies.seq = results.seq"
    " WHERE results.state = 'succeeded'"
)
_WITHOUT_NUL = r"replace(bodies.body, '\u0000', '\ufffd')"
_LONE = (
    r"\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)


def _sqlite(body: str) -> str:
    return f"coalesce(json_extract({body}, '$.choices[0].message.content'), json_extract({body}, '$.text'))"


def _postgres(body: str) -> str:
    return f"coalesce(CAST({body} AS json) #>> '{{choices,0,message,content}}', CAST({body} AS json) ->> 'text')"


def _sqlite_answer() -> str:
    plain = _sqlite(_WITHOUT_NUL)
    # GLOB reads half a pair as U+FFFD, so it finds one; the 2,048 possible ones are then replaced one after the other.
    cleaned = (
        f"(WITH RECURSIVE cleaned (half, answer) AS (SELECT 55296, {plain} UNION ALL"  # noqa: S608 - constants of this file
        " SELECT half + 1, replace(answer, char(half), char(65533)) FROM cleaned WHERE half < 57344)"
        " SELECT answer FROM cleaned WHERE half = 57344)"
    )
    suspect = r"(instr(bodies.body, '\ud') OR instr(bodies.body, '\uD'))"
    return f"CASE WHEN {suspect} AND {plain} GLOB '*' || char(65533) || '*' THEN {cleaned} ELSE {plain} END"


def _postgres_answer() -> str:
    # An escaped backslash is set aside first: what follows it is no escape. U+0001 stands as itself in no JSON.
    aside = r"replace(replace(bodies.body, '\\', chr(1)), '\u0000', '\ufffd')"
    careful = rf"replace(regexp_replace({aside}, '{_LONE}', '\\ufffd', 'g'), chr(1), '\\')"
    suspect = r"bodies.body ~ '\\u[dD][89a-fA-F]'"
    return f"CASE WHEN {suspect} THEN {_postgres(careful)} ELSE {_postgres(_WITHOUT_NUL)} END"


def _define(answer: str) -> None:
    op.execute("DROP VIEW succeeded")
    op.execute(f"CREATE VIEW succeeded AS {_SELECT.format(answer=answer)}")


def upgrade() -> None:
    """Add the table of runners and the columns, and define the view anew."""
    op.create_table(
        "runners",
        sa.Column("owner", sa.Text(), primary_key=True),
        sa.Column("verb", sa.Text(), nullable=False),
        sa.Column("host", sa.Text(), nullable=False),
        sa.Column("workload_id", sa.BigInteger().with_variant(sa.Integer(), "sqlite")),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.Column("waiting_for", sa.Text()),
        sa.Column("since", sa.Float()),
        sa.Column("until", sa.Float()),
    )
    for table, name, kind in COLUMNS:
        op.add_column(table, sa.Column(name, kind))
    _define(_sqlite_answer() if op.get_bind().dialect.name == "sqlite" else _postgres_answer())


def downgrade() -> None:
    """Forget them, and go back to the view that one odd answer stops."""
    reader = _sqlite if op.get_bind().dialect.name == "sqlite" else _postgres
    _define(reader(_WITHOUT_NUL))
    for table, name, _ in COLUMNS:
        op.drop_column(table, name)
    op.drop_table("runners")
