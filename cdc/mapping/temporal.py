"""Dates and timestamps as PostgreSQL counts them, on the integers of `cdc.model`: any year, proleptic Gregorian.

Text in and out follows ISO; other spellings that PostgreSQL would read by its DateStyle raise `ValueError`.
"""

from __future__ import annotations

import re
from decimal import Decimal

from cdc.model import NEG_INFINITY, POS_INFINITY

DAY = 86_400_000_000  # µs
MIN_DATE, MAX_DATE = -2_440_588, 2_147_483_494 - 2_440_588 - 1  # Julian day 0; the day before DATE_END_JULIAN
_EPOCH_2000 = 946_684_800_000_000
MIN_TIMESTAMP = -211_813_488_000_000_000 + _EPOCH_2000
MAX_TIMESTAMP = 9_223_371_331_200_000_000 + _EPOCH_2000 - 1
_INFINITE = (POS_INFINITY, NEG_INFINITY)
_DATE = re.compile(r"([0-9]{4,7})-([0-9]{1,2})-([0-9]{1,2})( BC)?")
_TIMESTAMP = re.compile(
    r"([0-9]{4,7})-([0-9]{1,2})-([0-9]{1,2})"
    r"(?:[T ]([0-9]{2}):([0-9]{2})(?::([0-9]{2})(?:\.([0-9]{1,6}))?)?)?( BC)?"
)
_INSTANT = re.compile(r"([+-]?[0-9]{4,6})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,6}))?Z")
_ZONE = re.compile(r" ?(?:Z|([+-])([0-9]{2})(?::?([0-9]{2}))?)")
_BLANK = " \t\n\r\v\f"
_WORDS = {"infinity": POS_INFINITY, "-infinity": NEG_INFINITY}
_UNITS = {
    "microseconds": 1,
    "milliseconds": 1000,
    "second": 1_000_000,
    "minute": 60_000_000,
    "hour": 3_600_000_000,
    "day": DAY,
}
TRUNCATIONS = (*_UNITS, "week", "month", "quarter", "year", "decade", "century", "millennium")
DATE_FIELDS = ("year", "isoyear", "month", "day", "quarter", "week", "dow", "isodow", "doy")
TIME_FIELDS = ("hour", "minute", "second")
_UNBOUNDED = ("year", "isoyear")  # infinity has these; of the others it has NULL


def civil(days: int) -> tuple[int, int, int]:
    """Year (0 is 1 BC), month and day of a number of days since 1970-01-01."""
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    day = of_year - (153 * month + 2) // 5 + 1
    month = month + 3 if month < 10 else month - 9
    return year + era * 400 + (month <= 2), month, day


def days_of(year: int, month: int, day: int) -> int:
    """The inverse of `civil`."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


_YEAR_1, _YEAR_10000 = days_of(1, 1, 1) * DAY, days_of(10_000, 1, 1) * DAY


def date_in_range(days: int) -> int:
    if days not in _INFINITE and not MIN_DATE <= days <= MAX_DATE:
        raise ArithmeticError("date out of range")
    return days


def timestamp_in_range(micros: int) -> int:
    if micros not in _INFINITE and not MIN_TIMESTAMP <= micros <= MAX_TIMESTAMP:
        raise ArithmeticError("timestamp out of range")
    return micros


def date_from_text(value: str) -> int:
    trimmed = value.strip(_BLANK)
    if trimmed.lower() in _WORDS:
        return _WORDS[trimmed.lower()]
    match = _DATE.fullmatch(trimmed)
    if match is None:
        raise ValueError("not a date as YYYY-MM-DD")
    return date_in_range(_checked_days(match[1], match[2], match[3], match[4]))


def timestamp_from_text(value: str) -> int:
    trimmed = value.strip(_BLANK)
    if trimmed.lower() in _WORDS:
        return _WORDS[trimmed.lower()]
    match = _TIMESTAMP.fullmatch(trimmed)
    if match is None:
        raise ValueError("not a timestamp as YYYY-MM-DD HH:MM:SS.ffffff")
    year, month, day, hour, minute, second, fraction, era = match.groups()
    hours, minutes, seconds = int(hour or 0), int(minute or 0), int(second or 0)
    if hours > 23 or minutes > 59 or seconds > 59:
        raise ValueError("time of day out of range")
    within = ((hours * 60 + minutes) * 60 + seconds) * 1_000_000 + int((fraction or "0").ljust(6, "0"))
    return timestamp_in_range(_checked_days(year, month, day, era) * DAY + within)


def instant(value: str) -> int:
    """The microseconds of a canonical timestamptz."""
    if value in _WORDS:
        return _WORDS[value]
    match = _INSTANT.fullmatch(value)
    if match is None:
        raise ValueError("not an instant as YYYY-MM-DDTHH:MM:SS.ffffffZ")
    year, month, day, hour, minute, second, fraction = match.groups()
    seconds = (int(hour) * 60 + int(minute)) * 60 + int(second)
    within = seconds * 1_000_000 + int((fraction or "0").ljust(6, "0"))
    return days_of(int(year), int(month), int(day)) * DAY + within


def instant_iso(micros: int) -> str:
    """The inverse of `instant`."""
    if micros in _INFINITE:
        return "infinity" if micros > 0 else "-infinity"
    days, within = divmod(micros, DAY)
    year, month, day = civil(days)
    seconds, fraction = divmod(within, 1_000_000)
    sign = "+" if year > 9999 else "-" if year < 0 else ""
    time = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{fraction:06}"
    return f"{sign}{abs(year):04}-{month:02}-{day:02}T{time}Z"


def instant_from_text(value: str) -> int:
    """What timestamptz's input function reads, of texts that name their zone as a distance from UTC."""
    trimmed = value.strip(_BLANK)
    if trimmed.lower() in _WORDS:
        return _WORDS[trimmed.lower()]
    zone = _ZONE.search(trimmed, max(trimmed.find(":"), 0))
    if zone is None or zone.end() != len(trimmed) or "BC" in trimmed:
        raise ValueError("not a timestamp with its zone, as YYYY-MM-DD HH:MM:SS+00")
    sign, hours, minutes = zone.groups()
    if int(hours or 0) > 15 or int(minutes or 0) > 59:
        raise ValueError("no such time zone")
    away = (int(hours or 0) * 60 + int(minutes or 0)) * 60_000_000
    return timestamp_in_range(timestamp_from_text(trimmed[: zone.start()]) + (away if sign == "-" else -away))


def date_text(days: int) -> str:
    if days in _INFINITE:
        return "infinity" if days > 0 else "-infinity"
    year, month, day = civil(days)
    return f"{year if year > 0 else 1 - year:04}-{month:02}-{day:02}" + ("" if year > 0 else " BC")


def timestamp_text(micros: int) -> str:
    if micros in _INFINITE:
        return "infinity" if micros > 0 else "-infinity"
    days, within = divmod(micros, DAY)
    date, _, era = date_text(days).partition(" ")
    seconds, fraction = divmod(within, 1_000_000)
    text = f"{date} {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    if fraction:
        text += f".{fraction:06}".rstrip("0")
    return text + (f" {era}" if era else "")


_FORMATS = ("%Y", "%m", "%d", "%H", "%M", "%S")


def pattern(text: str) -> tuple[str, ...] | None:
    """The parts of a to_char format, as sqlglot writes it; None when there is something else in it than we know."""
    parts = tuple(re.findall(r"%[A-Za-z]|[-/.:, ]", text))
    known = all(len(part) == 1 or part in _FORMATS for part in parts)
    return parts if known and "".join(parts) == text and parts else None


def formatted(parts: tuple[str, ...], micros: int) -> str:
    """to_char of a timestamp in the years 1 to 9999."""
    if not _YEAR_1 <= micros < _YEAR_10000:
        raise ArithmeticError("to_char of a year that has not four digits")
    days, within = divmod(micros, DAY)
    year, month, day = civil(days)
    seconds = within // 1_000_000
    values = {"%Y": f"{year:04}", "%m": f"{month:02}", "%d": f"{day:02}"}
    values |= {"%H": f"{seconds // 3600:02}", "%M": f"{seconds // 60 % 60:02}", "%S": f"{seconds % 60:02}"}
    return "".join([values.get(part, part) for part in parts])


def make_date(year: int, month: int, day: int) -> int:
    """make_date: a negative year is before Christ."""
    return date_in_range(_checked_days(str(abs(year)), str(month), str(day), " BC" if year < 0 else None))


def to_timestamp(days: int) -> int:
    return days if days in _INFINITE else timestamp_in_range(days * DAY)


def to_date(micros: int) -> int:
    return micros if micros in _INFINITE else micros // DAY


def add_days(days: int, count: int) -> int:
    return days if days in _INFINITE else date_in_range(days + count)


def days_between(later: int, earlier: int) -> int:
    if later in _INFINITE or earlier in _INFINITE:
        raise ArithmeticError("cannot subtract infinite dates")
    return later - earlier


def truncate(unit: str, micros: int) -> int:
    """date_trunc of a timestamp. `unit` is one of TRUNCATIONS."""
    if micros in _INFINITE:
        return micros
    step = _UNITS.get(unit)
    if step is not None:
        return timestamp_in_range(micros - micros % step)
    days = micros // DAY
    if unit == "week":  # Monday; 1970-01-01 was a Thursday
        return timestamp_in_range((days - (days + 3) % 7) * DAY)
    year, month, _ = civil(days)
    if unit == "month":
        return timestamp_in_range(days_of(year, month, 1) * DAY)
    if unit == "quarter":
        return timestamp_in_range(days_of(year, (month - 1) // 3 * 3 + 1, 1) * DAY)
    return timestamp_in_range(days_of(_first_year(unit, year), 1, 1) * DAY)


def extract(field: str, micros: int) -> Decimal | None:
    """extract(field from timestamp). `field` is one of DATE_FIELDS and TIME_FIELDS."""
    if micros in _INFINITE:
        return Decimal("Infinity" if micros > 0 else "-Infinity") if field in _UNBOUNDED else None
    days, within = divmod(micros, DAY)
    if field in DATE_FIELDS:
        return Decimal(_date_field(field, days))
    if field == "second":
        return Decimal(within % 60_000_000).scaleb(-6)
    return Decimal(within // 3_600_000_000 if field == "hour" else within // 60_000_000 % 60)


def extract_date(field: str, days: int) -> Decimal | None:
    """extract(field from date). `field` is one of DATE_FIELDS."""
    if days in _INFINITE:
        return extract(field, days)
    return Decimal(_date_field(field, days))


def _date_field(field: str, days: int) -> int:
    year, month, day = civil(days)
    if field == "year":
        return _no_year_zero(year)
    if field == "dow":
        return (days + 4) % 7
    if field == "isodow":
        return (days + 3) % 7 + 1
    if field == "doy":
        return days - days_of(year, 1, 1) + 1
    if field in {"week", "isoyear"}:
        iso_year, week = _iso_week(days, year)
        return week if field == "week" else _no_year_zero(iso_year)
    return {"month": month, "day": day, "quarter": (month - 1) // 3 + 1}[field]


def _iso_week(days: int, year: int) -> tuple[int, int]:
    for candidate in (year + 1, year, year - 1):
        fourth = days_of(candidate, 1, 4)  # always in week 1
        monday = fourth - (fourth + 3) % 7
        if days >= monday:
            return candidate, (days - monday) // 7 + 1
    raise AssertionError("a day is in the ISO year before its own at the earliest")


def _no_year_zero(year: int) -> int:
    return year if year > 0 else year - 1


def _first_year(unit: str, year: int) -> int:
    """The first year of the year, decade, century or millennium (astronomical numbering)."""
    if unit == "year":
        return year
    if unit == "decade":
        return year // 10 * 10
    length = 100 if unit == "century" else 1000
    return (year - 1) // length * length + 1  # centuries begin with the year 1


def _checked_days(year: str, month: str, day: str, era: str | None) -> int:
    number = int(year)
    if number == 0:
        raise ValueError("there is no year 0")
    astronomical = 1 - number if era else number
    days = days_of(astronomical, int(month), int(day)) if 1 <= int(month) <= 12 else 0
    if civil(days) != (astronomical, int(month), int(day)):
        raise ValueError("no such day")
    return days
