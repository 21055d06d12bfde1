"""How one column's JSON value becomes its canonical value (the forms are those of `cdc.model`).

A `Wire` describes one form of arrival. `msgspec` decodes the JSON straight into `annotation` (integers of any size,
base64 to bytes, in C), and most values are canonical then. `convert` makes the others; it is only called where the
expression `passes` is false, so that the ordinary value costs no call. What cannot be exact raises `Inexact`.
"""

from __future__ import annotations

import hashlib
import re
import uuid
from array import array
from collections.abc import Callable, Mapping
from typing import Any, Literal

import msgspec

from cdc.model import NEG_INFINITY, POS_INFINITY, Value


class Inexact(Exception):
    """This value did not arrive exactly. `what` says why, without the value."""

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what


class Wire(msgspec.Struct, frozen=True):
    """One form of arrival.

    annotation   what msgspec decodes the JSON value into (None is always allowed beside it)
    convert      from there to the canonical value; None: it is canonical as it is
    passes       Python expression over `{v}`, true when a value that is not None is canonical as it is ('' never)
    read_convert, read_passes   the same for snapshot reads, where they differ
    unavailable  from the placeholder text to the form (after `annotation`) it takes here; None: cannot be told
    ambiguous    an unavailable value arrives as null here, so a null of a partial image says nothing
    """

    annotation: Any
    convert: Callable[[Any], Value] | None = None
    passes: str = ""
    read_convert: Callable[[Any], Value] | None = None
    read_passes: str = ""
    unavailable: Callable[[str], object] | None = None
    ambiguous: bool = False

    def for_reads(self) -> tuple[Callable[[Any], Value] | None, str]:
        return (self.read_convert, self.read_passes) if self.read_convert else (self.convert, self.passes)


def same(placeholder: str) -> object:
    return placeholder


def encoded(placeholder: str) -> object:
    return placeholder.encode()


# --- numbers -----------------------------------------------------------------------------------------------------

DECIMAL_NAMES = {"NAN": "NaN", "POSITIVE_INFINITY": "Infinity", "NEGATIVE_INFINITY": "-Infinity"}


def decimal(value: str) -> str:
    special = DECIMAL_NAMES.get(value)
    if special is not None:
        return special
    return plain(value) if "E" in value else value


def plain(value: str) -> str:
    """'1E-30' as digits: Java writes small BigDecimals with an exponent."""
    sign = "-" if value.startswith("-") else ""
    digits, _, exponent = value.lstrip("-").partition("E")
    whole, _, fraction = digits.partition(".")
    shift = int(exponent)
    if shift < 0:
        digits = whole.rjust(-shift + 1, "0")
        return f"{sign}{digits[:shift]}.{digits[shift:]}{fraction}"
    fraction = fraction.ljust(shift, "0")
    rest = fraction[shift:]
    return f"{sign}{whole}{fraction[:shift]}" + (f".{rest}" if rest else "")


def float64(value: float | str) -> float:
    return float(value)


def float32(value: float | str) -> float:
    """Debezium writes the shortest digits of a float32: rounding gives the number that the source holds."""
    return array("f", (float(value),))[0]


def money_read(value: str) -> str:
    """Snapshot reads pass through a double: its 15 digits hold 13 before the point and two after it."""
    text = plain(value) if "E" in value else value
    whole, _, fraction = text.partition(".")
    if len(whole.lstrip("-")) > 13:
        raise Inexact("snapshot reads of money keep 15 digits, and this one has more")
    return f"{whole}.{fraction:0<2}"


def mariadb_float_read(value: float | str) -> float:
    """Snapshot reads of MariaDB's float carry six significant digits: fewer are exact, six may have been cut."""
    number = float32(value)
    text = f"{abs(number):.5e}"
    if len(text.partition("e")[0].replace(".", "").strip("0")) > 5 or float32(text) != abs(number):
        raise Inexact("MariaDB's snapshot reads keep six digits of a float, and this one may have had more")
    return number


def unsigned_bytes(value: bytes) -> int:
    """Precise `bigint unsigned`: Connect's Decimal of scale 0, a big-endian two's complement integer."""
    return int.from_bytes(value, "big", signed=True)


def unsigned_long(value: int) -> int:
    return value + (1 << 64) if value < 0 else value


# --- bits and bytes ----------------------------------------------------------------------------------------------


def bit(value: bool) -> str:
    return "1" if value else "0"


def bits(length: int) -> Callable[[bytes], str]:
    """bit(n) arrives as little-endian bytes with zero bytes trimmed."""

    def convert(value: bytes) -> str:
        return format(int.from_bytes(value, "little"), f"0{length}b")

    return convert


def text_of_bytes(value: bytes) -> str:
    """Types that Debezium does not know arrive as the bytes of their text form."""
    return value.decode()


# --- dates and times ---------------------------------------------------------------------------------------------

READ_DAY = -141417
"""1582-10-25. Snapshot reads go through Java's Julian calendar before 1582-10-15, and put the ten days that it lacks
(1582-10-05 to -14) on the ten days after. From here on a snapshot read is exact."""
READ_MICROS = READ_DAY * 86_400_000_000
DATES = {-2147472692: POS_INFINITY, -2147472691: NEG_INFINITY, -622191234: POS_INFINITY, -625821272: NEG_INFINITY}
TIMESTAMPS = {9223372036825200000: POS_INFINITY, -9223372036832400000: NEG_INFINITY}
EARLIEST_DAY = -2440588  # 4714-11-24 BC, PostgreSQL's first day
LATEST_DAY = 2145042905  # 5874897-12-31, PostgreSQL's last day
EARLIEST_MICROS = EARLIEST_DAY * 86_400_000_000
LATEST_MICROS = 9223372036825200000  # in 294247: PostgreSQL's later years overflow, and arrive before `EARLIEST_MICROS`
OLD_READ = "snapshot reads of dates before 1582-10-25 arrive in another calendar"


def date(value: int) -> int:
    infinite = DATES.get(value)
    if infinite is not None:
        return infinite
    if EARLIEST_DAY <= value <= LATEST_DAY:
        return value
    raise Inexact("a date outside PostgreSQL's range arrived")


def date_read(value: int) -> int:
    day = date(value)
    if day != NEG_INFINITY and day < READ_DAY:
        raise Inexact(OLD_READ)
    return day


def timestamp(value: int) -> int:
    infinite = TIMESTAMPS.get(value)
    if infinite is not None:
        return infinite
    if EARLIEST_MICROS <= value < LATEST_MICROS:
        return value
    raise Inexact("a timestamp beyond what microseconds in 64 bits hold arrived")


def timestamp_read(value: int) -> int:
    micros = timestamp(value)
    if micros != NEG_INFINITY and micros < READ_MICROS:
        raise Inexact(OLD_READ)
    return micros


def timestamptz_read(value: str) -> str:
    if value >= "1582-10-25" or value == "-infinity" or value.startswith("+"):
        return value
    raise Inexact(OLD_READ)


# --- text --------------------------------------------------------------------------------------------------------


def verbatim(value: str) -> str:
    return value


def unescaped(value: str) -> str:
    """MariaDB's streamed enum members carry a backslash before ',' and '\\'; snapshot reads do not."""
    return re.sub(r"\\(.)", r"\1", value, flags=re.DOTALL)


# --- structures --------------------------------------------------------------------------------------------------


class Point(msgspec.Struct, gc=False):
    x: float | str
    y: float | str


def point(value: Point) -> str:
    return f"({float_text(float(value.x))},{float_text(float(value.y))})"


class Geometry(msgspec.Struct, gc=False):
    wkb: bytes
    srid: int | None = None


def geometry(value: Geometry) -> bytes:
    """EWKB: the WKB, with the srid in it when there is one (Debezium writes none for MariaDB's 0)."""
    if value.srid is None:
        return value.wkb
    order: Literal["big", "little"] = "little" if value.wkb[0] else "big"
    kind = int.from_bytes(value.wkb[1:5], order) | 0x20000000
    return value.wkb[:1] + kind.to_bytes(4, order) + value.srid.to_bytes(4, order) + value.wkb[5:]


def float_text(value: float) -> str:
    """A float as PostgreSQL writes and reads it: shortest digits; 'Infinity', 'NaN' where Python says 'inf', 'nan'."""
    if value - value == 0:
        text = repr(value)
        return text.removesuffix(".0")
    if value != value:
        return "NaN"
    return "Infinity" if value > 0 else "-Infinity"


# --- arrays ------------------------------------------------------------------------------------------------------

JAVA_ADDRESS = "[L"


def array_of(convert: Callable[[Any], Value] | None) -> Callable[[list[Any]], list[Value]]:
    """Elements become canonical; what a two-dimensional array degenerates to is refused.

    It arrives as `[null,null]` or as the addresses of Java objects. An array of nothing but NULLs looks the same as the
    first, so it is refused as well.
    """

    def elements(value: list[Any]) -> list[Value]:
        if value and value.count(None) == len(value):
            raise Inexact("an array of only NULLs cannot be told from a two-dimensional array")
        for item in value:
            if item.__class__ is str and item.startswith(JAVA_ADDRESS) and ";@" in item:
                raise Inexact("a two-dimensional array arrived as the addresses of Java objects")
        if convert is None:
            return value
        return [None if item is None else convert(item) for item in value]

    return elements


def text_array_unavailable(placeholder: str) -> object:
    return [placeholder]


def bytes_array_unavailable(placeholder: str) -> object:
    return [placeholder.encode()]


def number_array_unavailable(placeholder: str) -> object:
    """int[], bigint[], date[]: the bytes of the placeholder, as numbers."""
    return list(placeholder.encode())


def uuid_array_unavailable(placeholder: str) -> object:
    """Java's `UUID.nameUUIDFromBytes`: version 3 without a name space."""
    digest = hashlib.md5(placeholder.encode(), usedforsecurity=False).digest()
    return [str(uuid.UUID(bytes=digest, version=3))]


def hstore_unavailable(placeholder: str) -> object:
    return msgspec.json.encode({placeholder: placeholder}).decode()


# --- the column as the record describes it -------------------------------------------------------------------------


class Field(msgspec.Struct, frozen=True):
    """A column as the record's embedded schema describes it.

    `connect`: Connect's type ('int32', 'string', 'bytes', 'array', 'struct'…). `semantic`: the schema's name ('' when
    it has none). `parameters`: of `column.propagate.source.type` and of the semantic type. `element`: of an array.
    """

    name: str
    connect: str
    semantic: str
    optional: bool
    parameters: Mapping[str, str]
    element: Field | None = None

    @property
    def native(self) -> str:
        """The source's type name, lower case; '' when the connector does not propagate it."""
        return self.parameters.get("__debezium.source.column.type", "").lower()

    def number(self, name: str) -> int | None:
        """A numeric parameter ('length', 'scale') of the source's column or of the semantic type."""
        text = self.parameters.get(f"__debezium.source.column.{name}", self.parameters.get(name))
        return int(text) if text is not None else None
