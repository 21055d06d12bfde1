"""Every function, operator and cast of the expression language against a real PostgreSQL: same value, same type, and an
error where PostgreSQL has one.

The language may refuse what PostgreSQL accepts (at compile time, or for a value that it does not hold exactly: only
where `MAY_PARK` says so), but it never gives another answer, and it never accepts what PostgreSQL refuses.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, assume, given, settings

from cdc.mapping import sqltypes, temporal
from cdc.mapping.expressions import Expression, ExpressionError, compile_expression
from cdc.mapping.functions import ALLOWED
from cdc.model import NEG_INFINITY, POS_INFINITY, ColumnType, Kind, TableSchema, Value
from cdc.reconcile.columns import reader
from tests.conformance.test_expressions_cases import CASES, MAY_PARK, expressions
from tests.conformance.test_expressions_rows import COLUMNS, ROWS, SCHEMA, zoned

pytestmark = pytest.mark.database

_ATTEMPT = """
CREATE FUNCTION attempt(expression text) RETURNS TABLE (id int, value text, type text, code text) AS $$
BEGIN
  FOR id IN SELECT s.id FROM samples s ORDER BY s.id LOOP
    value := NULL; type := NULL; code := NULL;
    BEGIN
      EXECUTE format('SELECT (%1$s)::text, pg_typeof(%1$s)::text FROM samples WHERE id = $1', expression)
        INTO value, type USING id;
    EXCEPTION WHEN OTHERS THEN code := SQLSTATE;
    END;
    RETURN NEXT;
  END LOOP;
END $$ LANGUAGE plpgsql
"""

_TYPE_NAMES = {"character varying": "text", "unknown": "text"}  # what PostgreSQL calls them, what they are here


@dataclass(frozen=True)
class Answer:
    """What PostgreSQL said about one row: a value as text, or an error's code."""

    value: str | None
    type: str | None
    code: str | None


class Oracle:
    """A database with the sample rows. Its texts are UTF-8 with Unicode's simple case mappings."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self.connection = connection
        connection.execute("SET DateStyle = 'ISO, YMD'; SET TimeZone = 'UTC'")
        connection.execute(f"CREATE TABLE samples (id int, {', '.join(f'{n} {t}' for n, t in COLUMNS.items())})")
        places = ", ".join(f"%s::{type_}" for type_ in COLUMNS.values())
        with connection.cursor() as cursor:
            cursor.executemany(
                f"INSERT INTO samples VALUES (%s, {places})", [(number, *row) for number, row in enumerate(ROWS)]
            )
        connection.execute(_ATTEMPT)
        self.rows = self._canonical(SCHEMA)

    def answers(self, expression: str) -> list[Answer]:
        found = self.connection.execute("SELECT value, type, code FROM attempt(%s)", [expression]).fetchall()
        return [Answer(*row) for row in found]

    def _canonical(self, schema: TableSchema) -> list[tuple[Value, ...]]:
        """The rows as a source would send them; days and microseconds are counted by the server."""
        picks = []
        for column in schema.columns:
            pick = f"{column.name}::text"
            if column.type.kind is Kind.INTEGER or column.type.kind is Kind.BOOLEAN:
                pick = column.name
            elif column.type.kind is Kind.DATE:
                pick = _finite(column.name, f"({column.name} - date '1970-01-01')::numeric")
            elif column.type.kind is Kind.TIMESTAMP:
                pick = _finite(column.name, _MICROS.format(name=column.name))
            elif column.type.kind is Kind.BYTES:
                pick = column.name
            picks.append(pick)
        rows = self.connection.execute(f"SELECT {', '.join(picks)} FROM samples ORDER BY id").fetchall()
        days = {index for index, column in enumerate(schema.columns) if column.type.kind in {Kind.DATE, Kind.TIMESTAMP}}
        instants = {index for index, column in enumerate(schema.columns) if column.type.kind is Kind.TIMESTAMPTZ}
        parse = reader(ColumnType(Kind.TIMESTAMPTZ, "timestamptz"), "postgresql").parse
        assert parse is not None
        convert = {**dict.fromkeys(days, int), **dict.fromkeys(instants, parse)}
        return [
            tuple(convert[n](value) if n in convert and value is not None else value for n, value in enumerate(row))
            for row in rows
        ]


_MICROS = (  # extract(epoch) would round far away from now
    "({name}::date - date '1970-01-01')::numeric * 86400000000 + extract(hour FROM {name}) * 3600000000"
    " + extract(minute FROM {name}) * 60000000 + extract(microseconds FROM {name})"
)


def _finite(name: str, expression: str) -> str:
    special = f"WHEN {name} = 'infinity' THEN {POS_INFINITY} WHEN {name} = '-infinity' THEN {NEG_INFINITY}"
    return f"CASE {special} ELSE {expression} END"


@pytest.fixture(scope="module")
def oracle(postgres: Any) -> Iterator[Oracle]:
    name = f"t_{uuid.uuid4().hex[:12]}"
    with psycopg.connect(postgres.url("postgresql", "postgres"), autocommit=True) as admin:
        admin.execute(
            f"CREATE DATABASE {name} TEMPLATE template0 ENCODING 'UTF8' LOCALE 'C' "
            "LOCALE_PROVIDER builtin BUILTIN_LOCALE 'C.UTF-8'"
        )
        with psycopg.connect(postgres.url("postgresql", name), autocommit=True) as connection:
            yield Oracle(connection)
        admin.execute(f"DROP DATABASE {name} WITH (FORCE)")


def check(oracle: Oracle, text: str) -> int:
    """Compare all rows; the number of rows that gave a value on both sides."""
    expression = compile_expression(text, SCHEMA)
    same = 0
    for row, answer in zip(oracle.rows, oracle.answers(text), strict=True):
        shown = {column.name: row[index] for index, column in enumerate(SCHEMA.columns) if index in expression.inputs}
        try:
            value = expression.constant if expression.call is None else expression.call(row)
        except (ValueError, ArithmeticError):
            parks = answer.code is not None or any(word in text.lower() for word in MAY_PARK)
            assert parks, f"{text} parks {shown}, PostgreSQL has {answer.value!r}"
            continue
        assert answer.code is None, f"{text} gives {value!r} for {shown}, PostgreSQL fails with {answer.code}"
        assert as_text(expression, value) == answer.value, f"{text} for {shown}"
        assert type_name(expression) == _TYPE_NAMES.get(str(answer.type), answer.type), text
        same += 1
    return same


def as_text(expression: Expression, value: Value) -> str | None:
    """A canonical value the way PostgreSQL's cast to text shows it."""
    if value is None:
        return None
    kind = expression.type.kind
    if kind is Kind.BOOLEAN:
        return "true" if value else "false"
    if kind is Kind.DATE:
        return temporal.date_text(value)
    if kind is Kind.BYTES:
        return f"\\x{value.hex()}"
    if kind is Kind.TIMESTAMPTZ:
        return zoned(temporal.timestamp_text(temporal.instant(value)))
    return temporal.timestamp_text(value) if kind is Kind.TIMESTAMP else str(value)


def type_name(expression: Expression) -> str:
    native = expression.type.native
    names = {"bool": "boolean", "int2": "smallint", "int4": "integer", "int8": "bigint", "varchar": "text"}
    plain = names.get(native, native)
    zones = {"timestamp": "timestamp without time zone", "timestamptz": "timestamp with time zone"}
    return zones.get(plain, plain)


@pytest.mark.parametrize("text", CASES)
def test_listed(oracle: Oracle, text: str) -> None:
    assert check(oracle, text) > 0, "no row gave a value: the case proves nothing"


def test_every_allowed_function_is_listed() -> None:
    written = " ".join(CASES).lower()
    assert [name for name in ALLOWED if f"{name}(" not in written] == []


def test_every_cast_is_listed() -> None:
    """All pairs of types that `sqltypes.cast` accepts, on all rows."""
    names = {"i2": "smallint", "i4": "integer", "i8": "bigint", "n": "numeric", "t": "text", "b": "boolean"}
    names |= {"d": "date", "ts": "timestamp", "u": "uuid", "js": "json", "jb": "jsonb"}
    types = {name: getattr(sqltypes, name.upper()) for name in names.values()}
    for column, from_ in names.items():
        for to in names.values():
            if sqltypes.cast(types[from_], types[to]) is not None and to != "json" and (column, to) != ("jb", "jsonb"):
                assert f"{column}::{to}" in CASES


@settings(max_examples=400, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(text=expressions())
def test_generated(oracle: Oracle, text: str) -> None:
    try:
        compile_expression(text, SCHEMA)
    except ExpressionError:
        assume(False)
    check(oracle, text)


def test_letters(oracle: Oracle) -> None:
    """Case of every character that Python's Unicode and PostgreSQL's both know."""
    found = oracle.connection.execute(
        "SELECT c, lower(chr(c)), upper(chr(c)) FROM generate_series(1, 195101) c WHERE c NOT BETWEEN 55296 AND 57343"
    ).fetchall()
    lower, upper = (compile_expression(f"{name}(t)", SCHEMA).call for name in ("lower", "upper"))
    assert lower is not None
    assert upper is not None
    row = [None] * len(SCHEMA.columns)
    place = [column.name for column in SCHEMA.columns].index("t")
    for point, low, high in found:
        row[place] = chr(point)  # type: ignore[call-overload]
        assert (lower(tuple(row)), upper(tuple(row))) == (low, high), f"U+{point:04X}"
