"""More expressions for test_expressions.py: JSON, time zones, bytes and what else came later. (No tests here.)"""

from __future__ import annotations

DOCUMENTS_AND_OTHERS = r"""
jb->0
js->0
jb->-1
js->>1
jb->>0
jb->'n'->0
js->'n'->0
jb->1
jb->0->>'a'
jb->'zz'->3->'o'
jb#>'{o,k,1}'
jb#>>'{o,k,-1}'
js#>>'{a}'
js#>'{a,a,1,b}'
jb#>>'{zz,3}'
jb#>>'{0,1,a}'
coalesce(jb->'a', jb)
coalesce(jb->'o'->>'a', 'none')
coalesce(js->'o'->'a'->>0, t)
jb ? 'a'
jb ? t
not (jb ? 'aa')
jsonb_array_length(jb)
json_array_length(js)
jsonb_array_length((jb->'zz'))
jsonb_typeof(jb)
json_typeof(js)
jsonb_typeof(jb->'n')
jsonb_build_object('id', i4, 'n', n, t, d, 'ts', ts, 'b', b)
jsonb_build_object('j', js, 'k', jb, 'x', null, 'x', u, 'u', i8)
jsonb_build_object()
jsonb_build_object('bb', 1, 'a', 'text', 'é', m)
jsonb_build_object(n, t, d, s)
jsonb_build_object('k', (jb->'a'))
jsonb_build_array(1, t, n, null, jb, b, d, ts, js)
jsonb_build_array()
to_jsonb(t)
to_jsonb(n)
to_jsonb(d)
to_jsonb(ts)
to_jsonb(js)
to_jsonb(b)
js::jsonb->'a'
tz
tz = '2024-02-29 23:59:59.999999+00'
tz > timestamptz '2000-01-01 00:00:00Z'
tz between '0001-01-01 00:00:00+00' and '2021-01-03 12:20:30.4+02:00'
tz at time zone 'UTC'
ts at time zone 'UTC'
date_trunc('day', tz at time zone 'UTC')
(tz at time zone 'utc')::date
greatest(tz, ts at time zone 'UTC')
coalesce(tz, '2024-01-01T00:00:00-01:30')
tz is null
nullif(tz, 'infinity')
to_char(d, 'YYYY-MM-DD')
to_char(ts, 'DD.MM.YYYY HH24:MI:SS')
to_char(ts, 'YYYY-MM')
to_char(ts, 'HH24:MI')
make_date(i2, 2, 28)
make_date(2024, i2, j4)
make_date(i4, 1, 1)
make_date(2024, 2, 29)
trunc(n)
trunc(n, 2)
trunc(n, i2)
trunc(n, -2)
sign(n)
translate(t, 'abc', 'xy')
translate(t, 'aA', s)
translate(t, '', 'x')
starts_with(t, 'a')
starts_with(t, s)
t ^@ 'ab'
repeat(t, 3)
repeat(t, -1)
repeat(s, 2)
octet_length(t)
octet_length(by)
convert_to(t, 'UTF8')
sha224(convert_to(t, 'UTF8'))
sha256(by)
sha384(by)
sha512(by)
encode(sha256(convert_to(t, 'UTF8')), 'hex')
encode(by, 'hex')
encode(by, 'base64')
encode(sha512(by), 'base64')
by is null
by = sha256(by)
coalesce(by, convert_to(t, 'UTF8'))
"""
