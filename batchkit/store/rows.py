"""Row types: one for each table that holds a row per request. Columns, statements and formats are derived from them.

A field is a column, in the table's order. Its annotation is the column's type, ``| None`` allows NULL, and a default of 0 is the
database's default, too. A field that is itself a row type stands for the columns of that type. ``tables`` derives its columns
from these types, ``bulk`` its statements, ``binary`` the format of a COPY, and ``results`` what it reads: a new column of
``results`` is a field here, the merge that fills it and the export that shows it (besides its migration).

Queries on other tables that return a row type derive what they select by ``columns_for``.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Final, NamedTuple, Union, get_args, get_origin, get_type_hints

from sqlalchemy import BigInteger, Column, Integer, LargeBinary, SmallInteger, Text, text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from sqlalchemy import ColumnElement, FromClause
    from sqlalchemy.types import TypeEngine

#: SQLite numbers rows automatically only for a column of exactly this type.
ROW_ID: Final = BigInteger().with_variant(Integer, "sqlite")


@dataclass(frozen=True, slots=True)
class Kind:
    """The type of a column: in the schema, and as a COPY of Postgres names it.

    ``repeats``: many rows have the same few values. ``is_name``: rows hold a name, the table has its number in ``names``.
    """

    sql: TypeEngine[Any]
    copy: str
    is_key: bool = False
    repeats: bool = False
    is_name: bool = False


Key = Annotated[int, Kind(ROW_ID, "int8", is_key=True)]
Id = Annotated[int, Kind(ROW_ID, "int8")]
Place = Annotated[int, Kind(BigInteger(), "int8")]
Count = Annotated[int, Kind(Integer(), "int4")]
Small = Annotated[int, Kind(SmallInteger(), "int2")]
RepeatedText = Annotated[str, Kind(Text(), "text", repeats=True)]
FreeText = Annotated[str, Kind(Text(), "text")]
Name = Annotated[str, Kind(SmallInteger(), "int2", is_name=True)]
Digest = Annotated[bytes, Kind(LargeBinary(), "bytea")]


class RequestRow(NamedTuple):
    """A row of ``requests``: one input line, with the place of its line (in bytes) in the file of its last shard.

    ``digest`` identifies what is asked (see ``steps.reuse``); None in a workload without reuse, and for a request that is not sent.
    A request with a ``leader_seq`` is never sent: it gets the result of that request of its workload, and has the place of its
    line. A request with a reused answer has the place of the line that was answered, in a shard of any workload.
    """

    workload_id: Key
    seq: Key
    custom_id: FreeText
    shard_id: Id
    line_offset: Place
    line_length: Count
    state: RepeatedText
    attempts: Small = 0
    expiries: Small = 0
    digest: Digest | None = None
    leader_seq: Place | None = None


class AnswerFacts(NamedTuple):
    """Facts that an answer states about itself; None where it does not. ``model`` is the one that the provider says answered."""

    finish_reason: RepeatedText | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    model: Name | None = None
    service_tier: Name | None = None


class ResultRow(NamedTuple):
    """A row of ``results``: the final result of a request, from the answer of ``shard_id``; ``attempt`` counts from 0.

    Its body is that of ``seq``, or of ``body_seq`` when the answer of another request is reused; such a result has no tokens.
    """

    workload_id: Key
    seq: Key
    state: RepeatedText
    shard_id: Id
    attempt: Small
    status_code: Small | None = None
    request_id: FreeText | None = None
    error_code: RepeatedText | None = None
    error_message: FreeText | None = None
    facts: AnswerFacts = AnswerFacts()
    body_seq: Place | None = None


class BodyRow(NamedTuple):
    """A row of ``bodies``: an answer, as JSON text."""

    shard_id: Key
    seq: Key
    body: FreeText


class AttemptRow(NamedTuple):
    """A row of ``attempts``: one without a success. ``attempt`` counts from 0, ``kind`` is an ``OutcomeKind``.

    It has tokens when it was paid for: its answer broke the workload's rules.
    """

    shard_id: Key
    seq: Key
    workload_id: Id
    attempt: Small
    kind: RepeatedText
    status_code: Small | None = None
    error_code: RepeatedText | None = None
    error_message: FreeText | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None


#: The row types, by the names of their tables.
_TYPES: Final[dict[str, type[Any]]] = {
    "requests": RequestRow,
    "results": ResultRow,
    "bodies": BodyRow,
    "attempts": AttemptRow,
}


@dataclass(frozen=True, slots=True)
class Field:
    """A column of a table."""

    name: str
    kind: Kind
    is_nullable: bool
    default: int | None


@dataclass(frozen=True, slots=True)
class Layout:
    """The columns that a bulk statement writes: ``common`` have one value for all rows, ``own`` one for each row."""

    table: str
    common: tuple[Field, ...]
    own: tuple[Field, ...]

    @property
    def names(self) -> str:
        """Return the column names as SQL lists them, the common ones first."""
        return ", ".join(field.name for field in (*self.common, *self.own))

    @property
    def replacing(self) -> str:
        """Return the assignments of an upsert: every column except the key takes the value of the row that was to be inserted."""
        replaced = (field.name for field in (*self.common, *self.own) if not field.kind.is_key)
        return ", ".join(f"{name} = excluded.{name}" for name in replaced)


def fields_of(row_type: type[Any]) -> tuple[Field, ...]:
    """Return the columns of a row type, in order."""
    found: list[Field] = []
    defaults = row_type._field_defaults
    for name, hint in get_type_hints(row_type, include_extras=True).items():
        is_nullable = get_origin(hint) in {Union, UnionType}
        (inner,) = (part for part in get_args(hint) if part is not type(None)) if is_nullable else (hint,)
        if get_origin(inner) is Annotated:
            default = None if is_nullable else defaults.get(name)
            found.append(Field(name, inner.__metadata__[0], is_nullable, default))
        else:
            found += fields_of(inner)
    return tuple(found)


def columns(table: str) -> Iterator[Column[Any]]:
    """Build the columns of a table."""
    for field in fields_of(_TYPES[table]):
        yield Column(
            field.name,
            field.kind.sql,
            primary_key=field.kind.is_key,
            autoincrement=False if field.kind.is_key else "auto",
            nullable=field.is_nullable,
            server_default=None if field.default is None else text(str(field.default)),
        )


def layout(table: str, *, common: Iterable[str] = (), without: Iterable[str] = ()) -> Layout:
    """Return the layout of a statement that writes all columns except ``without``; ``common`` have one value for all rows."""
    every = {field.name: field for field in fields_of(_TYPES[table])}
    shared = tuple(every.pop(name) for name in common)
    for name in without:
        del every[name]
    return Layout(table, shared, tuple(every.values()))


def flat(rows: Iterable[ResultRow]) -> list[Sequence[Any]]:
    """Return results of requests that were sent as tuples of their table's columns, without ``body_seq``."""
    return [(*row[:-2], *row.facts) for row in rows]


def columns_for(
    row_type: type[Any], *tables: FromClause, **expressions: ColumnElement[Any]
) -> tuple[ColumnElement[Any], ...]:
    """Return what a query selects so that ``row_type._make`` can take its rows: one column for each field, in order.

    A field takes its expression if it has one, else the column of its name in the first table that has one. Raises ``KeyError``.
    """
    found: dict[str, ColumnElement[Any]] = {}
    for table in reversed(tables):
        found |= dict(table.c.items())
    found |= expressions
    return tuple(found[name] for name in row_type._fields)
