"""Rows as lines of fields between tabs, the text of PostgreSQL's COPY and MariaDB's LOAD DATA, by functions that are
generated for a column list.

None becomes \\N. A value that its column cannot hold raises `Poison`, which names the column. A line with exactly the
tabs, line ends and backslashes that were written on purpose needs no escapes; any other is made again field by field.
Whole blocks are looked at at once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from cdc.errors import Poison
from cdc.model import UNAVAILABLE, Value

Row: TypeAlias = Sequence[Value]
Text: TypeAlias = Callable[[Any], str]
Line: TypeAlias = Callable[[Row], str]
Block: TypeAlias = Callable[[Sequence[Any], Sequence[str]], str]

PORTION = 1000
"""Rows of a block made and sent at once: 250 kB of ordinary ones."""

_NAMES: dict[str, Any] = {
    "UNAVAILABLE": UNAVAILABLE,
    "Poison": Poison,
    "TAB": "\t",
    "LF": "\n",
    "BACKSLASH": "\\",
    "NULL": "\\N",
    "HEX": "\\\\x",
}


class Field(NamedTuple):
    """A column. `text` makes the text of a value; None: `str(value)`. `hexadecimal`: the text is two backslashes, an x
    and the value's bytes in hexadecimal."""

    name: str
    text: Text | None
    hexadecimal: bool = False


class Format(NamedTuple):
    """`escape` makes a field of a text; it changes tabs, line ends, backslashes and the `special` characters."""

    escape: Callable[[str], str]
    special: str = ""


def line_builder(fields: Sequence[Field], form: Format) -> Line:
    """One function that makes the line (without its end) of a row's canonical values, \\N of UNAVAILABLE too."""
    if not fields:
        return lambda row: ""  # of a table known by name only, from a truncate that came before any row
    code = _Code(fields, form, "{v} is None or {v} is UNAVAILABLE")
    made: Line = code.function(
        f"def made(row):\n"
        f"    {code.variables} = row\n"
        f"    try:\n"
        f"        text = f'{code.text}'\n"
        f"    except Poison:\n"
        f"        return slowly(row)\n"
        f"    if (\n"
        f"        text.count(TAB) != {len(fields) - 1} or LF in text{code.special}\n"
        f"        or (BACKSLASH in text and text.count(BACKSLASH) != {code.backslashes})\n"
        f"    ):\n"
        f"        return slowly(row)\n"
        f"    return text\n"
    )
    return made


def block_builder(fields: Sequence[Field], form: Format) -> Block:
    """One function that makes the lines of many rows (at least one) without UNAVAILABLE, as one text. Each line ends
    with the row's own text of the second list: all of these have as many more fields and backslashes, and end the
    line."""
    if not fields:
        return lambda rows, ends: ""
    code = _Code(fields, form, "{v} is None")
    made: Block = code.function(
        f"def made(rows, ends):\n"
        f"    try:\n"
        f"        text = ''.join([f'{code.text}{{TAB}}{{end}}' for {code.variables}, end in zip(rows, ends)])\n"
        f"    except Poison:\n"
        f"        return ''.join([f'{{slowly(row)}}{{TAB}}{{end}}' for row, end in zip(rows, ends)])\n"
        f"    number = len(rows)\n"
        f"    tabs = number * ({len(fields)} + ends[0].count(TAB))\n"
        f"    strange = text.count(TAB) != tabs or text.count(LF) != number{code.special}\n"
        f"    if not strange:\n"
        f"        backslashes = text.count(BACKSLASH) - number * ends[0].count(BACKSLASH)\n"
        f"        strange = backslashes and backslashes != sum([{code.backslashes} for {code.variables} in rows])\n"
        f"    if strange:\n"
        f"        return ''.join([f'{{slowly(row)}}{{TAB}}{{end}}' for row, end in zip(rows, ends)])\n"
        f"    return text\n"
    )
    return made


def portions(make: Block, rows: Sequence[Any], ends: Sequence[str]) -> Iterator[str]:
    """The lines of all rows."""
    for start in range(0, len(rows), PORTION):
        yield make(rows[start : start + PORTION], ends[start : start + PORTION])


class _Code:
    """The pieces of code for a column list. `missing`: when the variable v has no value."""

    def __init__(self, fields: Sequence[Field], form: Format, missing: str) -> None:
        self._names = {**_NAMES, "slowly": _field_by_field(fields, form)}
        texts, backslashes = [], []
        for index, field in enumerate(fields):
            value, absent = f"v{index}", missing.format(v=f"v{index}")
            text = value
            if field.hexadecimal:
                text = f"HEX + {value}.hex()"
            elif field.text is not None:
                self._names[f"f{index}"] = field.text
                text = f"f{index}({value})"
            texts.append(f"{{NULL if {absent} else {text}}}")
            backslashes.append(f"(1 if {absent} else 2)" if field.hexadecimal else f"({absent})")
        self.variables = f"({', '.join(f'v{index}' for index in range(len(fields)))},)"
        self.text = "{TAB}".join(texts)
        self.backslashes = " + ".join(backslashes)
        self.special = "".join(f" or {character!r} in text" for character in form.special)

    def function(self, code: str) -> Any:
        exec(code, self._names)
        return self._names["made"]


def _field_by_field(fields: Sequence[Field], form: Format) -> Line:
    """The line with every field escaped, and errors that name the column."""

    def made(field: Field, value: Value) -> str:
        if value is None or value is UNAVAILABLE:
            return "\\N"
        try:
            return form.escape(str(value) if field.text is None else field.text(value))
        except Poison as error:
            raise Poison(f"column {field.name}: {error.what}", reason=error.reason) from error

    return lambda row: "\t".join([made(field, value) for field, value in zip(fields, row, strict=True)])
