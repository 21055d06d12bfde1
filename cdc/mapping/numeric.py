"""PostgreSQL's numeric arithmetic on `decimal.Decimal`: exact, with its rules for scale, rounding and special values.

A Decimal's exponent carries PostgreSQL's display scale (never a positive exponent). Python's own operators round to the
context of the thread, hence `_EXACT` and the copy_ methods everywhere. What these functions cannot hold
exactly raises `ValueError` or `ArithmeticError`: the row is parked, never rounded in silence.
"""

from __future__ import annotations

import re
from decimal import (
    ROUND_05UP,
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_FLOOR,
    ROUND_HALF_UP,
    Context,
    Decimal,
    DivisionByZero,
    InvalidOperation,
)

INT2, INT4, INT8 = (1 << 15, 1 << 31, 1 << 63)
MAX_WEIGHT = 131_072  # digits before the decimal point
MAX_SCALE = 16_383
_DIVISION_SCALE = 1_000  # NUMERIC_MAX_DISPLAY_SCALE
_SIGNIFICANT = 16  # NUMERIC_MIN_SIG_DIGITS

# Wide enough that sums, products and remainders are never rounded; a result that is too big is refused.
_EXACT = Context(prec=400_000, Emax=999_999, Emin=-999_999, traps=[InvalidOperation, DivisionByZero])
_ROUGH = Context(prec=120, rounding=ROUND_05UP, Emax=999_999, Emin=-999_999)
_NUMBER = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,5})?")
_INTEGER = re.compile(r"[+-]?[0-9]+")
_BLANK = " \t\n\r\v\f"
_SPECIAL = {
    "nan": Decimal("NaN"),
    **dict.fromkeys(("infinity", "inf", "+infinity", "+inf"), Decimal("Infinity")),
    **dict.fromkeys(("-infinity", "-inf"), Decimal("-Infinity")),
}
NAN = _SPECIAL["nan"]


def text(value: Decimal) -> str:
    """PostgreSQL's text of a numeric. There is no negative zero."""
    if not value.is_finite():
        return "NaN" if value.is_nan() else ("Infinity" if value > 0 else "-Infinity")
    if not value:
        value = value.copy_abs()
    return format(value, "f")


def from_text(value: str) -> Decimal:
    """What numeric's input function reads. Raises `ValueError`."""
    trimmed = value.strip(_BLANK)
    special = _SPECIAL.get(trimmed.lower())
    if special is not None:
        return special
    if not _NUMBER.fullmatch(trimmed):
        raise ValueError("not a number")
    number = _plain(Decimal(trimmed))
    if -_exponent(number) > MAX_SCALE:
        raise ArithmeticError("the number has more digits than numeric holds")
    return _not_too_big(number)


def integer_from_text(value: str, limit: int) -> int:
    """What an integer type's input function reads in every PostgreSQL version (no 0x, no underscores)."""
    trimmed = value.strip(_BLANK)
    if not _INTEGER.fullmatch(trimmed) or len(trimmed) > 1000:
        raise ValueError("not a whole number")
    return in_range(int(trimmed), limit)


def in_range(value: int, limit: int) -> int:
    if not -limit <= value < limit:
        raise ArithmeticError("integer out of range")
    return value


def to_integer(value: Decimal, limit: int) -> int:
    """Rounded half away from zero, as PostgreSQL casts. Raises `ArithmeticError` for NaN and what does not fit."""
    if not value.is_finite() or value.adjusted() > 20:
        raise ArithmeticError("integer out of range")
    return in_range(int(value.to_integral_value(ROUND_HALF_UP)), limit)


def _not_too_big(value: Decimal) -> Decimal:
    if value.adjusted() >= MAX_WEIGHT and value:  # (of NaN and infinity it is 0)
        raise ArithmeticError("the number has more digits than numeric holds")
    return value


def add(left: Decimal, right: Decimal) -> Decimal:
    try:
        return _not_too_big(_EXACT.add(left, right))
    except InvalidOperation:  # infinity - infinity
        return NAN


def subtract(left: Decimal, right: Decimal) -> Decimal:
    return add(left, right.copy_negate())


def multiply(left: Decimal, right: Decimal) -> Decimal:
    try:
        product = _EXACT.multiply(left, right)
    except InvalidOperation:  # infinity * 0
        return NAN
    if product.is_finite() and -_exponent(product) > MAX_SCALE:
        product = _quantize(product, MAX_SCALE, ROUND_HALF_UP)
    return _not_too_big(product)


def divide(left: Decimal, right: Decimal) -> Decimal:
    """The quotient with PostgreSQL's scale, rounded half away from zero."""
    if left.is_nan() or right.is_nan():
        return NAN
    if right == 0:
        raise ArithmeticError("division by zero")
    if left.is_infinite():
        return NAN if right.is_infinite() else (left if right > 0 else left.copy_negate())
    if right.is_infinite():
        return Decimal(0)
    scale = _quotient_scale(left, right)
    if left.adjusted() - right.adjusted() + scale < _ROUGH.prec - 4:
        # ROUND_05UP leaves a trace of what it cut off, so rounding once more is right.
        return _quantize(_ROUGH.divide(left, right), scale, ROUND_HALF_UP)
    return _not_too_big(_long_division(left, right, scale))


def _long_division(left: Decimal, right: Decimal, scale: int) -> Decimal:
    shift = scale - _exponent(right) + _exponent(left)
    numerator, denominator = abs(_unscaled(left)), abs(_unscaled(right))
    if shift >= 0:
        numerator *= 10**shift
    else:
        denominator *= 10**-shift
    quotient = (2 * numerator + denominator) // (2 * denominator)
    result = _EXACT.scaleb(Decimal(quotient), -scale)
    return result.copy_negate() if left.is_signed() != right.is_signed() else result


def modulo(left: Decimal, right: Decimal) -> Decimal:
    """The remainder of truncated division: it has the sign of `left`."""
    if left.is_nan() or right.is_nan():
        return NAN
    if right == 0:
        raise ArithmeticError("division by zero")
    if left.is_infinite():
        return NAN
    return left if right.is_infinite() else _EXACT.remainder(left, right)


def round_to(value: Decimal, places: int) -> Decimal:
    """Half away from zero; negative places round before the decimal point."""
    if not value.is_finite():
        return value
    places = max(-MAX_WEIGHT - 1, min(MAX_SCALE, places))
    return _quantize(value, places, ROUND_HALF_UP)


def cut_to(value: Decimal, places: int) -> Decimal:
    """trunc: towards zero; negative places cut before the decimal point."""
    if not value.is_finite():
        return value
    return _quantize(value, max(-MAX_WEIGHT - 1, min(MAX_SCALE, places)), ROUND_DOWN)


def sign(value: Decimal) -> Decimal:
    if value.is_nan():
        return value
    return Decimal((value > 0) - (value < 0))


def truncate_scale(value: Decimal, precision: int, scale: int) -> Decimal:
    """A cast to numeric(precision, scale)."""
    if value.is_nan():
        return value
    if value.is_infinite():
        raise ArithmeticError("numeric field overflow")
    rounded = _quantize(value, scale, ROUND_HALF_UP)
    if rounded and rounded.adjusted() >= precision - scale:
        raise ArithmeticError("numeric field overflow")
    return rounded


def floor(value: Decimal) -> Decimal:
    return _quantize(value, 0, ROUND_FLOOR) if value.is_finite() else value


def ceil(value: Decimal) -> Decimal:
    return _quantize(value, 0, ROUND_CEILING) if value.is_finite() else value


def equal(left: Decimal, right: Decimal) -> bool:
    """NaN equals NaN."""
    return left == right or (left.is_nan() and right.is_nan())


def less(left: Decimal, right: Decimal) -> bool:
    """NaN is greater than all else."""
    if left.is_nan() or right.is_nan():
        return right.is_nan() and not left.is_nan()
    return left < right


def divide_integers(left: int, right: int) -> int:
    """Towards zero."""
    if right == 0:
        raise ArithmeticError("division by zero")
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


def modulo_integers(left: int, right: int) -> int:
    """The remainder has the sign of `left`."""
    if right == 0:
        raise ArithmeticError("division by zero")
    rest = abs(left) % abs(right)
    return -rest if left < 0 else rest


def _exponent(value: Decimal) -> int:
    exponent = value.as_tuple().exponent
    assert isinstance(exponent, int)
    return exponent


def _unscaled(value: Decimal) -> int:
    return int(_EXACT.scaleb(value, -_exponent(value)))


def _plain(value: Decimal) -> Decimal:
    """Without a positive exponent: PostgreSQL's scale is never negative here."""
    return _EXACT.quantize(value, Decimal(1)) if _exponent(value) > 0 else value


def _quantize(value: Decimal, places: int, rounding: str) -> Decimal:
    step = Decimal(1).scaleb(-places, _EXACT)
    return _plain(value.quantize(step, rounding, _EXACT))


def _quotient_scale(left: Decimal, right: Decimal) -> int:
    """numeric.c, select_div_scale: at least 16 significant digits, by the weight of base-10,000 digits."""
    left_weight, left_first = _leading(left)
    right_weight, right_first = _leading(right)
    weight = left_weight - right_weight - (left_first <= right_first)
    scale = max(_SIGNIFICANT - weight * 4, -_exponent(left), -_exponent(right), 0)
    return min(scale, _DIVISION_SCALE)


def _leading(value: Decimal) -> tuple[int, int]:
    """Weight and value of the first non-zero digit in base 10,000."""
    if not value:
        return 0, 0
    weight, within = divmod(value.adjusted(), 4)
    digits = value.as_tuple().digits[: within + 1]
    first = 0
    for digit in digits:
        first = first * 10 + digit
    return weight, first * 10 ** (within + 1 - len(digits))
