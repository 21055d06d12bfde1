"""The sample rows of test_expressions.py: every type of the expression language, with its extremes. (No tests here.)"""

from __future__ import annotations

import random
from typing import Any

from cdc.model import Column, ColumnType, Kind, TableSchema

COLUMNS = {
    "i2": "smallint",
    "i4": "integer",
    "j4": "integer",
    "i8": "bigint",
    "n": "numeric",
    "m": "numeric(12,3)",
    "t": "text",
    "s": "varchar(40)",
    "b": "boolean",
    "c": "boolean",
    "d": "date",
    "e": "date",
    "ts": "timestamp",
    "us": "timestamp",
    "u": "uuid",
    "js": "json",
    "jb": "jsonb",
    "ch": "char(6)",
    "tz": "timestamptz",
    "by": "bytea",
}
_KINDS = {
    "smallint": (Kind.INTEGER, "int2"),
    "integer": (Kind.INTEGER, "int4"),
    "bigint": (Kind.INTEGER, "int8"),
    "numeric": (Kind.DECIMAL, "numeric"),
    "numeric(12,3)": (Kind.DECIMAL, "numeric"),
    "text": (Kind.TEXT, "text"),
    "varchar(40)": (Kind.TEXT, "varchar"),
    "char(6)": (Kind.TEXT, "bpchar"),
    "boolean": (Kind.BOOLEAN, "bool"),
    "date": (Kind.DATE, "date"),
    "timestamp": (Kind.TIMESTAMP, "timestamp"),
    "timestamptz": (Kind.TIMESTAMPTZ, "timestamptz"),
    "bytea": (Kind.BYTES, "bytea"),
    "uuid": (Kind.UUID, "uuid"),
    "json": (Kind.JSON, "json"),
    "jsonb": (Kind.JSON, "jsonb"),
}
SCHEMA = TableSchema(
    "crm",
    "postgresql",
    "public",
    "samples",
    tuple(Column(name, ColumnType(*_KINDS[type_])) for name, type_ in COLUMNS.items()),
    1,
)

_INT2 = [0, 1, -1, 2, 7, -7, 100, 32767, -32768]
_INT4 = [*_INT2, 2147483647, -2147483648, 46341, 1000000]
_INT8 = [*_INT4, 9223372036854775807, -9223372036854775808, 3037000500, 10**15]
_NUMBERS = """
0 0.00 1 -1 1.10 2.5 -2.5 0.5 -0.5 1.5 9999 10000 -10000.0001 0.0001 NaN Infinity -Infinity
123456789.987654321 0.00000000000000000001 3 7 12.345 99.995 -0.000000000000000000000000000000000000123
32767.5 2147483647.4
"""
_NUMERIC = [*_NUMBERS.split(), "9" * 40 + "." + "9" * 20, "1" + "0" * 60]
_FIXED = ["0", "1.100", "-1.250", "999999999.999", "-999999999.999", "0.001", "2.500", "1234.567"]
_TEXT = [
    *("", " ", "a", "abc", "ABC", "Hello World", "héllo wörld", "ÀÉÎ ßŉǆ İI ıi", "Σας ΣΑΣ", "日本語", "😀a😀", "it's"),
    *("a%b_c\\d", "x,y,,z", ",", "a.b.c", "  pad  ", "xxabcxx", "tab\tnl\n", "aaa", "O'NEIL-mc_donald 2nd 3RD"),
    *("12", " -7 ", "+5", "1.50", "1e3", "1.5e-2", ".5", "5.", "NaN", "-inf", "1_000", "0x10", "99999999999999999999"),
    *("true", "f", "yes", "of", "o", "1", "2024-02-29", "2024-2-9", "2023-02-29", "0044-03-15 BC", "infinity"),
    *("2024-02-29 12:34:56.789", "2024-02-29T01:02:03", "1999-12-31 23:59:59.999999", "20240229", "Feb 29 2024"),
    "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
]
_DAYS = """
1970-01-01, 2000-02-29, 2024-12-30, 2024-12-31, 2021-01-03, 1900-03-01, 0001-01-01, 0001-12-31 BC, infinity
-infinity, 4714-11-24 BC, 5874897-12-31, 1582-10-10, 0100-12-31, 2001-01-01, 9999-12-31
"""
_DATE = [day for line in _DAYS.strip().split("\n") for day in line.split(", ")]
_TIMESTAMP = [
    *("1970-01-01 00:00:00", "2024-02-29 23:59:59.999999", "1969-12-31 23:59:59.5", "0001-01-01 00:00:00.000001"),
    *("0044-03-15 12:30:45.12 BC", "infinity", "-infinity", "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999"),
    *("2000-01-01 00:00:00", "2021-01-03 10:20:30.4", "1999-12-31 12:00:00", "2001-01-01 01:01:01.01"),
]
_JSON = [
    '{"a": "x", "n": 1.50, "b": true, "z": null, "o": {"a": "deep", "k": [1, 2]}}',
    *('{"a": "h\\u00e9\\n\\"q\\" \\ud83d\\ude00"}', '{"a": 1e2}', "{}", "[1,2]", '"a"', "null", "12"),
    *(' { "a" : { "a" : [ 1 , { "b" : 2 } ] } } ', '{"a": "one", "a": "two"}', '{"a": ""}', '{"n": -0.0, "a": false}'),
    '{"b": 1, "aa": 2, "a": 3, "é": 4, "zz": [1e3, 1.0E-2, -5, {"k": [], "o": {}}]}',
    *("[]", '[["a", {"a": 7}], "a", null]'),
]


def zoned(timestamp: str) -> str:
    """A timestamp's text as that of a timestamptz in UTC."""
    if timestamp.endswith("infinity"):
        return timestamp
    return f"{timestamp.removesuffix(' BC')}+00{' BC' if timestamp.endswith(' BC') else ''}"


_BY_TYPE: dict[str, list[Any]] = {
    "smallint": _INT2,
    "integer": _INT4,
    "bigint": _INT8,
    "numeric": _NUMERIC,
    "numeric(12,3)": _FIXED,
    "text": _TEXT,
    "varchar(40)": [text for text in _TEXT if len(text) <= 40],
    "char(6)": ["", "ab", "a b", "abcdef"],
    "boolean": [True, False],
    "date": _DATE,
    "timestamp": _TIMESTAMP,
    "timestamptz": [zoned(each) for each in _TIMESTAMP],
    "bytea": ["", r"\x00ff10", r"\x" + "ab" * 70],
    "json": _JSON,
    "jsonb": _JSON,
    "uuid": ["a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"],
}


def _rows() -> list[tuple[Any, ...]]:
    """Every value of every column at least once, NULLs, and chance neighbours (always the same)."""
    chance = random.Random(20260)
    columns = []
    for type_ in COLUMNS.values():
        values = [*_BY_TYPE[type_], None]
        values += [chance.choice(values) for _ in range(64 - len(values))]
        chance.shuffle(values)
        columns.append(values)
    return [*zip(*columns, strict=True), tuple([None] * len(COLUMNS))]


ROWS = _rows()
