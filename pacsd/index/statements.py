"""SQL of the hot path: text compiled once from Core for one dialect, executed on the driver's own cursor.

Core's execute costs some 50 µs a call, as much as all that SQLite does for one instance. The statements
here are still written in Core, once for both databases; only their execution goes around it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sqlalchemy import Table, bindparam, insert
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect
from sqlalchemy.sql import ClauseElement

Values = Sequence[Any]


def positional(dialect: Dialect) -> Dialect:
    """The same dialect with positional parameters, so that a row is a plain tuple."""
    make: Any = type(dialect)
    made: Dialect = make(paramstyle="qmark" if dialect.name == "sqlite" else "format")
    return made


class Statement:
    """One compiled statement and the names of its parameters, in order."""

    def __init__(self, clause: ClauseElement, dialect: Dialect, names: Sequence[str]) -> None:
        compiled: Any = clause.compile(dialect=dialect)
        self.text = str(compiled)
        order = list(compiled.positiontup or ())
        self._picks: tuple[int, ...] | None = None
        if order != list(names):
            self._picks = tuple(names.index(name) for name in order)

    def order(self, values: Values) -> Values:
        """Values given in the order of `names`, in the order of the text."""
        return values if self._picks is None else tuple([values[i] for i in self._picks])


class Insert:
    """INSERT of n rows at once, `columns` in the order given; text compiled once for each n.

    Args:
        ignore: leave out rows that exist already (ON CONFLICT DO NOTHING).
        returning: names of the columns that come back for each row written.
    """

    def __init__(
        self,
        table: Table,
        dialect: Dialect,
        columns: Sequence[str],
        *,
        ignore: bool = False,
        returning: Sequence[str] = (),
    ) -> None:
        self._table = table
        self._dialect = dialect
        self._columns = tuple(columns)
        self._ignore = ignore
        self._returning = tuple(returning)
        self._texts: dict[int, str] = {}
        self._order = tuple(self._columns.index(c.name) for c in table.columns if c.name in self._columns)
        self.in_order = self._order == tuple(range(len(self._columns)))

    def text(self, n: int) -> str:
        """The statement for `n` rows."""
        found = self._texts.get(n)
        if found is None:
            found = self._texts[n] = self._compile(n)
        return found

    def flat(self, rows: Iterable[Values]) -> list[Any]:
        """All values of some rows in the order of the text."""
        if self.in_order:
            return [value for row in rows for value in row]
        return [row[i] for row in rows for i in self._order]

    def _compile(self, n: int) -> str:
        rows: Any = [{name: bindparam(f"{name}_{i}") for name in self._columns} for i in range(n)]
        make = sqlite.insert if self._dialect.name == "sqlite" else postgresql.insert
        statement: Any = make(self._table) if self._ignore else insert(self._table)
        statement = statement.values(rows)
        if self._ignore:
            statement = statement.on_conflict_do_nothing()
        if self._returning:
            statement = statement.returning(*[self._table.c[name] for name in self._returning])
        compiled = statement.compile(dialect=self._dialect)
        wanted = [f"{self._columns[k]}_{i}" for i in range(n) for k in self._order]
        assert list(compiled.positiontup or ()) == wanted
        return str(compiled)


class Script:
    """Statements of one transaction on the driver's cursor.

    Those that answer nothing are gathered by `later`; on PostgreSQL `flush` sends them in one round trip.
    """

    def __init__(self, connection: Connection) -> None:
        self._gathered: list[tuple[str, Values]] = []
        driver: Any = connection.connection.driver_connection
        self._cursor = driver.cursor()
        self._joins = connection.dialect.name == "postgresql"

    def rows(self, text: str, values: Values = ()) -> list[tuple[Any, ...]]:
        """Execute at once (after what was gathered) and return all rows."""
        if self._gathered:
            self.flush()
        self._cursor.execute(text, values)
        rows: list[tuple[Any, ...]] = self._cursor.fetchall()
        return rows

    def query(self, statement: Statement, *values: Any) -> list[tuple[Any, ...]]:
        """Execute a compiled query and return all rows."""
        return self.rows(statement.text, statement.order(values))

    def later(self, statement: Statement, *values: Any) -> None:
        """Gather a change that answers nothing."""
        self._gathered.append((statement.text, statement.order(values)))

    def insert(self, statement: Insert, rows: Sequence[Values]) -> None:
        """Gather rows to be written."""
        if rows:
            self._gathered.append((statement.text(len(rows)), statement.flat(rows)))

    def insert_returning(self, statement: Insert, rows: Sequence[Values]) -> list[tuple[Any, ...]]:
        """Write rows at once and return what came back, in no promised order."""
        return self.rows(statement.text(len(rows)), statement.flat(rows))

    def flush(self) -> None:
        """Execute what was gathered, in order."""
        gathered, self._gathered = self._gathered, []
        if self._joins and len(gathered) > 1:
            text = ";".join([text for text, _ in gathered])
            self._cursor.execute(text, [value for _, values in gathered for value in values])
        else:
            for text, values in gathered:
                self._cursor.execute(text, values)

    def close(self) -> None:
        """Close the cursor; to be called whatever happened."""
        self._cursor.close()
