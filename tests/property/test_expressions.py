"""What holds for all values, without a database: arithmetic, calendars, LIKE; and nothing fails in a strange way."""

from __future__ import annotations

import contextlib
import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from cdc.mapping import numeric, temporal, texts
from cdc.mapping.diagnostics import MappingError
from cdc.mapping.expressions import ExpressionError, compile_expression
from cdc.mapping.load import loads
from cdc.model import NEG_INFINITY, POS_INFINITY
from tests.conformance.test_expressions_cases import CASES, expressions
from tests.conformance.test_expressions_rows import SCHEMA

_quick = settings(deadline=None, max_examples=100)

_DECIMALS = st.decimals(allow_nan=False, allow_infinity=False, places=6, min_value=-(10**30), max_value=10**30)
_DAYS = st.integers(temporal.MIN_DATE, temporal.MAX_DATE)
_MICROS = st.integers(temporal.MIN_TIMESTAMP, temporal.MAX_TIMESTAMP)
_BY_COLUMN: dict[str, st.SearchStrategy[Any]] = {
    "i2": st.integers(-(2**15), 2**15 - 1),
    "i8": st.integers(-(2**63), 2**63 - 1),
    **dict.fromkeys(("i4", "j4"), st.integers(-(2**31), 2**31 - 1)),
    **dict.fromkeys(("n", "m"), _DECIMALS.map(numeric.text) | st.sampled_from(["NaN", "Infinity", "-Infinity"])),
    **dict.fromkeys(("t", "s", "ch"), st.text(max_size=12)),
    **dict.fromkeys(("b", "c"), st.booleans()),
    **dict.fromkeys(("d", "e"), _DAYS | st.sampled_from([POS_INFINITY, NEG_INFINITY])),
    **dict.fromkeys(("ts", "us"), _MICROS | st.sampled_from([POS_INFINITY, NEG_INFINITY])),
    "u": st.uuids().map(str),
    "tz": _MICROS.map(temporal.instant_iso) | st.sampled_from(["infinity", "-infinity"]),
    "by": st.binary(max_size=8),
    **dict.fromkeys(("js", "jb"), st.sampled_from(['{"a": "x"}', "{}", '{"a": {"a": 1}}', "[]", "not json", ""])),
}
_ROWS = st.tuples(*(st.none() | _BY_COLUMN[column.name] for column in SCHEMA.columns))


@_quick
@given(_DECIMALS, _DECIMALS)
def test_arithmetic_is_exact(left: Decimal, right: Decimal) -> None:
    assert Fraction(numeric.add(left, right)) == Fraction(left) + Fraction(right)
    assert Fraction(numeric.subtract(left, right)) == Fraction(left) - Fraction(right)
    assert Fraction(numeric.multiply(left, right)) == Fraction(left) * Fraction(right)


@_quick
@given(_DECIMALS, _DECIMALS)
def test_a_quotient_is_the_nearest_of_its_scale(left: Decimal, right: Decimal) -> None:
    assume(right != 0)
    quotient = numeric.divide(left, right)
    unit = Fraction(1, 10 ** -int(quotient.as_tuple().exponent))
    assert abs(Fraction(quotient) - Fraction(left) / Fraction(right)) <= unit / 2
    rest = numeric.modulo(left, right)
    assert (Fraction(left) - Fraction(rest)) / Fraction(right) == int(Fraction(left) / Fraction(right))


@_quick
@given(_DECIMALS)
def test_numeric_text_comes_back(value: Decimal) -> None:
    assert numeric.text(numeric.from_text(numeric.text(value))) == numeric.text(value)


@_quick
@given(st.dates())
def test_the_calendar_is_pythons_where_python_has_one(day: datetime.date) -> None:
    days = (day - datetime.date(1970, 1, 1)).days
    assert temporal.civil(days) == (day.year, day.month, day.day)
    assert temporal.date_text(days) == day.isoformat()
    year, week, weekday = day.isocalendar()
    found = [int(temporal.extract_date(field, days) or 0) for field in ("isoyear", "week", "isodow")]
    assert found == [year if year > 0 else year - 1, week, weekday]


@_quick
@given(_DAYS, _MICROS)
def test_dates_and_timestamps_come_back(days: int, micros: int) -> None:
    assert temporal.days_of(*temporal.civil(days)) == days
    assert temporal.date_from_text(temporal.date_text(days)) == days
    assert temporal.timestamp_from_text(temporal.timestamp_text(micros)) == micros


@_quick
@given(st.sampled_from(temporal.TRUNCATIONS), _MICROS)
def test_truncation_goes_back_and_stays(unit: str, micros: int) -> None:
    try:
        cut = temporal.truncate(unit, micros)
    except ArithmeticError:
        return  # before the first timestamp
    assert cut <= micros
    assert temporal.truncate(unit, cut) == cut


@_quick
@given(st.text("ab%_\\", max_size=10), st.text("ab%_\\", max_size=8))
def test_like(value: str, pattern: str) -> None:
    try:
        found = texts.like(value, pattern)
    except ValueError:
        return  # the pattern ends in its escape character
    assert found is _like(value, pattern)


def _like(value: str, pattern: str) -> bool:
    """LIKE by its definition, slowly."""
    if not pattern:
        return not value
    if pattern[0] == "%":
        return any(_like(value[start:], pattern[1:]) for start in range(len(value) + 1))
    literal = pattern[1] if pattern[0] == "\\" else pattern[0]
    rest = pattern[2:] if pattern[0] == "\\" else pattern[1:]
    wild = pattern[0] == "_"
    return bool(value) and (wild or value[0] == literal) and _like(value[1:], rest)


def test_like_does_not_explode() -> None:
    assert not texts.like("a" * 5000, "%a" * 40 + "%b")


@_quick
@given(expressions() | st.sampled_from(CASES), _ROWS)
def test_a_row_gives_a_value_or_is_parked(text: str, row: tuple[Any, ...]) -> None:
    try:
        made = compile_expression(text, SCHEMA)
    except ExpressionError:
        return
    if made.call is not None:
        try:
            value = made.call(row)
        except (ValueError, ArithmeticError):
            return
        assert value is None or isinstance(value, str | int | bool | bytes)


@_quick
@given(st.sampled_from(CASES), st.integers(0, 40), st.text("()'\"|,:;$%*[]{}=<>-+ axN0\n", max_size=6))
def test_any_text_compiles_or_is_refused_in_its_place(case: str, at: int, noise: str) -> None:
    text = case[:at] + noise + case[at + 1 :]
    try:
        compile_expression(text, SCHEMA)
    except ExpressionError as error:
        for problem in error.problems:
            assert 0 <= problem.start <= len(text)
            assert problem.length > 0 or not text


@pytest.mark.parametrize("head", ["", "pipeline: a\ntarget: b\nsource: c\ntables:\n"])
def test_any_text_is_a_pipeline_or_an_error(head: str) -> None:
    @_quick
    @given(st.text("abft:-*&!?|>'\"{}[],#\n \t%@", max_size=60))
    def check(text: str) -> None:
        with contextlib.suppress(MappingError):
            loads(head + text)

    check()
