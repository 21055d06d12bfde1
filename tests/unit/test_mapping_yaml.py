"""YAML means what it shows, and every part of it has a place."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from cdc.mapping.diagnostics import MappingError, Span
from cdc.mapping.yaml import parse


def _errors(text: str) -> list[tuple[str, int, int]]:
    with pytest.raises(MappingError) as raised:
        parse(text, "m.yaml")
    return [(found.code, found.span.line, found.span.column) for found in raised.value.diagnostics]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("true", True),
        ("False", False),
        ("tRue", "tRue"),
        ("null", None),
        ("~", None),
        ("", None),
        ("12", 12),
        ("-3", -3),
        ("010", 10),
        ("0o17", 15),
        ("0x1F", 31),
        ("1.10", Decimal("1.10")),
        (".5", Decimal("0.5")),
        ("1e3", Decimal("1e3")),
        ("'12'", "12"),
        ('"true"', "true"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    found = parse(f"a: {text}", "m.yaml").value["a"]
    assert (found, type(found)) == (value, type(value))


def test_keys_are_text() -> None:
    assert parse("no: 1\non: 2\n3: x\nnull: y", "m.yaml").value == {"no": 1, "on": 2, "3": "x", "null": "y"}


def test_every_part_has_a_place() -> None:
    document = parse("a:\n  - b: x\n    ccc: [1, two]\n", "m.yaml")
    assert document.span(("a", 0, "ccc"), key=True) == Span(3, 5, 3, 8)
    assert document.span(("a", 0, "ccc", 1)) == Span(3, 14, 3, 17)
    assert document.span(("a", 0, "missing")) == document.span(("a", 0))


@pytest.mark.parametrize(
    ("text", "line", "column"),
    [
        ("a: lower(name)", 1, 10),
        ("a: 'lower(name)'", 1, 11),
        ('é: "lower(name)"', 1, 11),
        ("a: |\n  lower(\n    name)\n", 3, 5),
        ("a: >-\n  lower(\n  name)\n", 3, 3),
        ("a:\n  lower(\n  name)", 3, 3),
    ],
)
def test_a_place_inside_a_text(text: str, line: int, column: int) -> None:
    document = parse(text, "m.yaml")
    key = text[0]
    start = document.value[key].index("name")
    assert document.place_in((key,), start, 4) == Span(line, column, line, column + 4)


def test_a_text_with_escapes_is_pointed_at_whole() -> None:
    document = parse("a: 'it''s name'", "m.yaml")
    assert document.place_in(("a",), 5, 4) == document.span(("a",))


def test_duplicate_keys_show_both_places() -> None:
    with pytest.raises(MappingError) as raised:
        parse("a: 1\nb: 2\na: 3\n", "m.yaml")
    (found,) = raised.value.diagnostics
    assert (found.span.line, found.notes[0].span.line) == (3, 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: &x 1\nb: *x", [("yaml-anchor", 1, 4), ("yaml-anchor", 2, 4)]),
        ("a: !!str 1", [("yaml-tag", 1, 4)]),
        ("a: 1\n---\nb: 2", [("yaml-documents", 2, 1)]),
        ("? [a]\n: 1", [("yaml-key", 1, 3)]),
        ("a:\n\t- b", [("yaml-syntax", 2, 1)]),
        ("a: 'x", [("yaml-syntax", 1, 6)]),
        ("[" * 40 + "]" * 40, [("yaml-depth", 1, 34)]),
    ],
)
def test_surprises_are_refused(text: str, found: list[tuple[str, int, int]]) -> None:
    assert _errors(text) == found


@pytest.mark.parametrize(("text", "word"), [("a:\n\t- b", "blanks"), ("columns: *\n", "quotes"), ("*: {}\n", "quotes")])
def test_help_for_what_people_write(text: str, word: str) -> None:
    with pytest.raises(MappingError) as raised:
        parse(text, "m.yaml")
    assert word in (raised.value.diagnostics[0].help or "")
