"""All that differs between SQLite and PostgreSQL in how statements are written.

Rules:
1. A batch of rows travels as parameters of one statement and is a table named ``batch`` inside it,
   with its position in ``n``. PostgreSQL gets one array literal per column, written here (the
   driver's own takes four times as long); SQLite gets one JSON document. Never a VALUES list: its
   text grows with the batch.
2. Rows that a statement finds, locks and deletes are addressed by their location (``ctid``,
   ``rowid``), so that no planner turns the join into a scan. Not in a SELECT that locks: it would
   run the finding part again for every row that others changed meanwhile.
3. SQLAlchemy omits ``FOR UPDATE`` and ``SKIP LOCKED`` on SQLite, whose write transactions are
   exclusive.

What this module does not do: transactions, pragmas and timeouts (``engine``).
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    ColumnElement,
    FromClause,
    ScalarSelect,
    Select,
    Table,
    bindparam,
    column,
    func,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import UserDefinedType

Rows = Sequence[Sequence[Any]]


class Dialect(ABC):
    name: str
    #: An expression: a random text of 32 hex digits.
    random_text: str
    #: An expression over a row of a table: another text after this database was restored, as far as
    #: the database can tell.
    history: str
    #: An expression: this database's clock, Unix seconds with a fraction.
    second: str
    #: The column with the location of a row.
    address: str
    #: Makes an insert into a table that knows ``on_conflict_do_nothing``.
    insert: Callable[[Table], Any]

    @abstractmethod
    def batch(self, *columns: tuple[str, type]) -> FromClause:
        """A table of the rows given as parameters: the columns (name, int or str) and n."""

    @abstractmethod
    def parameters(self, rows: Rows) -> dict[str, Any]:
        """The parameters that carry these rows into a statement with a batch."""

    @abstractmethod
    def among(self, column: ColumnElement[int]) -> ColumnElement[bool]:
        """``column`` is one of the numbers given as :meth:`parameters`, in rows of one each. For
        lookups by an index, whatever the size of the table."""

    @abstractmethod
    def located(self, table: Table, found: Select[Any]) -> ColumnElement[bool]:
        """Rows of ``table`` at the locations that ``found`` selects, see :meth:`location`."""

    def location(self, table: Table) -> ColumnElement[Any]:
        return literal_column(f"{table.name}.{self.address}")


def _numbers(values: Iterable[int | None]) -> str:
    return "{" + ",".join(map(str, values)).replace("None", "NULL") + "}"


def _texts(values: Collection[str]) -> str:
    # Escaped in one piece: NUL, which no text of PostgreSQL may hold, separates them.
    joined = "\0".join(values)
    if joined.count("\0") != max(len(values) - 1, 0):
        raise ValueError("a text for the database holds a NUL")
    if not values:
        return "{}"
    escaped = joined.replace("\\", "\\\\").replace('"', '\\"')
    return '{"' + escaped.replace("\0", '","') + '"}'


class _Array(UserDefinedType[Any]):
    """A whole column of a batch as one array literal."""

    cache_ok = True
    render_bind_cast = True

    def __init__(self, of: type) -> None:
        self.of = of

    def get_col_spec(self, **_: Any) -> str:
        return "BIGINT[]" if self.of is int else "TEXT[]"

    def bind_processor(self, dialect: Any) -> Callable[[Any], str]:
        return _numbers if self.of is int else _texts


class Postgres(Dialect):
    name = "postgresql"
    random_text = "replace(gen_random_uuid()::text, '-', '')"
    # The cluster, its timeline (which changes at a recovery to a point in time and at a failover),
    # and the table, which a dump creates again.
    history = (
        "concat_ws(' ', (SELECT system_identifier FROM pg_control_system()),"
        " left(pg_walfile_name(pg_current_wal_lsn()), 8), tableoid)"
    )
    second = "extract(epoch FROM clock_timestamp())"
    address = "ctid"
    insert = staticmethod(postgresql.insert)

    @lru_cache  # noqa: B019 - two instances per process at most, and few shapes
    def batch(self, *columns: tuple[str, type]) -> FromClause:
        arrays = [
            bindparam(f"column_{i}", type_=_Array(kind)) for i, (_, kind) in enumerate(columns)
        ]
        names = [column(name, None if kind is str else BigInteger) for name, kind in columns]
        unnested = func.unnest(*arrays).table_valued(*names, with_ordinality="n", name="batch")
        return unnested.render_derived()

    def parameters(self, rows: Rows) -> dict[str, Any]:
        return {f"column_{i}": values for i, values in enumerate(zip(*rows, strict=True))}

    def among(self, column: ColumnElement[int]) -> ColumnElement[bool]:
        # A join with an unnested array may become a walk over the whole index.
        return column == func.any(bindparam("column_0", type_=_Array(int)))

    def located(self, table: Table, found: Select[Any]) -> ColumnElement[bool]:
        # An array computed once is a list of addresses; IN (SELECT ...) may become a join that
        # reads the whole table.
        addresses: ScalarSelect[Any] = found.scalar_subquery()
        return self.location(table).bool_op("=")(func.any(func.array(addresses)))


class Sqlite(Dialect):
    name = "sqlite"
    random_text = "lower(hex(randomblob(16)))"
    history = "''"  # a file that was copied over another is the same file
    second = "((julianday('now') - 2440587.5) * 86400.0)"
    address = "rowid"
    insert = staticmethod(sqlite.insert)

    @lru_cache  # noqa: B019 - as above
    def batch(self, *columns: tuple[str, type]) -> FromClause:
        rows = func.json_each(bindparam("rows")).table_valued("key", "value", name="rows")
        cells = [
            func.json_extract(rows.c.value, literal_column(f"'$[{i}]'")).label(name)
            for i, (name, _) in enumerate(columns)
        ]
        return select(*cells, rows.c.key.label("n")).subquery("batch")

    def parameters(self, rows: Rows) -> dict[str, Any]:
        return {"rows": json.dumps(rows, ensure_ascii=False)}

    def among(self, column: ColumnElement[int]) -> ColumnElement[bool]:
        return column.in_(select(self.batch(("number", int)).c.number))

    def located(self, table: Table, found: Select[Any]) -> ColumnElement[bool]:
        return self.location(table).in_(found)


POSTGRES: Dialect = Postgres()
SQLITE: Dialect = Sqlite()
TRUE = literal_column("1 = 1", Boolean)
