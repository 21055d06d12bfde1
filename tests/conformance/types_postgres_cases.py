"""Every PostgreSQL type with its edge values, as a table of `CREATE TABLE` types and SQL literals.

`reads`: values (by SQL text) whose snapshot read does not arrive exactly and must be parked, while streamed they are
exact. `parks`: values that are parked both ways.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """One column type and SQL expressions of its values; NULL is tested for all."""

    type: str
    values: tuple[str, ...]
    reads: tuple[str, ...] = ()
    parks: tuple[str, ...] = ()
    target: str = ""  # another target type than the default one
    text: str = "v::text"  # the source's text to compare with


TEXTS = (
    "'plain'",
    "''",
    "' padded '",
    "E'tab\\tline\\nreturn\\rback\\\\slash'",
    "E'\\\\N'",
    "'quote\" and ''apostrophe'''",
    "'ünïcödé 汉字 😀'",
    "E'\\u0001\\u007f'",
)
OLD = "'1582-10-14'"

CASES: tuple[Case, ...] = (
    Case("smallint", ("-32768", "0", "32767")),
    Case("integer", ("-2147483648", "2147483647")),
    Case("bigint", ("-9223372036854775808", "9223372036854775807")),
    Case("oid", ("0", "4294967295")),
    Case(
        "numeric",
        (
            *("1.10", "0", "-0.000000000000000000000000000001", "1e30", "'NaN'", "'Infinity'", "'-Infinity'"),
            "123456789012345678901234567890123456789012345678901234567890.123456789",
        ),
    ),
    Case("numeric(10,2)", ("1.10", "-99999999.99", "0.00")),
    Case("real", ("1.1", "-3.4028235e38", "1e-45", "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "16777216")),
    Case(
        "double precision",
        ("1.1", "1.7976931348623157e308", "5e-324", "'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "0.1::real::float8"),
    ),
    Case(
        "money",
        ("12.34", "-0.01", "1.5", "9999999999999.99", "92233720368547758.07"),
        reads=("92233720368547758.07",),
        text="v::numeric::text",
    ),
    Case("boolean", ("true", "false")),
    Case("char(10)", TEXTS[:3]),
    Case("varchar(40)", TEXTS),
    Case("text", (*TEXTS, "repeat('x', 1000000)")),
    Case("citext", ("'MixedCase'",)),
    Case("name", ("'a_name'",)),
    Case("ltree", ("'Top.Science'",)),
    Case("mood", ("'sad'", "'happy, or so'")),
    Case("uuid", ("'b68a35a7-17ad-35b3-af2a-ae46edb4545a'",)),
    Case("bytea", ("''", r"'\x00ff5c0a09'", "convert_to(repeat('y', 100000), 'UTF8')")),
    Case("bit(1)", ("B'0'", "B'1'")),
    Case("bit(12)", ("B'000000000000'", "B'100000000001'", "B'000000000011'")),
    Case("json", ("""'{"b": 1,  "a": [1, 2.50, null, "q\\"t"]}'""", "'\"text\"'", "'1'", "'null'")),
    Case("jsonb", ("""'{"b": 1, "a": [1, 2.50, null, "q\\"t\\u0001"]}'""", "'[]'", "'null'")),
    Case("tsvector", ("'a fat cat':: tsvector", "to_tsvector('english', 'a fat cat')")),
    Case(
        "date",
        (
            *("'2024-02-29'", "'1970-01-01'", "'1582-10-15'", "'9999-12-31'", "'5874897-12-31'"),
            *("'infinity'", "'-infinity'", OLD, "'0001-01-01'", "'0044-03-15 BC'"),
        ),
        reads=(OLD, "'0001-01-01'", "'0044-03-15 BC'", "'1582-10-15'"),
    ),
    Case("time", ("'00:00'", "'23:59:59.999999'", "'24:00'", "'12:34:56.7'")),
    Case("time(3)", ("'12:34:56.789'",)),
    Case(
        "timestamp",
        (
            *("'2024-02-29 12:34:56.123456'", "'1969-12-31 23:59:59.999999'", "'1582-10-15'", "'infinity'"),
            *("'-infinity'", "'10000-01-01'", "'294246-12-31 23:59:59.999999'", OLD, "'0001-01-01 00:00:00.5'"),
            *("'0044-03-15 01:02:03 BC'", "'4713-01-01 BC'", "'294276-12-31 23:59:59.999999'"),
        ),
        reads=(OLD, "'1582-10-15'", "'0001-01-01 00:00:00.5'", "'0044-03-15 01:02:03 BC'", "'4713-01-01 BC'"),
        parks=("'294276-12-31 23:59:59.999999'",),
    ),
    Case("timestamp(3)", ("'2024-02-29 12:34:56.123'",)),
    Case(
        "timestamptz",
        (
            *("'2024-02-29 12:34:56.123456+05:30'", "'1969-12-31 23:59:59.999999Z'", "'infinity'", "'-infinity'"),
            *("'10000-01-01Z'", "'1582-10-15Z'", "'1582-10-14Z'", "'0001-01-01Z'", "'0044-03-15 01:02:03Z BC'"),
            *("'0001-06-01Z BC'", "'4713-01-01Z BC'", "'2024-01-01 00:00:00.1Z'"),
        ),
        reads=(
            "'1582-10-14Z'",
            "'1582-10-15Z'",
            "'0001-01-01Z'",
            "'0044-03-15 01:02:03Z BC'",
            "'0001-06-01Z BC'",
            "'4713-01-01Z BC'",
        ),
    ),
    Case(
        "interval",
        (
            *("'1 year 2 mons 3 days 04:05:06.789'", "'-1 mons +2 days -03:04:05.000006'", "'0'", "'1000:00:00'"),
            *("'-0.5 s'", "'178000000 years'"),
        ),
    ),
    Case("inet", ("'192.168.0.1'", "'192.168.0.1/24'", "'2001:db8::1/64'")),
    Case("cidr", ("'192.168.0.0/24'", "'2001:db8::/32'")),
    Case("macaddr", ("'08:00:2b:01:02:03'",)),
    Case("macaddr8", ("'08:00:2b:01:02:03:04:05'",)),
    Case("int4range", ("'[1,5)'", "'empty'", "'(,5)'")),
    Case("int8range", ("'[1,9223372036854775807)'",)),
    Case("numrange", ("'[1.10,2.50)'",)),
    Case("tsrange", ("'[2024-01-01 00:00:00.5,infinity]'",)),
    Case("tstzrange", ("'[2024-01-01Z,)'",)),
    Case("daterange", ("'[2024-01-01,2024-02-01)'",)),
    Case("point", ("'(1.5,-2)'", "'(NaN,Infinity)'", "'(0.1,1e300)'")),
    Case("line", ("'{1,2,3}'",)),
    Case("lseg", ("'[(0,0),(1.5,1)]'",)),
    Case("box", ("'(1,1),(0,0)'",)),
    Case("path", ("'[(0,0),(1,1)]'", "'((0,0),(1,1))'")),
    Case("polygon", ("'((0,0),(1,1),(1,0))'",)),
    Case("circle", ("'<(0,0),1.5>'",)),
    Case("int4multirange", ("'{[1,3),[5,7)}'", "'{}'")),
    Case("tstzmultirange", ("'{[2024-01-01Z,2024-01-02Z)}'",)),
    Case("pg_lsn", ("'16/B374D848'",)),
    Case("xid", ("'42'",)),
    Case("xid8", ("'18446744073709551615'",)),
    Case("tsquery", ("'fat & (rat | !cat)'",)),
    Case("jsonpath", ("'$.a[*] ? (@ > 1)'",)),
    Case("lquery", ("'Top.*'",)),
    Case("regclass", ("'pg_class'",)),
    Case("hstore", ("""'a=>1, "b c"=>NULL, "q\\"t"=>"x\\\\y"'""", "''"), text="v::jsonb::text"),
    Case("hstore ", ("""'a=>1, "b c"=>NULL, "q\\"t"=>"x\\\\y"'""", "''"), target="hstore"),
    Case("d_text", ("'in a domain'",)),
    Case("d_int", ("5",)),
    Case("d_numeric", ("5.10",)),
    Case("composite", ("ROW(1, 'a b')::composite",), target="text"),
    # one-dimensional arrays; an array of nothing but NULLs is refused, see TYPES
    Case("smallint[]", ("'{1,NULL,-2}'", "'{}'")),
    Case("integer[]", ("'{1,NULL,-2}'", "'{}'", "'{{1,2},{3,4}}'", "'{NULL}'"), parks=("'{{1,2},{3,4}}'", "'{NULL}'")),
    Case("bigint[]", ("'{9223372036854775807,NULL}'",)),
    Case("numeric[]", ("'{1.10,NULL,1e30}'",)),
    Case("real[]", ("'{1.1,NaN,NULL,-0}'",)),
    Case("double precision[]", ("'{1.1,Infinity,NULL}'",)),
    Case("boolean[]", ("'{t,f,NULL}'",)),
    Case(
        "text[]",
        (r"""E'{a,NULL,"NULL","q\\"t","back\\\\slash","tab\t",""}'""", "'{{a,b},{c,d}}'"),
        parks=("'{{a,b},{c,d}}'",),
    ),
    Case("varchar(5)[]", ("'{a,NULL}'",)),
    Case("char(3)[]", ("'{a,NULL}'",)),
    Case("citext[]", ("'{a,NULL}'",)),
    Case("uuid[]", ("'{b68a35a7-17ad-35b3-af2a-ae46edb4545b,NULL}'",)),
    Case("json[]", ("""ARRAY['{"a": 1}', NULL]::json[]""",)),
    Case("jsonb[]", ("""ARRAY['{"a": 1}', NULL]::jsonb[]""",)),
    Case("bytea[]", (r"""ARRAY['\x00ff', NULL]::bytea[]""",)),
    Case("date[]", ("'{2024-02-29,NULL}'",)),
    Case("timestamp[]", ("'{2024-02-29 12:34:56.123456,NULL}'",)),
    Case("timestamptz[]", ("'{2024-02-29 12:34:56.123456Z,NULL}'",)),
    Case("inet[]", ("'{192.168.0.1/24,NULL}'",)),
    Case("cidr[]", ("'{192.168.0.0/24,NULL}'",)),
    Case("macaddr[]", ("'{08:00:2b:01:02:03,NULL}'",)),
    Case("oid[]", ("'{1,NULL}'",)),
    Case("int4range[]", ("""'{"[1,5)",NULL}'""",)),
    Case("numrange[]", ("""'{"[1.5,5)",NULL}'""",)),
    Case("daterange[]", ("""'{"[2024-01-01,2024-02-01)",NULL}'""",)),
    Case("hstore[]", ("""ARRAY['a=>1'::hstore, NULL]""",), target="hstore[]"),
    Case("ltree[]", ("'{a.b,c}'",)),
    Case("mood[]", ("'{sad,happy}'",)),
    Case("d_text[]", ("'{a,b}'",), target="text[]"),
)

EXTENSIONS = ("citext", "ltree", "hstore")
TYPES = (
    "CREATE TYPE mood AS ENUM ('sad', 'happy, or so', 'happy')",
    "CREATE DOMAIN d_text AS text",
    "CREATE DOMAIN d_int AS integer",
    "CREATE DOMAIN d_numeric AS numeric(10,2)",
    "CREATE TYPE composite AS (a integer, b text)",
)
