"""Every MariaDB type with its edge values, and how both servers write them as one and the same text."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One column type and SQL expressions of its values; NULL is tested for all.

    `source`, `target`: SQL that writes column `v` as text in MariaDB and in PostgreSQL. `number`: compare as floats.
    `reads`: values whose snapshot read is not exact and must be parked.
    """

    type: str
    values: tuple[str, ...]
    source: str = "CAST(v AS CHAR)"
    target: str = "v::text"
    number: bool = False
    reads: tuple[str, ...] = ()
    nullable: bool = True


TEXTS = ("'plain'", "''", "' padded '", r"'tab\tline\nreturn\rback\\slash'", "'quote\" and ''apostrophe'''", r"'\\N'")
UNICODE = "'ünïcödé 汉字 😀'"
HEX = {"source": "HEX(v)", "target": "upper(encode(v, 'hex'))"}
FLOAT = {"source": "CAST(v AS DOUBLE)", "target": "v::float8::text", "number": True}
MICROS = "DATE_FORMAT(v, '%Y-%m-%d %H:%i:%s.%f')"
PG_MICROS = "to_char(v, 'YYYY-MM-DD HH24:MI:SS.US')"

CASES: tuple[Case, ...] = (
    Case("tinyint", ("-128", "127")),
    Case("tinyint unsigned", ("255",)),
    Case("boolean", ("true", "false")),
    Case("smallint", ("-32768", "32767")),
    Case("smallint unsigned", ("65535",)),
    Case("mediumint", ("-8388608", "8388607")),
    Case("mediumint unsigned", ("16777215",)),
    Case("int", ("-2147483648", "2147483647")),
    Case("int unsigned", ("4294967295",)),
    Case("int(10) unsigned zerofill", ("42",), source="CAST(v + 0 AS CHAR)"),
    Case("bigint", ("-9223372036854775808", "9223372036854775807")),
    Case("bigint unsigned", ("18446744073709551615", "9223372036854775808", "0")),
    Case("decimal(65,30)", ("1.1", "0", "0.000000000000000000000000000001", "-" + "9" * 35 + "." + "9" * 30)),
    Case("decimal(10,2)", ("1.10", "-99999999.99")),
    Case("decimal(5,0)", ("12345",)),
    Case("float", ("1.1", "0", "-0.5", "16777216", "3.4028235e38"), reads=("16777216", "3.4028235e38"), **FLOAT),  # type: ignore[arg-type]
    Case("float(7,3)", ("1.1", "1234.5", "1234.567"), reads=("1234.567",), **FLOAT),  # type: ignore[arg-type]
    Case("double", ("1.1", "1.7976931348623157e308", "5e-324", "-0.1"), **FLOAT),  # type: ignore[arg-type]
    Case("bit(1)", ("b'0'", "b'1'"), source="BIN(v + 0)"),
    Case("bit(12)", ("b'0'", "b'100000000001'", "b'11'"), source="LPAD(BIN(v + 0), 12, '0')"),
    Case("bit(64)", ("b'0'", f"b'{'1' * 64}'"), source="LPAD(BIN(v + 0), 64, '0')"),
    Case("char(20)", (*TEXTS[:2], UNICODE)),
    Case("varchar(60)", (*TEXTS, UNICODE, "CHAR(1)")),
    Case("text", (*TEXTS, UNICODE, "REPEAT('x', 60000)")),
    Case("longtext", ("REPEAT('y', 1000000)",)),
    Case("varchar(20) character set latin1", ("'ünïcödé'",)),
    Case("varchar(20) character set utf16", (UNICODE,)),
    Case("varchar(20) character set ucs2", ("'汉字'",)),
    Case("varchar(20) character set sjis", ("'日本'",)),
    Case("json", ("""'{"b": 1,  "a": [1, 2.50, null]}'""", "'1'")),
    Case("uuid", ("'b68a35a7-17ad-35b3-af2a-ae46edb4545a'",)),
    Case("binary(4)", ("'ab'", "x'00ff5c0a'"), **HEX),  # type: ignore[arg-type]
    Case("varbinary(10)", ("''", "x'00ff5c0a09'"), **HEX),  # type: ignore[arg-type]
    Case("blob", ("x'00ff'", "REPEAT('z', 60000)"), **HEX),  # type: ignore[arg-type]
    Case(r"enum('a','b,c','d\\e','','f''g')", ("'a'", "'b,c'", r"'d\\e'", "''", "'f''g'")),
    Case("set('x','y','z')", ("'x'", "'x,z'", "''")),
    Case(
        "date",
        ("'2024-02-29'", "'9999-12-31'", "'1582-10-25'", "'1582-10-15'", "'1000-01-01'", "'0001-01-01'"),
        reads=("'1582-10-15'", "'1000-01-01'", "'0001-01-01'"),
    ),
    Case("time", ("'12:34:56'", "'-838:59:59'", "'838:59:59'", "'00:00:00'")),
    Case("time(6)", ("'12:34:56.000001'", "'-838:59:59.999999'", "'-00:00:00.000001'")),
    Case("time(3)", ("'24:00:00.001'",)),
    Case("datetime", ("'2024-02-29 12:34:56'",), MICROS, PG_MICROS),
    Case("datetime(3)", ("'2024-02-29 12:34:56.789'",), MICROS, PG_MICROS),
    Case(
        "datetime(6)",
        (
            "'2024-02-29 12:34:56.123456'",
            "'9999-12-31 23:59:59.999999'",
            "'1582-10-15'",
            "'1000-01-01 00:00:00.000001'",
        ),
        MICROS,
        PG_MICROS,
        reads=("'1582-10-15'", "'1000-01-01 00:00:00.000001'"),
    ),
    Case("timestamp", ("'2024-02-29 12:34:56'",), MICROS, "to_char(v AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')"),
    Case(
        "timestamp(6)",
        (
            "'2024-02-29 12:34:56.123456'",
            "'2024-02-29 12:34:56.1'",
            "'1970-01-01 00:00:01'",
            "'2038-01-19 03:14:07.999999'",
        ),
        MICROS,
        "to_char(v AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.US')",
    ),
    Case("year", ("1901", "2024", "2155")),
    Case("point", ("ST_GeomFromText('POINT(1.5 -2)')",), "HEX(ST_AsWKB(v))", HEX["target"]),
    Case("geometry", ("ST_GeomFromText('LINESTRING(0 0, 1 1)')",), "HEX(ST_AsWKB(v))", HEX["target"]),
    Case("polygon", ("ST_GeomFromText('POLYGON((0 0, 1 0, 1 1, 0 0))')",), "HEX(ST_AsWKB(v))", HEX["target"]),
)
