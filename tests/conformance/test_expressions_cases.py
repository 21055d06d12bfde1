"""The expressions that test_expressions.py compares with PostgreSQL, and a generator of more. (No tests here.)"""

from __future__ import annotations

from functools import cache

from hypothesis import strategies as st

from cdc.mapping.temporal import TRUNCATIONS
from tests.conformance.test_expressions_documents import DOCUMENTS_AND_OTHERS

MAY_PARK = ("::", "cast(", "initcap(", "to_char(")
"""Where a value may be parked that PostgreSQL takes: casts from text (spellings that depend on version or DateStyle),
initcap (letters that depend on the locale), to_char (years without four digits)."""

_CASTS = """
i2: smallint integer bigint numeric text
i4: smallint integer bigint numeric text boolean
i8: smallint integer bigint numeric text
n: smallint integer bigint numeric text
b: boolean integer text
d: date timestamp text
ts: timestamp date text
u: uuid text
js: text jsonb
jb: text
t: text smallint integer bigint numeric boolean date timestamp timestamptz uuid jsonb
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
    *(line for line in (_LISTED + DOCUMENTS_AND_OTHERS).split("\n") if line),
]


_LEAVES = {
    "integer": "i2|i4|j4|0|1|2|-1|3|length(t)",
    "number": "i2|i4|j4|i8|n|m|0|1|-2|2.50|1000000|0.001|NULL::numeric|NULL",
    "text": "t|s|t|s|jb->>'a'|''|'a'|'Ab'|' x '|','|'12'|'é%'|NULL::text",
    "condition": "b|c|true|false|null|b is null",
    "json": "jb|jb|js::jsonb|jb->'o'|to_jsonb(t)",
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
trunc( $N , $I )
sign( $N )
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
$J ->> 'a'
$J #>> '{o,a}'
translate( $T , $T , $T )
encode(sha256(convert_to( $T , 'UTF8')), 'hex')
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
    "json": """
jsonb_build_object( $T , $N , 'k' , $J )
jsonb_build_array( $J , $C , $D , $T )
to_jsonb( $N )
$J -> 'a'
$J -> 0
$J #> '{o,k}'
""",
    "condition": """
$J ? 'a'
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
_HOLES = {"N": "number", "I": "integer", "T": "text", "C": "condition", "D": "date", "S": "timestamp", "J": "json"}


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
