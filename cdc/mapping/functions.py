"""The allow-list: the functions that an expression may call, with their signatures and what they do.

An entry here needs a row in tests/conformance/test_expressions.py, which compares it with PostgreSQL. `ALLOWED` holds
the names as people write them; sqlglot reads some of them as one thing (`NODES`), so a signature has one name.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from sqlglot import exp

from cdc.mapping import jsons, numeric, temporal, texts
from cdc.mapping.sqltypes import (
    BIGINT,
    BOOLEAN,
    BYTEA,
    DATE,
    INTEGER,
    JSON,
    JSONB,
    LIMIT,
    NUMERIC,
    SMALLINT,
    TEXT,
    Type,
)


class Signature(NamedTuple):
    """One form of a strict function. Arguments convert to `takes` as PostgreSQL would without being asked; a function
    marked `exactly` takes only these types (PostgreSQL would choose double precision for others)."""

    takes: tuple[Type, ...]
    gives: Type
    call: Callable[..., Any]
    exactly: bool = False


def _absolute(limit: int) -> Callable[[int], int]:
    return lambda value: numeric.in_range(abs(value), limit)


def _text(call: Callable[..., Any], *takes: Type, gives: Type = TEXT) -> Signature:
    return Signature((TEXT, *takes), gives, call)


SIGNATURES: dict[str, tuple[Signature, ...]] = {
    "lower": (_text(texts.lower),),
    "upper": (_text(texts.upper),),
    "initcap": (_text(texts.initcap),),
    "reverse": (_text(texts.reverse),),
    "md5": (_text(texts.md5),),
    "length": (_text(len, gives=INTEGER),),
    "btrim": (_text(texts.trim), _text(texts.trim, TEXT)),
    "ltrim": (_text(texts.ltrim), _text(texts.ltrim, TEXT)),
    "rtrim": (_text(texts.rtrim), _text(texts.rtrim, TEXT)),
    "left": (_text(texts.left, INTEGER),),
    "right": (_text(texts.right, INTEGER),),
    "substring": (_text(texts.substring, INTEGER), _text(texts.substring, INTEGER, INTEGER)),
    "replace": (_text(texts.replace, TEXT, TEXT),),
    "split_part": (_text(texts.split_part, TEXT, INTEGER),),
    "strpos": (_text(texts.position, TEXT, gives=INTEGER),),
    "lpad": (_text(texts.lpad, INTEGER), _text(texts.lpad, INTEGER, TEXT)),
    "rpad": (_text(texts.rpad, INTEGER), _text(texts.rpad, INTEGER, TEXT)),
    "abs": (
        *(Signature((each,), each, _absolute(LIMIT[each]), exactly=True) for each in (SMALLINT, INTEGER, BIGINT)),
        Signature((NUMERIC,), NUMERIC, Decimal.copy_abs, exactly=True),
    ),
    "round": (
        Signature((NUMERIC,), NUMERIC, lambda value: numeric.round_to(value, 0), exactly=True),
        Signature((NUMERIC, INTEGER), NUMERIC, numeric.round_to),
    ),
    "trunc": (
        Signature((NUMERIC,), NUMERIC, lambda value: numeric.cut_to(value, 0), exactly=True),
        Signature((NUMERIC, INTEGER), NUMERIC, numeric.cut_to),
    ),
    "sign": (Signature((NUMERIC,), NUMERIC, numeric.sign, exactly=True),),
    "translate": (_text(texts.translate, TEXT, TEXT),),
    "starts_with": (_text(str.startswith, TEXT, gives=BOOLEAN),),
    "repeat": (_text(texts.repeat, INTEGER),),
    "octet_length": (_text(lambda text: len(text.encode()), gives=INTEGER), Signature((BYTEA,), INTEGER, len)),
    "convert_to": (_text(texts.convert_to, TEXT, gives=BYTEA),),
    **{name: (Signature((BYTEA,), BYTEA, texts.digest(name)),) for name in ("sha224", "sha256", "sha384", "sha512")},
    "encode": (Signature((BYTEA, TEXT), TEXT, texts.encode),),
    "make_date": (Signature((INTEGER, INTEGER, INTEGER), DATE, temporal.make_date),),
    "jsonb_array_length": (Signature((JSONB,), INTEGER, jsons.length),),
    "json_array_length": (Signature((JSON,), INTEGER, jsons.length),),
    "jsonb_typeof": (Signature((JSONB,), TEXT, jsons.kind),),
    "json_typeof": (Signature((JSON,), TEXT, jsons.kind),),
    "floor": (Signature((NUMERIC,), NUMERIC, numeric.floor, exactly=True),),
    "ceil": (Signature((NUMERIC,), NUMERIC, numeric.ceil, exactly=True),),
}

NODES: dict[type[exp.Expr], tuple[str, tuple[str, ...]]] = {
    exp.Lower: ("lower", ("this",)),
    exp.Upper: ("upper", ("this",)),
    exp.Initcap: ("initcap", ("this",)),
    exp.Reverse: ("reverse", ("this",)),
    exp.MD5: ("md5", ("this",)),
    exp.Length: ("length", ("this",)),
    exp.Trim: ("btrim", ("this", "expression")),
    exp.Left: ("left", ("this", "expression")),
    exp.Right: ("right", ("this", "expression")),
    exp.Substring: ("substring", ("this", "start", "length")),
    exp.Replace: ("replace", ("this", "expression", "replacement")),
    exp.SplitPart: ("split_part", ("this", "delimiter", "part_index")),
    exp.StrPosition: ("strpos", ("this", "substr")),
    exp.Pad: ("lpad", ("this", "expression", "fill_pattern")),
    exp.Abs: ("abs", ("this",)),
    exp.Round: ("round", ("this", "decimals")),
    exp.Floor: ("floor", ("this",)),
    exp.Ceil: ("ceil", ("this",)),
    exp.Trunc: ("trunc", ("this", "decimals")),
    exp.Sign: ("sign", ("this",)),
    exp.Translate: ("translate", ("this", "from_", "to")),
    exp.StartsWith: ("starts_with", ("this", "expression")),
    exp.Repeat: ("repeat", ("this", "times")),
    exp.SHA2Digest: ("sha256", ("this",)),
    exp.Encode: ("encode", ("this", "charset")),
}
"""sqlglot's node of a function: our name, and where its arguments are, in the order of the signature."""

IGNORED_ARGUMENTS: dict[type[exp.Expr], set[str]] = {
    exp.Initcap: {"expression"},
    exp.Pad: {"is_left"},
    exp.Trim: {"position"},
    exp.SHA2Digest: {"length"},
}
"""What sqlglot adds to a node besides the arguments that were written."""

SPECIAL = {
    "cast": "cast(value as type), value::type",
    "coalesce": "coalesce(value, …)",
    "concat": "concat(value, …)",
    "concat_ws": "concat_ws(separator text, value, …)",
    "date_trunc": "date_trunc('unit', timestamp)",
    "extract": "extract(field from date or timestamp)",
    "greatest": "greatest(value, …), not of text",
    "least": "least(value, …), not of text",
    "jsonb_build_array": "jsonb_build_array(value, …)",
    "jsonb_build_object": "jsonb_build_object(key, value, …)",
    "mod": "mod(number, number)",
    "nullif": "nullif(value, value)",
    "to_char": "to_char(date or timestamp, 'YYYY-MM-DD HH24:MI:SS')",
    "to_jsonb": "to_jsonb(value)",
}
"""Forms with rules of their own (checker.py), as they are written."""

OPERATORS = (
    "-> 'key' or number, ->> 'key' or number, #> '{key,…}', #>> '{key,…}': parts of json and jsonb",
    "? 'key': whether a jsonb has it",
    "at time zone 'UTC': timestamptz → timestamp, and back",
)

SYNONYMS = {
    "ceiling": "ceil",
    "char_length": "length",
    "character_length": "length",
    "position": "position(text in text)",
    "substr": "substring",
    "trim": "trim([both | leading | trailing] [characters from] text)",
}
ALLOWED = sorted({*SPECIAL, *SYNONYMS, *SIGNATURES})


def described() -> list[str]:
    """One line a name: its forms, or what it is another name of."""
    lines = []
    for name in ALLOWED:
        forms = [
            f"{name}({', '.join(t.name for t in form.takes)}) → {form.gives.name}" for form in SIGNATURES.get(name, ())
        ]
        lines += forms or [
            SPECIAL.get(name) or (SYNONYMS[name] if "(" in SYNONYMS[name] else f"{name}: {SYNONYMS[name]}")
        ]
    return [*lines, *(f"value {form}" for form in OPERATORS)]
