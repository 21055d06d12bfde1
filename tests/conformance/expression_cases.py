"""What test_expressions.py compares: sample rows, listed expressions, and a generator of more."""

from __future__ import annotations

import random
from functools import cache
from typing import Any

from hypothesis import strategies as st

from cdc.mapping.temporal import TRUNCATIONS
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
_NUMERIC = [
    *("0", "0.00", "1", "-1", "1.10", "2.5", "-2.5", "0.5", "-0.5", "1.5", "9999", "10000", "-10000.0001", "0.0001"),
    *("NaN", "Infinity", "-Infinity", "123456789.987654321", "0.00000000000000000001", "3", "7", "12.345", "99.995"),
    *(
        "9" * 40 + "." + "9" * 20,
        "1" + "0" * 60,
        "-0.000000000000000000000000000000000000123",
        "32767.5",
        "2147483647.4",
    ),
]
_FIXED = ["0", "1.100", "-1.250", "999999999.999", "-999999999.999", "0.001", "2.500", "1234.567"]
_TEXT = [
    *("", " ", "a", "abc", "ABC", "Hello World", "héllo wörld", "ÀÉÎ ßŉǆ İI ıi", "Σας ΣΑΣ", "日本語", "😀a😀", "it's"),
    *("a%b_c\\d", "x,y,,z", ",", "a.b.c", "  pad  ", "xxabcxx", "tab\tnl\n", "aaa", "O'NEIL-mc_donald 2nd 3RD"),
    *("12", " -7 ", "+5", "1.50", "1e3", "1.5e-2", ".5", "5.", "NaN", "-inf", "1_000", "0x10", "99999999999999999999"),
    *("true", "f", "yes", "of", "o", "1", "2024-02-29", "2024-2-9", "2023-02-29", "0044-03-15 BC", "infinity"),
    *("2024-02-29 12:34:56.789", "2024-02-29T01:02:03", "1999-12-31 23:59:59.999999", "20240229", "Feb 29 2024"),
    "A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11",
]
_DATE = [
    *(
        "1970-01-01",
        "2000-02-29",
        "2024-12-30",
        "2024-12-31",
        "2021-01-03",
        "1900-03-01",
        "0001-01-01",
        "0001-12-31 BC",
    ),
    *(
        "infinity",
        "-infinity",
        "4714-11-24 BC",
        "5874897-12-31",
        "1582-10-10",
        "0100-12-31",
        "2001-01-01",
        "9999-12-31",
    ),
]
_TIMESTAMP = [
    *("1970-01-01 00:00:00", "2024-02-29 23:59:59.999999", "1969-12-31 23:59:59.5", "0001-01-01 00:00:00.000001"),
    *("0044-03-15 12:30:45.12 BC", "infinity", "-infinity", "4714-11-24 00:00:00 BC", "294276-12-31 23:59:59.999999"),
    *("2000-01-01 00:00:00", "2021-01-03 10:20:30.4", "1999-12-31 12:00:00", "2001-01-01 01:01:01.01"),
]
_JSON = [
    '{"a": "x", "n": 1.50, "b": true, "z": null, "o": {"a": "deep", "k": [1, 2]}}',
    *('{"a": "h\\u00e9\\n\\"q\\" \\ud83d\\ude00"}', '{"a": 1e2}', "{}", "[1,2]", '"a"', "null", "12"),
    *(' { "a" : { "a" : [ 1 , { "b" : 2 } ] } } ', '{"a": "one", "a": "two"}', '{"a": ""}', '{"n": -0.0, "a": false}'),
]
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

MAY_PARK = ("::", "cast(", "initcap(")
"""Where a value may be parked that PostgreSQL takes: casts from text (spellings that depend on version or DateStyle),
and initcap (letters that depend on the locale)."""

_CASTS = """
i2: smallint integer bigint numeric text
i4: smallint integer bigint numeric text boolean
i8: smallint integer bigint numeric text
n: smallint integer bigint numeric text
b: boolean integer text
d: date timestamp text
ts: timestamp date text
u: uuid text
js: text
jb: text
t: text smallint integer bigint numeric boolean date timestamp uuid
"""
_FIELDS = ("year", "isoyear", "month", "day", "quarter", "week", "dow", "isodow", "doy")
_PAIRS = ("i2 ? i2", "i4 ? j4", "i8 ? i4", "n ? m", "m ? i8")
_LISTED = r"""
cast(n as numeric(10,2))
n::numeric(5)
m::numeric(6,1)
t::numeric(8,3)
t::varchar(3)
n::varchar(4)
ch::text
ch::text || '|'
length(ch::text)
t::varchar
s::text
i4::decimal
t::int4
t::bool
n / 3
1 / n
n % 7
n * n
n - n
-n
-i4
-i8
- i2 * i4
i4 - -j4
7 / 2
-7 / 2
-7 % 2
2147483648 - i4
n / 0.00001
12345678901234567890 / n
i4 + '5'
n * '0.10'
mod(i4, j4)
mod(n, m)
n != m
t = s
t <> 'abc'
u = 'A0EEBC99-9C0B-4EF8-BB6D-6BB9BD380A11'
d > '2000-01-01'
ts < '2000-01-01 00:00:00'
b and c
b or c
not b
not b and c or b
b and null
null or c
b is true
b is not true
b is false
b is not false
b is unknown
t is null
t is not null
n isnull
n notnull
n is distinct from m
t is not distinct from s
i4 is distinct from null
n is not distinct from 'NaN'
i4 in (1, 2, 7)
i4 not in (1, null)
n in (1.1, 2.5, 'NaN')
t in ('abc', 'a', null)
i4 in (j4, i2)
n between 0 and m
i4 not between 1 and 100
d between '2000-01-01' and e
ts between d and us
t like 'a%'
t like '%b_c%'
t not like '%o%'
t ilike '%É%'
t like s
t like '\%%'
t like 'a\%b%'
t like '%a%a%a%'
t ilike 'HÉLLO%'
t not ilike '%A%'
t like ''
t like '%'
t like '_'
t ilike '%ß%'
case when i4 > 0 then 'plus' when i4 < 0 then 'minus' end
case i4 when 1 then n when 2 then m else 0 end
case when b then i4 else n end
case when n = 0 then 0 else 1 / n end
case t when 'a' then 1 when 'abc' then 2 end
coalesce(t, s, 'none')
coalesce(i4, n)
coalesce(null, d)
coalesce(t, 'x'::text)
nullif(i4, 7)
nullif(i4, n)
nullif(t, '')
nullif(n, 0)
nullif(i2, i8)
nullif(d, ts)
nullif('a', t)
greatest(i4, j4, i2)
least(n, m)
greatest(d, e)
least(ts, us, null)
greatest(n, i4)
least(b, c)
t || s
t || i4
n || t
t || b
d || '!'
t || ts
'a' || 'b'
t || null
t || i4 + 1
u || ''
concat(t, i4, n, b, d, ts, u, null)
concat(null)
concat_ws(', ', t, null, i4, b)
concat_ws(s, t, n)
lower(t)
upper(t)
lower('ÄÖ')
initcap(t)
reverse(t)
md5(t)
length(t)
char_length(s)
character_length(t)
trim(t)
trim(both 'ax' from t)
trim(leading from t)
trim(trailing 'x' from t)
ltrim(t)
ltrim(t, 'xa ')
rtrim(t)
rtrim(t, 'x')
btrim(t)
btrim(t, s)
trim('x' from t)
substring(t, 2)
substring(t from 2 for 3)
substring(t for 2)
substr(t, i2)
substr(t, i2, 3)
substring(t, -1, 3)
substring(t, i4, j4)
substr(t, 0)
left(t, 2)
left(t, -2)
left(t, i2)
right(t, 2)
right(t, -2)
right(t, i2)
replace(t, 'a', 'bb')
replace(t, '', 'x')
replace(t, s, '')
split_part(t, ',', 2)
split_part(t, ',', -1)
split_part(t, '', 1)
split_part(t, '.', i2)
split_part(t, s, 1)
position('b' in t)
position(s in t)
strpos(t, 'a')
strpos(t, '')
lpad(t, 5)
lpad(t, 8, 'xy')
lpad(t, 3, '')
rpad(t, 5)
rpad(t, 8, 'xy')
lpad(t, i2, '.')
rpad(t, -1)
abs(i2)
abs(i4)
abs(i8)
abs(n)
round(n)
round(n, 2)
round(n, -2)
round(n, i2)
round(i4, -1)
floor(n)
ceil(n)
ceiling(m)
round(m, 1)
coalesce(n, 0) + 0.00
n * 100 / 7
e - d
d + 1
d - 1
1 + d
d + i2
d - i4
d = e
jb->>'a'
js->>'a'
jb->'o'->>'a'
js->'o'->>'a'
jb->'o'
js->'a'
js->>'n'
jb->>'n'
jb->>'z'
js->'z'
jb->'a'->'a'
(js->>'a') || '!'
(jb->>'n')::numeric + 1
jb->>'a' = 'x'
jb->>'o'
js->>'o'
null
'text'
1.50
1e3
true
-5
9223372036854775807
date '2024-02-29'
timestamp '2024-02-29 01:02:03'
i4 = 1 and (n > 2 or t is null)
lower(t) like 'h%' and length(t) > 3
upper(left(t, 1)) || lower(substr(t, 2))
"""
CASES = [
    *(f"{line.split(':')[0]}::{to}" for line in _CASTS.split("\n") for to in line.split()[1:]),
    *(pair.replace("?", sign) for sign in "+-*/%" for pair in _PAIRS),
    *(pair.replace("?", sign) for sign in ("=", "<>", "<", "<=", ">", ">=") for pair in (*_PAIRS, "d ? ts", "b ? c")),
    *(f"date_trunc('{unit}', ts)" for unit in (*TRUNCATIONS, "MONTH")),
    *(f"extract({field} from d)" for field in _FIELDS),
    *(f"extract({field} from ts)" for field in (*_FIELDS, "hour", "minute", "second")),
    *(line for line in _LISTED.split("\n") if line),
]


_LEAVES = {
    "integer": "i2|i4|j4|0|1|2|-1|3|length(t)",
    "number": "i2|i4|j4|i8|n|m|0|1|-2|2.50|1000000|0.001|NULL::numeric|NULL",
    "text": "t|s|t|s|jb->>'a'|''|'a'|'Ab'|' x '|','|'12'|'é%'|NULL::text",
    "condition": "b|c|true|false|null|b is null",
    "date": "d|e|date '2024-02-29'|ts::date|'2000-01-01'",
    "timestamp": "ts|us|d::timestamp|timestamp '1999-12-31 23:59:59.5'",
}
_SHARED = """
coalesce( {0} , {0} )
nullif( {0} , {0} )
case when $C then {0} else {0} end
"""
_FORMS = {
    "integer": """
$I + $I
$I * $I
$I / $I
$I % $I
length( $T )
strpos( $T , $T )
$D - $D
abs( $I )
""",
    "number": """
$N + $N
$N - $N
$N * $N
$N / $N
$N % $N
- $N
abs( $N )
round( $N )
round( $N , $I )
floor( $N )
ceil( $N )
mod( $N , $N )
greatest( $N , $N )
least( $N , $N , $N )
$N ::numeric(14,4)
$N ::bigint
$N ::integer
extract(year from $D )
extract(second from $S )
$D - $D
length( $T )
""",
    "text": """
$T || $T
$T || $N
$D || $T
lower( $T )
upper( $T )
trim( $T )
left( $T , $I )
right( $T , $I )
substring( $T , $I )
substr( $T , $I , $I )
replace( $T , $T , $T )
concat( $T , $N , $C )
concat_ws( $T , $T , $D )
split_part( $T , $T , $I )
reverse( $T )
md5( $T )
btrim( $T , $T )
lpad( $T , 6 , $T )
rpad( $T , 4 )
$N ::text
$S ::text
$C ::text
$T ::varchar(2)
""",
    "condition": """
$N = $N
$N <> $N
$N < $N
$N >= $N
$T = $T
$T <> $T
$D < $S
$C and $C
$C or $C
not $C
$N is null
$T is not null
$N is distinct from $N
$T is not distinct from $T
$N in ( $N , $N )
$T not in ( $T , $T )
$N between $N and $N
$D not between $D and $D
$T like $T
$T ilike '%a%'
$C is true
$C is not false
$C = $C
""",
    "date": """
$D + $I
$D - $I
$S ::date
greatest( $D , $D )
""",
    "timestamp": """
date_trunc('month', $S )
date_trunc('week', $S )
date_trunc('hour', $S )
$D ::timestamp
least( $S , $S )
greatest( $D , $S )
""",
}
_HOLES = {"N": "number", "I": "integer", "T": "text", "C": "condition", "D": "date", "S": "timestamp"}


def expressions() -> st.SearchStrategy[str]:
    """Expressions of all types, up to a few levels deep. Some are refused; none may give another answer."""
    return st.one_of(*(_of(type_, 3) for type_ in _HOLES.values()))


@cache
def _of(type_: str, depth: int) -> st.SearchStrategy[str]:
    leaf = st.sampled_from(_LEAVES[type_].split("|"))
    if depth == 0:
        return leaf
    hole = next(letter for letter, name in _HOLES.items() if name == type_)
    forms = _FORMS[type_] + _SHARED.format(f"${hole}")
    form = st.sampled_from([line for line in forms.split("\n") if line])
    return st.one_of(leaf, form.flatmap(lambda line: _filled(line, depth - 1)))


def _filled(form: str, depth: int) -> st.SearchStrategy[str]:
    """A form with its holes filled: $N a number, $I an integer, $T a text, and so on (`_HOLES`)."""
    words = form.split(" ")
    parts = [_wrapped(_of(_HOLES[word[1]], depth)) if word.startswith("$") else st.just(word) for word in words]
    return st.tuples(*parts).map(" ".join)


def _wrapped(part: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Mostly in parentheses; without them precedence is tested too."""
    return st.tuples(part, st.integers(0, 5)).map(lambda both: both[0] if both[1] == 0 else f"({both[0]})")
