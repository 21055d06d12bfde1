"""Canonical values of every kind with the text that PostgreSQL shows for them; a target's own are in its bench."""

from __future__ import annotations

from math import inf, nan
from typing import Any

from cdc.model import NEG_INFINITY, POS_INFINITY, ColumnType, Kind

_DAY = 86_400_000_000

VALUES: dict[str, tuple[ColumnType, dict[Any, str]]] = {
    "boolean": (ColumnType(Kind.BOOLEAN, "bool"), {True: "true", False: "false"}),
    "smallint": (ColumnType(Kind.INTEGER, "int2"), {-32768: "-32768", 32767: "32767"}),
    "bigint": (
        ColumnType(Kind.INTEGER, "int8"),
        {-(1 << 63): "-9223372036854775808", (1 << 63) - 1: "9223372036854775807", 0: "0"},
    ),
    "unsigned": (
        ColumnType(Kind.INTEGER, "bigint unsigned"),
        {(1 << 64) - 1: "18446744073709551615", 1 << 63: "9223372036854775808", 7: "7"},
    ),
    "decimal": (
        ColumnType(Kind.DECIMAL, "numeric", 38, 10),
        {"1.1000000000": "1.1000000000", "-9999999999999999999999999999.9999999999": "-" + "9" * 28 + "." + "9" * 10},
    ),
    "free decimal": (
        ColumnType(Kind.DECIMAL, "numeric"),
        {"1.10": "1.10", "0.0000000000000000000001": "0.0000000000000000000001", "9" * 60: "9" * 60},
    ),
    "decimal specials": (
        ColumnType(Kind.DECIMAL, "numeric"),
        {"NaN": "NaN", "Infinity": "Infinity", "-Infinity": "-Infinity"},
    ),
    "float64": (
        ColumnType(Kind.FLOAT64, "float8"),
        {0.1: "0.1", -1.5e300: "-1.5e+300", 5e-324: "5e-324", 9007199254740993.0: "9.007199254740992e+15"},
    ),
    "negative zero": (ColumnType(Kind.FLOAT64, "float8"), {-0.0: "-0"}),
    "float specials": (
        ColumnType(Kind.FLOAT64, "float8"),
        {nan: "NaN", inf: "Infinity", -inf: "-Infinity"},
    ),
    "text": (ColumnType(Kind.TEXT, "text"), {"": "", "1.10": "1.10", "007": "007", " é𝔘 ": " é𝔘 "}),
    "bytes": (ColumnType(Kind.BYTES, "bytea"), {b"": "\\x", b"\x00\xff\\": "\\x00ff5c"}),
    "bits": (ColumnType(Kind.BITS, "bit", 5), {"01010": "01010", "00000": "00000"}),
    "date": (
        ColumnType(Kind.DATE, "date"),
        {0: "1970-01-01", -719163: "0001-12-31 BC", 2932897: "10000-01-01", 20780: "2026-11-23"},
    ),
    "date specials": (ColumnType(Kind.DATE, "date"), {POS_INFINITY: "infinity", NEG_INFINITY: "-infinity"}),
    "time": (
        ColumnType(Kind.TIME, "time"),
        {0: "00:00:00", 1: "00:00:00.000001", _DAY - 1: "23:59:59.999999", _DAY: "24:00:00"},
    ),
    "timestamp": (
        ColumnType(Kind.TIMESTAMP, "timestamp"),
        {0: "1970-01-01 00:00:00", -1: "1969-12-31 23:59:59.999999", 253402300800000000: "10000-01-01 00:00:00"},
    ),
    "timestamp specials": (
        ColumnType(Kind.TIMESTAMP, "timestamp"),
        {POS_INFINITY: "infinity", NEG_INFINITY: "-infinity"},
    ),
    "timestamptz": (
        ColumnType(Kind.TIMESTAMPTZ, "timestamptz"),
        {
            "2026-11-23T09:58:02.000001Z": "2026-11-23 09:58:02.000001+00",
            "-0043-03-15T00:00:00Z": "0044-03-15 00:00:00+00 BC",
        },
    ),
    "timestamptz specials": (
        ColumnType(Kind.TIMESTAMPTZ, "timestamptz"),
        {"infinity": "infinity", "-infinity": "-infinity"},
    ),
    "interval": (
        ColumnType(Kind.INTERVAL, "interval"),
        {"P0Y-1M-2DT-3H-4M-5.000006S": "-1 mons -2 days -03:04:05.000006"},
    ),
    "uuid": (
        ColumnType(Kind.UUID, "uuid"),
        {"0e37df36-f698-11e6-8dd4-cb9ced3df976": "0e37df36-f698-11e6-8dd4-cb9ced3df976"},
    ),
    "json": (
        ColumnType(Kind.JSON, "json"),
        {'{"a": [null, "é"], "b": 1.10}': '{"a": [null, "é"], "b": 1.10}', "1.10": "1.10"},
    ),
    "json written oddly": (
        ColumnType(Kind.JSON, "json"),
        {'{"a":1 ,  "a":"\\u0000"}': '{"a":1 ,  "a":"\\u0000"}', "null": "null"},
    ),
    "literal": (ColumnType(Kind.LITERAL, "inet"), {"10.0.0.0/8": "10.0.0.0/8"}),
    "integers": (
        ColumnType(Kind.ARRAY, "_int4", element=ColumnType(Kind.INTEGER, "int4")),
        {(1, None, -3): "{1,NULL,-3}", (): "{}"},
    ),
    "texts": (
        ColumnType(Kind.ARRAY, "_text", element=ColumnType(Kind.TEXT, "text")),
        {('a"b', None, "NULL", ""): '{"a\\"b",NULL,"NULL",""}'},
    ),
    "floats": (
        ColumnType(Kind.ARRAY, "_float8", element=ColumnType(Kind.FLOAT64, "float8")),
        {(0.1, nan, -inf): "{0.1,NaN,-Infinity}"},
    ),
    "dates": (
        ColumnType(Kind.ARRAY, "_date", element=ColumnType(Kind.DATE, "date")),
        {(0, None): "{1970-01-01,NULL}"},
    ),
    "byte strings": (
        ColumnType(Kind.ARRAY, "_bytea", element=ColumnType(Kind.BYTES, "bytea")),
        {(b"\x00a",): '{"\\\\x0061"}'},
    ),
}
