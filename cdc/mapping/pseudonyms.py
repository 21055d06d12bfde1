"""Pseudonyms that keep a value's form, and its uniqueness: a keyed permutation of all values of the same form.

A value is a row of digits, each with a radix of its own: decimal digits and letters of a text, which stay what they are
(a lower-case letter stays one, a Cyrillic one stays Cyrillic), the two halves of a number. Ten rounds of a Feistel
network add to each half of the row, position by position, what a keyed function (BLAKE2b) makes of the other half and
of the value's form. That can be undone, so no two values of a form become the same; whoever has not the key sees a
random permutation. Not hidden are the form itself (length, blanks, punctuation, the script, how large a number is by
its bytes), and equality. Values that are short, like a single letter, have few others to become.

Never change what this makes: pseudonyms that targets hold already would no longer be those of their values.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b, shake_256
from itertools import pairwise
from struct import Struct

_ROUNDS = 10


def text(key: bytes) -> Callable[[str], str]:
    """Of texts: digits and letters become others of their kind, everything else stays."""
    return lambda value: _replaced(key, value, [_alphabet(letter) for letter in value])


def uuid(key: bytes) -> Callable[[str], str]:
    """Of UUIDs in their canonical text."""
    return lambda value: _replaced(key, value, [None if letter == "-" else _HEX for letter in value])


def whole_decimal(key: bytes) -> Callable[[str], str]:
    """Of whole numbers as texts: as many digits as before, no zero at the beginning. NaN and infinities stay."""

    def make(value: str) -> str:
        digits = value.lstrip("-")
        if not digits.isdecimal():
            return value
        first = _DIGITS if len(digits) == 1 else _DIGITS[1:]
        return _replaced(key, value, [*([None] * (len(value) - len(digits))), first, *[_DIGITS] * (len(digits) - 1)])

    return make


def integer(key: bytes) -> Callable[[int], int]:
    """Of integers: another one of the same sign that the same integer types hold, whatever the column's own type: so
    a 32-bit number that refers to a 64-bit one still does."""

    def make(value: int) -> int:
        if value < 0:
            return -1 - make(-1 - value)
        low, high = _cell(value)
        start = (1 << low) if low else 0
        # A cell has 2^low * (2^(high-low) - 1) numbers, the first one 2^high: a power of two divides it.
        left = 1 << min(low or high, high // 2)
        right = ((1 << high) - start) // left
        return start + _permuted_number(key, b"%d" % high, value - start, left, right)

    return make


_LIMITS = (0, 7, 8, 15, 16, 23, 24, 31, 32, 63, 64)
"""Bits of the numbers that some integer type holds just so, signed or unsigned."""


def _cell(value: int) -> tuple[int, int]:
    """The limits, in bits, between which a number that is not negative stands."""
    bits = value.bit_length()
    for low, high in pairwise(_LIMITS):
        if bits <= high:
            return low, high
    raise ArithmeticError("an integer of more than 64 bits")


_DIGITS = "0123456789"
_HEX = "0123456789abcdef"
_LOWER = "abcdefghijklmnopqrstuvwxyz"
_UPPER = _LOWER.upper()
_FIXED = frozenset("PZS")  # punctuation, separators, symbols
_UNICODE = unicodedata.ucd_3_2_0  # of a version that never changes: alphabets must not


@lru_cache(maxsize=4096)
def _alphabet(letter: str) -> str | None:
    """All that may take a character's place: those of its kind in its block of 256. None: it stays."""
    if letter.isascii():
        return next((each for each in (_DIGITS, _LOWER, _UPPER) if letter in each), None)
    kind = _kind(letter)
    return None if kind is None else _block(ord(letter) >> 8, kind)


def _kind(letter: str) -> str | None:
    """Unicode's category; None for those that stay. What Unicode 3.2 does not know yet is a kind of its own."""
    category = _UNICODE.category(letter)
    return None if category[0] in _FIXED or category in ("Cc", "Cs", "Co") else category


@lru_cache(maxsize=1024)
def _block(block: int, kind: str) -> str:
    letters = map(chr, range(block << 8, (block + 1) << 8))
    return "".join(letter for letter in letters if not letter.isascii() and _kind(letter) == kind)


def _replaced(key: bytes, value: str, alphabets: Sequence[str | None]) -> str:
    places = [place for place, alphabet in enumerate(alphabets) if alphabet is not None]
    chosen = [alphabet for alphabet in alphabets if alphabet is not None]
    if not chosen:
        return value
    # The form: what stays, with a mark and the alphabet's first letter in place of what does not.
    form = "".join(
        letter if alphabet is None else f"\0{alphabet[0]}{len(alphabet)}\0"
        for letter, alphabet in zip(value, alphabets, strict=True)
    ).encode("utf-8", "surrogatepass")
    digits = [alphabet.index(value[place]) for place, alphabet in zip(places, chosen, strict=True)]
    permuted = _permuted(key, form, digits, [len(alphabet) for alphabet in chosen])
    letters = list(value)
    for place, alphabet, digit in zip(places, chosen, permuted, strict=True):
        letters[place] = alphabet[digit]
    return "".join(letters)


def _permuted(key: bytes, form: bytes, digits: list[int], radices: list[int]) -> list[int]:
    """The network over a row of digits, none of them above 255."""
    middle = len(digits) // 2
    left, right, of_left, of_right = digits[:middle], digits[middle:], radices[:middle], radices[middle:]
    drawn_left, drawn_right = Struct(f">{len(left)}I").unpack, Struct(f">{len(right)}I").unpack
    for number in range(0, _ROUNDS, 2):
        drawn = drawn_left(_drawn(key, form, number, bytes(right), 4 * len(left)))
        left = [(digit + more) % radix for digit, more, radix in zip(left, drawn, of_left, strict=True)]
        drawn = drawn_right(_drawn(key, form, number + 1, bytes(left), 4 * len(right)))
        right = [(digit + more) % radix for digit, more, radix in zip(right, drawn, of_right, strict=True)]
    return left + right


def _permuted_number(key: bytes, form: bytes, value: int, left: int, right: int) -> int:
    """The same for a number below `left * right`, which are at most 2^48."""
    high, low = divmod(value, right)
    for number in range(0, _ROUNDS, 2):
        high = (high + int.from_bytes(_drawn(key, form, number, low.to_bytes(8, "big"), 16), "big")) % left
        low = (low + int.from_bytes(_drawn(key, form, number + 1, high.to_bytes(8, "big"), 16), "big")) % right
    return high * right + low


def _drawn(key: bytes, form: bytes, number: int, other: bytes, size: int) -> bytes:
    """The keyed function: `size` bytes of a round."""
    message = b"%d,%d,%b%b" % (number, len(form), form, other)
    if size <= 64:
        return blake2b(message, key=key, digest_size=size or 1).digest()[:size]
    return shake_256(blake2b(message, key=key).digest()).digest(size)
