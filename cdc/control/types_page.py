"""The generated page connect-configs/TYPES.md: what every type becomes, and the settings that decide correctness."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from cdc.control.required import Required, required_settings
from cdc.source.refusals import documentation

FILE_NAME = "TYPES.md"
COMMAND = "cdc types --write"
_TITLES = {"postgresql": "PostgreSQL", "mariadb": "MariaDB"}


def text() -> str:
    """The page as it stands in the file."""
    return "\n".join(_lines()) + "\n"


def _lines() -> Iterator[str]:
    yield "# Types and settings"
    yield ""
    yield f"Made by `{COMMAND}` from the tables that the decoder and the checks read; do not edit."
    yield ""
    yield "A column is *exact*, or *refused*: no mapping may read it. *Exact with a condition* says which values do not"
    yield "arrive as they are, and how to find them; those that can be recognised are *parked* with their record."
    for kind in ("postgresql", "mariadb"):
        yield from ("", f"## Types of {_TITLES[kind]}", "")
        rows = documentation(kind)
        yield from _table(
            ("type", "becomes", "carried", "why", "what to do"),
            ((_codes(row.names), row.kind, row.verdict, row.reason, row.advice) for row in rows),
        )
    yield from ("", "## Settings of a connector", "")
    yield "Without what *must* be so data is lost, changed or reordered in silence: registration and the start of a"
    yield "pipeline refuse. What *should* be so is costly or inconvenient to be without. `cdc source check` tells both."
    postgresql, mariadb = required_settings("postgresql"), required_settings("mariadb")
    common = {name: rule for name, rule in postgresql.items() if mariadb.get(name) == rule}
    for title, settings in (
        ("Every connector", common),
        ("PostgreSQL", _without(postgresql, common)),
        ("MariaDB", _without(mariadb, common)),
    ):
        yield from ("", f"### {title}", "")
        yield from _table(
            ("setting", "value", "why"),
            ((f"`{name}`", _value(rule), rule.why) for name, rule in settings.items()),
        )


def _without(settings: Mapping[str, Required], others: Mapping[str, Required]) -> dict[str, Required]:
    return {name: rule for name, rule in settings.items() if name not in others}


def _value(rule: Required) -> str:
    verb = "must" if rule.severity == "error" else "should"
    if rule.values == ("",):
        return f"{verb} not be set"
    return f"{verb} be " + (" or ".join(f"`{value}`" for value in rule.values) or "set")


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _table(header: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    yield "| " + " | ".join(header) + " |"
    yield "|" + " --- |" * len(header)
    for row in rows:
        yield "| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |"
