"""Expressions: what is refused, and where the caret stands. (Values: tests/conformance/test_expressions.py.)"""

from __future__ import annotations

from typing import Any

import pytest

from cdc.mapping.expressions import ExpressionError, compile_expression, syntax_problems
from cdc.model import Column, ColumnType, Kind, TableSchema

_TYPES = {
    "id": ColumnType(Kind.INTEGER, "int8"),
    "small": ColumnType(Kind.INTEGER, "int2"),
    "price": ColumnType(Kind.DECIMAL, "numeric", 12, 2),
    "name": ColumnType(Kind.TEXT, "text"),
    "Mixed": ColumnType(Kind.TEXT, "text"),
    "code": ColumnType(Kind.TEXT, "bpchar", 3),
    "mood": ColumnType(Kind.TEXT, "mood"),
    "day": ColumnType(Kind.DATE, "date"),
    "at": ColumnType(Kind.TIMESTAMP, "timestamp"),
    "zoned": ColumnType(Kind.TIMESTAMPTZ, "timestamptz"),
    "ratio": ColumnType(Kind.FLOAT64, "float8"),
    "data": ColumnType(Kind.JSON, "jsonb"),
    "pairs": ColumnType(Kind.JSON, "hstore"),
}
COLUMNS = tuple(Column(name, type_) for name, type_ in _TYPES.items())
SCHEMA = TableSchema("crm", "postgresql", "public", "things", COLUMNS, 1)
ROW = (7, 3, "12.50", "Ann", "x", "ab ", "ok", 100, 10**15, "2024-01-01T00:00:00Z", 1.5, '{"a": 1}', "{}")


def value(text: str) -> Any:
    made = compile_expression(text, SCHEMA)
    return made.constant if made.call is None else made.call(ROW)


@pytest.mark.parametrize(
    ("text", "place", "word", "help"),
    [
        ("lowr(name)", "lowr", "function", "did you mean 'lower'?"),
        ("lower(nmae)", "nmae", "no column 'nmae'", "did you mean 'name'?"),
        ("mixed || name", "mixed", "no column 'mixed'", "a name with capitals needs double quotes"),
        ("things.name", "things.name", "without a table", None),
        ("name > 'a'", "name > 'a'", "collation", None),
        ("greatest(name, 'b')", "greatest(name, 'b'", "collation", None),
        ("name + 1", "name + 1", "text + integer", None),
        ("id + 'x'", "'x'", "not a whole number", None),
        ("coalesce(name, 1)", "coalesce(name, 1", "no type in common: text, integer", "cast them to one type"),
        ("lower(id)", "lower(id", "lower(bigint)", "cast to fit lower(text)"),
        ("round(id)", "round(id", "round(bigint)", "cast to fit round(numeric) or round(numeric, integer)"),
        ("code || 'x'", "code", "not available here", None),
        ("upper(mood)", "mood", "not available here", None),
        ("ratio * 2", "ratio * 2", "float8 (float64) * integer", None),
        ("zoned::date", "zoned", "does not fit", None),
        ("date_trunc('month', day)", "date_trunc('month', day", "date_trunc of date", None),
        ("date_trunc('mont', at)", "date_trunc('mont', at", "no unit 'mont'", "did you mean 'month'?"),
        ("date_trunc(month, at)", "month", "quoted word", "such as 'month'"),
        ("extract(hour from day)", "day", "no field 'hour' of a date", None),
        ("extract(year from zoned)", "zoned", "not available", None),
        ("pairs->'a'", "pairs", "need json", None),
        ("data->name", "data", "quoted key", None),
        ("data#>name", "data", "quoted path", "such as '{address,city}'"),
        ("data#>'{a b}'", "data", "this always fails: a path is written", None),
        ("jsonb_build_object('a')", "jsonb_build_object('a'", "keys and values in turn", None),
        ("jsonb_build_object('a', zoned)", "zoned", "timestamptz as JSON", "write it as a text first"),
        (
            "jsonb_array_length(name)",
            "jsonb_array_length(name",
            "jsonb_array_length(text)",
            "cast to fit jsonb_array_length(jsonb)",
        ),
        ("lower(data->'a'->name)", "data", "quoted key", None),
        ("zoned at time zone 'Europe/Berlin'", "zoned", "'UTC'", "rules of others change with the years"),
        ("zoned > '2024-01-01 00:00:00'", "'2024", "its zone", None),
        ("to_char(at, 'Mon')", "to_char(at", "quoted format", None),
        ("to_char(zoned, 'YYYY')", "to_char(zoned", "to_char of timestamptz", None),
        ("'x' || data->>'a'", "'x' || data", "parentheses", None),
        ("id = 1 = true", "=", "parentheses", None),
        ("name and true", "name", "a condition is wanted", None),
        ("1 / 0", "1 / 0", "always fails: division by zero", None),
        ("now()", "now", "function 'now'", None),
        ("current_date", "current_date", "CURRENTDATE is not available", None),
        ("(select 1)", "1", "not available", None),
        ("sum(id) over ()", "sum", "function 'sum'", None),
        ('name collate "C"', 'name collate "C', "COLLATE is not available", None),
        ("name ~ 'a'", "name ~ 'a'", "REGEXPLIKE is not available", None),
        ("id::float8", "id", "casts to double precision", None),
        ("name as x", "name as x", "a name after an expression", None),
        ("id; name", "id; name", "one expression", None),
        ("name is 'x'", "'x'", "IS takes", None),
        ("null + null", "null + null", "not known", None),
        ("$1", "1", "not available", None),
    ],
)
def test_refusals(text: str, place: str, word: str, help: str | None) -> None:
    with pytest.raises(ExpressionError) as raised:
        compile_expression(text, SCHEMA)
    problem = raised.value.problems[0]
    assert word in problem.message
    assert text[problem.start : problem.start + problem.length].startswith(place[: problem.length])
    if help is not None:
        assert problem.help == help


def test_all_problems_of_an_expression_are_shown() -> None:
    with pytest.raises(ExpressionError) as raised:
        compile_expression("upper(nmae) || lower(mane)", SCHEMA)
    assert [problem.start for problem in raised.value.problems] == [6, 21]


def test_what_can_be_said_without_a_schema() -> None:
    assert syntax_problems("lower(anything) || 'x'") == ()
    assert [problem.code for problem in syntax_problems("lowr(a) || foo(b)")] == ["unknown-function"] * 2
    assert [problem.code for problem in syntax_problems("a ||")] == ["sql-syntax"]
    assert [problem.code for problem in syntax_problems("a" * 20_000)] == ["sql-too-long"]
    assert syntax_problems("(" * 3000 + "a" + ")" * 3000)
    assert syntax_problems("'open")


@pytest.mark.parametrize(
    ("text", "result", "kind"),
    [
        ("price / 3", "4.1666666666666667", Kind.DECIMAL),
        ("price * 0", "0.00", Kind.DECIMAL),
        ("-7 / 2", -3, Kind.INTEGER),
        ("id % 4", 3, Kind.INTEGER),
        ("day + 1", 101, Kind.DATE),
        ("at::date", 11574, Kind.DATE),
        ("code::text || '.'", "ab.", Kind.TEXT),
        ("mood::text", "ok", Kind.TEXT),
        ("coalesce(zoned, null)", "2024-01-01T00:00:00.000000Z", Kind.TIMESTAMPTZ),
        ("ratio is null", False, Kind.BOOLEAN),
        ('"Mixed" || name', "xAnn", Kind.TEXT),
        ("'text'", "text", Kind.TEXT),
        ("null", None, Kind.TEXT),
    ],
)
def test_values_are_canonical(text: str, result: Any, kind: Kind) -> None:
    assert value(text) == result
    assert compile_expression(text, SCHEMA).type.kind is kind


def test_sizes_of_an_outermost_cast_reach_the_target() -> None:
    sized = compile_expression("price::numeric(10,1)", SCHEMA).type
    assert (sized.length, sized.scale) == (10, 1)
    text = compile_expression("name::varchar(2)", SCHEMA).type
    assert (text.native, text.length, value("name::varchar(2)")) == ("varchar", 2, "An")


def test_inputs_are_the_columns_that_are_read() -> None:
    assert compile_expression("coalesce(name, \"Mixed\", 'x')", SCHEMA).inputs == (3, 4)
    assert compile_expression("1 + 1", SCHEMA).inputs == ()


def test_mariadb_types() -> None:
    columns = tuple(
        Column(name, type_)
        for name, type_ in (
            ("id", ColumnType(Kind.INTEGER, "bigint unsigned")),
            ("flag", ColumnType(Kind.INTEGER, "tinyint")),
            ("state", ColumnType(Kind.TEXT, "enum")),
            ("raw", ColumnType(Kind.JSON, "json")),
        )
    )
    schema = TableSchema("billing", "mariadb", "billing", "t", columns, 1)
    row = (18446744073709551615, 1, "open", '{"k": "v"}')
    made = [compile_expression(text, schema) for text in ("id + 1", "flag + 1", "state || '!'", "raw->>'k'")]
    assert [each.call(row) for each in made if each.call] == ["18446744073709551616", 2, "open!", "v"]
