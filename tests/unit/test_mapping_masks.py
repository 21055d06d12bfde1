"""Masks: what each kind makes of values, what it keeps, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cdc.errors import Usage
from cdc.keys import NO_KEYS
from cdc.mapping.compile import compile_table
from cdc.mapping.diagnostics import Diagnostic, MappingError
from cdc.mapping.load import loads
from cdc.mapping.mask_checks import clear_copies, key_problems
from cdc.mapping.masking import Masked, MaskError, compile_mask
from cdc.mapping.masks import KEEPS, Mask
from cdc.mapping.plan import Plan
from cdc.model import (
    NEG_INFINITY,
    POS_INFINITY,
    UNAVAILABLE,
    ChangeEvent,
    Column,
    ColumnType,
    Kind,
    MappedRow,
    Op,
    Position,
    RawRecord,
    TableSchema,
    Value,
)
from tests.masking import NEW, OLD, keys

TEXT, BIGINT, SMALL = ColumnType(Kind.TEXT, "text"), ColumnType(Kind.INTEGER, "int8"), ColumnType(Kind.INTEGER, "int2")
WHOLE, UUID = ColumnType(Kind.DECIMAL, "numeric", 12, 0), ColumnType(Kind.UUID, "uuid")
DATE, TIMESTAMP = ColumnType(Kind.DATE, "date"), ColumnType(Kind.TIMESTAMP, "timestamp")
INSTANT = ColumnType(Kind.TIMESTAMPTZ, "timestamptz", scale=6)
KEYS = keys()


def masked(spec: dict[str, Any] | None, type_: ColumnType = TEXT, using: Any = KEYS) -> Masked:
    return compile_mask(None if spec is None else Mask.model_validate(spec), type_, True, using)


def value(spec: dict[str, Any] | None, value: Value, type_: ColumnType = TEXT, using: Any = KEYS) -> Value:
    made = masked(spec, type_, using)
    return made.constant if made.masking is None else made.masking(value)


# The kinds


def test_null_and_constant_say_nothing_of_the_value() -> None:
    assert masked(None, DATE) == Masked(DATE, True, None, None)
    for sent in ("x", None, UNAVAILABLE):
        assert (value(None, sent), value({"constant": "hidden"}, sent)) == (None, "hidden")
    assert masked({"constant": "1900-01-01"}, DATE).constant == -25567
    assert masked({"constant": 0}, SMALL) == Masked(SMALL, False, None, 0)
    for wrong, type_ in (("x", DATE), (70000, SMALL), ("toolong", ColumnType(Kind.TEXT, "varchar", 3))):
        with pytest.raises(MaskError, match="no value of the column's type"):
            masked({"constant": wrong}, type_)


@pytest.mark.parametrize(
    ("partial", "sent", "made"),
    [
        ({"last": 4}, "DE89370400440532", "************0532"),
        ({"first": 2, "last": 1}, "Жанна", "Жа**а"),
        ({"first": 2, "last": 2}, "abcd", "****"),
        ({"first": 9}, "abc", "***"),
        ({"first": 1}, "", ""),
        ("email", "ann@example.com", "***@example.com"),
        ("email", "a@b@c.de", "***@c.de"),
        ("email", "no address", "**********"),
    ],
)
def test_partial(partial: Any, sent: str, made: str) -> None:
    assert value({"partial": partial}, sent) == made


def test_hash_is_of_the_value_not_of_its_form() -> None:
    hashed = masked({"hash": "people"})
    assert hashed.type == ColumnType(Kind.TEXT, "varchar", 64)
    assert hashed.masking is not None
    # Pinned: what targets hold already must never become something else.
    assert hashed.masking("ann@example.com") == "26246c811dd760b98115355d6432500109228521a08a4faf15290037ec47ca0c"
    same = [("1.10", "1.1", ColumnType(Kind.DECIMAL, "numeric")), (-0.0, 0.0, ColumnType(Kind.FLOAT64, "float8"))]
    same.append(("2024-02-29T12:00:00.500000Z", "2024-02-29T12:00:00.5Z", INSTANT))
    for one, other, type_ in same:
        assert value({"hash": "x"}, one, type_) == value({"hash": "x"}, other, type_)
    assert value({"hash": "x"}, 42, BIGINT) == value({"hash": "x"}, "42")
    assert value({"hash": "x"}, ["a"], ColumnType(Kind.ARRAY, "_text", element=TEXT)) != "a"
    assert value({"hash": "x"}, "a") != value({"hash": "y"}, "a") != value({"pseudonym": "y"}, "a")


@pytest.mark.parametrize(
    ("unit", "type_", "sent", "made"),
    [
        ("month", DATE, 19782, 19754),  # 2024-02-29 -> 2024-02-01
        ("year", DATE, POS_INFINITY, POS_INFINITY),
        ("hour", TIMESTAMP, 3_600_000_001, 3_600_000_000),
        ("year", TIMESTAMP, NEG_INFINITY, NEG_INFINITY),
        ("quarter", INSTANT, "2024-06-30T23:59:59.123456Z", "2024-04-01T00:00:00.000000Z"),
        ("hour", INSTANT, "2024-06-30T23:59:59Z", "2024-06-30T23:00:00Z"),
        ("decade", INSTANT, "-0044-03-15T10:00:00Z", "-0050-01-01T00:00:00Z"),
        ("year", INSTANT, "+12345-03-15T10:00:00Z", "+12345-01-01T00:00:00Z"),
        ("day", INSTANT, "infinity", "infinity"),
    ],
)
def test_dates_are_cut(unit: str, type_: ColumnType, sent: Value, made: Value) -> None:
    assert (masked({"date": unit}, type_).type, value({"date": unit}, sent, type_)) == (type_, made)


# Pseudonyms


def shape(text: str) -> str:
    return "".join(
        "9" if c in "0123456789" else "a" if "a" <= c <= "z" else "A" if "A" <= c <= "Z" else c for c in text
    )


def test_pseudonyms_are_pinned_and_keep_the_form() -> None:
    """Whoever changes these changes what the targets of others hold."""
    sent = ["+49 171 555-0123", "Jörg Müller", "Жанна", "李小龍", "b68a35a7-17ad-35b3-af2a-ae46edb4545a", "x" * 300, ""]
    made = [value({"pseudonym": "people"}, each) for each in sent]
    assert made[0] == "+85 671 384-6308"
    assert shape(made[0]) == shape(sent[0])
    assert [len(each) for each in made] == [len(each) for each in sent]
    assert made[1][4] == " "
    assert all("\u0400" <= letter <= "\u04ff" for letter in made[2])
    assert value({"pseudonym": "people"}, 1_000_000, BIGINT) == 3218823
    assert value({"pseudonym": "people"}, sent[4], UUID).count("-") == 4


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0")), unique=True, max_size=30))
def test_pseudonyms_of_texts_stay_different(texts: list[str]) -> None:
    for kind in ("pseudonym", "hash"):
        made = [value({kind: "people"}, each) for each in texts]
        assert len(set(made)) == len(texts)
        assert made == [value({kind: "people"}, each, using=keys()) for each in texts], "a replay gives the same"


@given(st.sets(st.integers(-(2**63), 2**64 - 1), max_size=30), st.booleans())
def test_pseudonyms_of_numbers_stay_different_and_in_their_types(numbers: set[int], mirrored: bool) -> None:
    made = {value({"pseudonym": "ids"}, each, BIGINT) for each in numbers}
    assert len(made) == len(numbers)
    for each in numbers:
        becomes = value({"pseudonym": "ids"}, each, BIGINT)
        for bits in (7, 8, 15, 16, 23, 24, 31, 32, 63, 64):
            assert (-(1 << bits) <= each < 1 << bits) == (-(1 << bits) <= becomes < 1 << bits)
        assert value({"pseudonym": "ids"}, each, SMALL) == becomes, "whatever the column's type"


def test_pseudonyms_of_small_worlds_are_permutations() -> None:
    integer = masked({"pseudonym": "ids"}, BIGINT).masking
    text = masked({"pseudonym": "ids"}).masking
    decimal = masked({"pseudonym": "ids"}, WHOLE).masking
    assert integer is not None
    assert text is not None
    assert decimal is not None
    for low, high in ((0, 128), (128, 256), (-256, -128), (256, 32768)):
        assert sorted(map(integer, range(low, high))) == list(range(low, high))
    assert len({text(f"{number:03}") for number in range(1000)}) == 1000
    assert sorted(int(decimal(str(number))) for number in range(100, 1000)) == list(range(100, 1000))
    assert sorted(int(decimal(str(number))) for number in range(10)) == list(range(10))
    assert decimal("NaN") == "NaN"
    assert decimal("-5").startswith("-")


def test_domains_and_keys_make_other_values_and_versions_come_back() -> None:
    spec = {"pseudonym": "people", "version": "v1"}
    old, rotated = keys(v1=OLD), keys("v2", v1=OLD, v2=NEW)
    assert value(spec, "Anna Nowak", using=old) == value(spec, "Anna Nowak", using=rotated)
    current = {"pseudonym": "people"}
    assert value(current, "Anna Nowak", using=old) != value(current, "Anna Nowak", using=rotated)
    assert value(current, "Anna Nowak") != value({"pseudonym": "others"}, "Anna Nowak")
    with pytest.raises(Usage, match="no version 'v9'"):
        masked({"hash": "people", "version": "v9"})
    with pytest.raises(Usage, match="shorter than 32"):
        masked({"hash": "people"}, using=keys(v1="short"))
    with pytest.raises(MaskError, match="no masking key 'default'"):
        masked({"hash": "people"}, using=NO_KEYS)


def test_null_stays_null_and_what_was_not_sent_stays_so() -> None:
    for spec in ({"partial": {"first": 1}}, {"hash": "x"}, {"pseudonym": "x"}):
        made = masked(spec).masking
        assert made is not None
        assert (made(None), made(UNAVAILABLE)) == (None, UNAVAILABLE)
        assert made.column(["abc", None, "abc", UNAVAILABLE]) == [made("abc"), None, made("abc"), UNAVAILABLE]


def test_every_kind_states_what_it_keeps() -> None:
    assert {kind for kind, kept in KEEPS.items() if kept.uniqueness} == {"hash", "pseudonym"}
    assert {kind for kind, kept in KEEPS.items() if kept.order} == {"date"}


@pytest.mark.parametrize(
    ("spec", "type_", "message"),
    [
        ({"partial": {"first": 1}}, BIGINT, "'partial' is for texts, not for int8"),
        ({"pseudonym": "x"}, DATE, "'pseudonym' is for texts, whole numbers and UUIDs, not for date"),
        ({"pseudonym": "x"}, ColumnType(Kind.DECIMAL, "numeric", 10, 2), "not for decimals with a fraction"),
        ({"pseudonym": "x"}, ColumnType(Kind.INTEGER, "year"), "not for year"),
        ({"date": "year"}, TEXT, "'date' is for dates and timestamps, not for text"),
        ({"date": "hour"}, DATE, "a date has no hour"),
    ],
)
def test_masks_that_do_not_fit_the_type(spec: dict[str, Any], type_: ColumnType, message: str) -> None:
    with pytest.raises(MaskError, match=message):
        masked(spec, type_)


# In mappings

SCHEMA = TableSchema(
    "crm",
    "postgresql",
    "public",
    "customers",
    (
        Column("id", BIGINT, nullable=False, key=True),
        Column("name", TEXT),
        Column("email", TEXT),
        Column("born", DATE),
    ),
    1,
)
ROW = (7, "Ann", "ann@x.de", 19782)
HEAD = "pipeline: crm\nsource: crm\ntarget: hub\ntables:\n  - from: public.customers\n    to: hub.customers\n"


def plan_of(body: str, using: Any = KEYS, **options: Any) -> Plan:
    text = HEAD + "".join(f"    {line}\n" for line in body.splitlines())
    return compile_table(loads(text, "m.yaml").tables[0], SCHEMA, keys=using, **options)


def event(op: Op, before: Any = None, after: Any = None) -> ChangeEvent:
    return ChangeEvent(RawRecord("t", 0, 7, None, None), SCHEMA, op, Position(0, 1, 2), before, after)


def row(plan: Plan, op: Op, before: Any = None, after: Any = None) -> MappedRow:
    mapped = plan.map(event(op, before, after))
    assert isinstance(mapped, MappedRow)
    return mapped


def test_masked_columns_of_a_mapping() -> None:
    plan = plan_of(
        "columns:\n  '*': {}\n  email: {mask: {partial: email}}\n  born: {copy: born, mask: {date: year}}\n"
        "  name: {mask: null}\n  initial: {sql: 'left(name, 1)', mask: {hash: names}}"
    )
    made = row(plan, Op.CREATE, after=ROW).values
    assert made is not None
    assert made[:4] == (7, None, "***@x.de", 19723)
    assert made[4] == value({"hash": "names"}, "A")
    assert [column.type.kind for column in plan.target.columns] == [
        SMALL.kind,
        Kind.TEXT,
        Kind.TEXT,
        Kind.DATE,
        Kind.TEXT,
    ]
    assert row(plan, Op.UPDATE, after=(7, "A", UNAVAILABLE, None)).values == (7, None, UNAVAILABLE, None, made[4])
    assert plan.target.key == ("id",)


def test_a_masked_key_is_the_same_in_every_image() -> None:
    plan = plan_of("columns: {'*': {}, id: {mask: {pseudonym: customers, version: v1}}}")
    key = value({"pseudonym": "customers"}, 7, BIGINT)
    assert plan.target.key == ("id",)
    assert key != 7
    assert row(plan, Op.CREATE, after=ROW).key == (key,)
    assert row(plan, Op.DELETE, before=(7, None, None, None)).key == (key,)
    assert plan.key_of_source((7,)) == (key,)
    assert not plan.warnings


def test_before_images_that_rules_compare_are_masked() -> None:
    text = HEAD + "    columns: {'*': {}, email: {mask: {hash: x}}}\nrules:\n  hub.customers: {detect: all_columns}\n"
    plan = compile_table(loads(text, "m.yaml").tables[0], SCHEMA, keys=KEYS, full_before=True)
    made = row(plan, Op.UPDATE, before=ROW, after=(7, "Ann", "new@x.de", 19782))
    assert made.before is not None
    assert made.before[2] == value({"hash": "x"}, "ann@x.de")


def findings(text: str) -> list[tuple[str, str, str | None]]:
    """Code, the text that is pointed at, help."""
    with pytest.raises(MappingError) as raised:
        compile_table(loads(text, "m.yaml").tables[0], SCHEMA, keys=KEYS)
    return [(found.code, pointed(found), found.help) for found in raised.value.diagnostics]


def pointed(found: Diagnostic) -> str:
    return found.file.line(found.span.line)[found.span.column - 1 : found.span.end_column - 1]


_KEEPS = "pseudonym and hash do; or leave it out of the key: key: […]"
_VERSION = "name the version: {…, version: NAME}; to change it later, load the table anew"


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("key: [id]\ncolumns: {'*': {}, id: {mask: {constant: 1}}}", ("mask-in-key", "{constant: 1}", _KEEPS)),
        ("columns: {'*': {}, id: {mask: null}}", ("mask-in-key", "null", _KEEPS)),
        ("columns: {'*': {}, id: {mask: {hash: a}}}", ("mask-version", "{hash: a}", _VERSION)),
        (
            "key: [email]\ncolumns: {'*': {}, email: {mask: {partial: email}}}",
            ("mask-in-key", "{partial: email}", _KEEPS),
        ),
        (
            "columns: {'*': {}, id2: {copy: id, mask: {partial: {last: 1}}}}",
            ("mask-type", "{partial: {last: 1}}", None),
        ),
        ("columns: {'*': {}, name: {mask: {hash: a, pseudonym: b}}}", ("mask-kind", "{hash: a, pseudonym: b}", None)),
        ("columns: {'*': {}, name: {mask: {date: year, key: a}}}", ("mask-kind", "{date: year, key: a}", None)),
        ("columns: {'*': {}, name: {mask: {hsah: a}}}", ("unknown-key", "hsah", "did you mean 'hash'?")),
        ("columns: {'*': {}, name: {mask: {partial: {}}}}", ("mask-partial", "{}", None)),
        ("columns: {'*': {}, name: {value: 1, mask: null}}", ("column-mask", "{value: 1, mask: null}", None)),
        ("columns: {'*': {}, phone: {mask: null}}", ("unknown-column", "phone", None)),
        ("columns: {'*': {}, name: {mask: {hash: a, key: b}}}", ("no-masking-key", "{hash: a, key: b}", None)),
    ],
)
def test_mistakes_point_at_their_place(body: str, found: tuple[str, str, str | None]) -> None:
    text = HEAD + "".join(f"    {line}\n" for line in body.splitlines())
    code, place, advice = found
    got = [each for each in findings(text) if each[0] == code]
    assert [each[:2] for each in got] == [(code, place)]
    assert advice is None or got[0][2] == advice


@pytest.mark.parametrize(
    ("rules", "mask", "place"),
    [
        ("detect: {version: born}", "{hash: a}", "born"),
        ("columns: {born: max}", "{hash: a}", "max"),
        ("resolve: {newest: born}", "null", "born"),
    ],
)
def test_rules_that_compare_need_an_order(rules: str, mask: str, place: str) -> None:
    text = f"{HEAD}    columns: {{'*': {{}}, born: {{mask: {mask}}}}}\nrules:\n  hub.customers: {{{rules}}}\n"
    assert [found[:2] for found in findings(text)] == [("mask-in-rule", place)]
    loads(text.replace(mask, "{date: month}"), "m.yaml")


def test_what_is_masked_here_and_read_there_is_a_warning() -> None:
    body = "columns:\n  '*': {}\n  mail: {copy: email, mask: {hash: a}}\n  lower: {sql: lower(email)}\n  again: email"
    plan = plan_of(body)
    assert [(found.code, found.severity, pointed(found)) for found in plan.warnings] == [
        ("reads-masked", "warning", "lower(email)"),
        ("reads-masked", "warning", "email"),
        ("reads-masked", "warning", "'*'"),
    ]
    quiet = "columns:\n  '*': {except: [email]}\n  mail: {copy: email, mask: {hash: a}}"
    text = HEAD + "".join(f"    {line}\n" for line in quiet.splitlines())
    assert not list(clear_copies(loads(text, "m.yaml").tables[0]))


def problems(body: str, using: Any) -> list[tuple[str, str, str]]:
    text = HEAD + "".join(f"    {line}\n" for line in body.splitlines())
    found = key_problems([loads(text, "m.yaml")], using, "connections.yaml")
    return [(each.severity, each.code, pointed(each)) for each in found]


def test_missing_keys_are_found_before_anything_runs() -> None:
    hashed = "columns: {'*': {}, name: {mask: {hash: a}}, email: {mask: {hash: b, version: v9}}}"
    assert problems(hashed, KEYS) == [("error", "no-masking-key", "{hash: b, version: v9}")]
    assert [each[2] for each in problems(hashed, NO_KEYS)] == ["{hash: a}", "{hash: b, version: v9}"]
    assert problems("columns: {'*': {}, name: {mask: null}}", NO_KEYS) == [("error", "no-masking-key", "null")], (
        "the seal"
    )
    assert problems("columns: '*'", NO_KEYS) == []
    twice = "columns: {'*': {}, name: {mask: {hash: a}}, email: {mask: {hash: b}}}"
    assert problems(twice, keys(v1="short")) == [("warning", "masking-key-away", "{hash: a}")]


SHARED = (
    HEAD
    + "    as: crm\n    key: [name]\n    columns: {'*': {}, id: MASKED}\nrules:\n  hub.customers: {sources: [crm]}\n"
)


def test_the_source_key_that_is_kept_with_a_contribution_is_masked() -> None:
    text = SHARED.replace("MASKED", "{mask: {pseudonym: ids, version: v1}}")
    plan = compile_table(loads(text, "m.yaml").tables[0], SCHEMA, keys=KEYS, full_before=True)
    made = row(plan, Op.CREATE, after=ROW)
    assert plan.target.key == ("name", "@id")
    assert made.key == ("Ann", value({"pseudonym": "ids"}, 7, BIGINT))
    assert made.values is not None
    assert 7 not in made.values
    for mask, code in (("null", "mask-in-key"), ("{hash: ids}", "mask-version")):
        text = SHARED.replace("MASKED", f"{{mask: {mask}}}")
        with pytest.raises(MappingError) as raised:
            compile_table(loads(text, "m.yaml").tables[0], SCHEMA, keys=KEYS, full_before=True)
        assert [(found.code, pointed(found)) for found in raised.value.diagnostics] == [(code, mask)]
