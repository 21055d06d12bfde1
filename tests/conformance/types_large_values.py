"""Types whose values PostgreSQL stores out of line, each with an expression that makes a large one."""

from __future__ import annotations

TEXT = "(SELECT string_agg(md5(g::text), '') FROM generate_series(1, 400) g)"
DIGITS = "(SELECT string_agg((1 + abs(hashint4(g)) % 9)::text, '')::numeric FROM generate_series(1, 20000) g)"
POINTS = (
    "(SELECT '(' || string_agg('(' || random() || ',' || random() || ')', ',') || ')' FROM generate_series(1, 400))"
)
BITS = "(SELECT string_agg((hashint4(g) & 1)::text, '') FROM generate_series(1, 200000) g)"


def array(element: str) -> str:
    return f"(SELECT array_agg({element}) FROM generate_series(1, 9000) g)"


TOLD: dict[str, str] = {
    "text": TEXT,
    "varchar": TEXT,
    "char(12800)": TEXT,
    "citext": TEXT,
    "xml": f"('<a>' || {TEXT} || '</a>')::xml",
    "json": f"to_json({TEXT})",
    "jsonb": f"to_jsonb({TEXT})",
    "tsvector": "(SELECT string_agg(md5(g::text), ' ')::tsvector FROM generate_series(1, 400) g)",
    "ltree": "(SELECT string_agg(md5(g::text), '.')::ltree FROM generate_series(1, 400) g)",
    "hstore": "(SELECT hstore(array_agg(g::text), array_agg(md5(g::text))) FROM generate_series(1, 400) g)",
    "d_text": TEXT,
    "numeric": DIGITS,
    "numrange": f"numrange({DIGITS}, NULL)",
    "bytea": f"decode({TEXT}, 'hex')",
    "composite": f"ROW(1, {TEXT})::composite",
    "polygon": f"{POINTS}::polygon",
    "path": f"{POINTS}::path",
    "int4multirange": "(SELECT range_agg(int4range(g * 3, g * 3 + 1)) FROM generate_series(1, 2000) g)",
    "text[]": array("md5(g::text)"),
    "varchar(32)[]": array("md5(g::text)"),
    "char(32)[]": array("md5(g::text)"),
    "json[]": array("to_json(g)"),
    "jsonb[]": array("to_jsonb(g)"),
    "integer[]": array("g"),
    "bigint[]": array("g"),
    "date[]": array("'2020-01-01'::date + g"),
    "uuid[]": array("gen_random_uuid()"),
    "bytea[]": array("'x'::bytea"),
}
"""An unchanged large value of these can be told from others."""

NULLED: dict[str, str] = {
    "smallint[]": array("g::smallint"),
    "numeric[]": array("random()"),
    "real[]": array("random()"),
    "double precision[]": array("random()"),
    "boolean[]": array("random() > 0.5"),
    "timestamp[]": array("localtimestamp + random() * '1 day'::interval"),
    "timestamptz[]": array("now() + random() * '1 day'::interval"),
    "oid[]": array("g"),
    "citext[]": array("md5(g::text)"),
    "ltree[]": array("md5(g::text)::ltree"),
    "hstore[]": array("hstore('a', md5(g::text))"),
    "inet[]": array("'10.0.0.0'::inet + g"),
    "cidr[]": array("'10.0.0.0/24'::cidr"),
    "macaddr[]": array("'08:00:2b:01:02:03'::macaddr"),
    "int4range[]": array("int4range(g, g + 5)"),
    "mood[]": array("'sad'::mood"),
    "d_text[]": array("md5(g::text)::d_text"),
    "composite[]": array("ROW(1, md5(g::text))::composite"),
    "bit(200000)": f"{BITS}::bit(200000)",
}
"""An unchanged large value of these stops the connector's task, or arrives as null when failures are set to warn."""
