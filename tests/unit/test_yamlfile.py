"""cdc/yamlfile.py: YAML means what it shows, and every part of it has a place."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from cdc.errors import Usage
from cdc.mapping.diagnostics import from_yaml
from cdc.yamlfile import Problem, Span, YamlError, parse, read


def _problems(text: str) -> tuple[Problem, ...]:
    with pytest.raises(YamlError) as raised:
        parse(text, "x.yaml")
    return raised.value.problems


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("NO", "NO"),
        ("yes", "yes"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2024-01-01", "2024-01-01"),
        ("1_000", "1_000"),
        ("0b1", "0b1"),
        ("=", "="),
        ("<<", "<<"),
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
        ("-.inf", Decimal("-Infinity")),
        (".Inf", Decimal("Infinity")),
        ("'12'", "12"),
        ('"true"', "true"),
        ("''", ""),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_scalars_follow_yaml_1_2(text: str, value: Any) -> None:
    found = parse(f"a: {text}", "x.yaml").value["a"]
    assert (found, type(found)) == (value, type(value))


def test_not_a_number() -> None:
    assert parse(".nan", "x.yaml").value.is_nan()


def test_keys_are_text() -> None:
    assert parse("no: 1\non: 2\n3: x\nnull: y", "x.yaml").value == {"no": 1, "on": 2, "3": "x", "null": "y"}


def test_an_empty_file_is_null() -> None:
    assert parse("", "x.yaml").value is None


def test_every_part_has_a_place() -> None:
    document = parse("a:\n  - b: x\n    ccc: [1, two]\n    d: {e: f}\n", "x.yaml")
    assert document.span(("a", 0, "ccc"), key=True) == Span(3, 5, 3, 8)
    assert document.span(("a", 0, "ccc", 1)) == Span(3, 14, 3, 17)
    assert document.span(("a", 0, "d", "e")) == Span(4, 12, 4, 13)
    assert document.span(("a", 0, "missing")) == document.span(("a", 0))


def test_places_as_text() -> None:
    document = parse("a:\n  b: 1\n  c:\n    - x\n", "x.yaml")
    assert document.where() == "x.yaml:1:1"
    assert document.where(("a", "b")) == "x.yaml:2:6"
    assert document.where(("a", "c"), key=True) == "x.yaml:3:3"
    assert document.where(("a", "c", 9, "gone")) == document.where(("a", "c")) == "x.yaml:4:5"


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
    document = parse(text, "x.yaml")
    key = text[0]
    start = document.value[key].index("name")
    assert document.place_in((key,), start, 4) == Span(line, column, line, column + 4)


def test_a_text_with_escapes_is_pointed_at_whole() -> None:
    document = parse("a: 'it''s name'", "x.yaml")
    assert document.place_in(("a",), 5, 4) == document.span(("a",))


def test_a_key_written_twice_shows_both_places() -> None:
    with pytest.raises(Usage) as raised:
        parse("a: 1\nb: 2\na: 3\n", "x.yaml")
    assert (raised.value.where, raised.value.what) == ("x.yaml:3:1", "'a' is written twice, first in line 1")
    (problem,) = _problems("a: 1\nb: 2\na: 3\n")
    assert (problem.span.line, problem.first) == (3, Span(1, 1, 1, 2))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: &x 1\nb: *x", [("yaml-anchor", 1, 4), ("yaml-anchor", 2, 4)]),
        ("a: *gone", [("yaml-anchor", 1, 4)]),
        ("a: !!str 1", [("yaml-tag", 1, 4)]),
        ("a: !secret x", [("yaml-tag", 1, 4)]),
        ("a: 1\n---\nb: 2", [("yaml-documents", 2, 1)]),
        ("? [a]\n: 1", [("yaml-key", 1, 3)]),
        ("a:\n\t- b", [("yaml-syntax", 2, 1)]),
        ("a: 'x", [("yaml-syntax", 1, 6)]),
        ("[" * 40 + "]" * 40, [("yaml-depth", 1, 34)]),
    ],
)
def test_surprises_are_refused(text: str, found: list[tuple[str, int, int]]) -> None:
    assert [(problem.code, problem.span.line, problem.span.column) for problem in _problems(text)] == found


@pytest.mark.parametrize(
    ("text", "word"), [("a:\n\t- b", "not tabs"), ("columns: *\n", "quotes"), ("*: {}\n", "quotes")]
)
def test_help_for_what_people_write(text: str, word: str) -> None:
    assert word in (_problems(text)[0].help or "")


def test_a_mapping_shows_them_like_its_own_findings() -> None:
    with pytest.raises(YamlError) as raised:
        parse("a: 1\na: !x 2\n", "m.yaml")
    again, tag = from_yaml(raised.value).diagnostics
    assert (again.code, again.where, again.notes[0].where) == ("duplicate-key", "m.yaml:2:1", "m.yaml:1:1")
    assert (tag.code, tag.where, tag.help) == ("yaml-tag", "m.yaml:2:4", "put text in quotes")


def test_a_byte_order_mark_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "bom.yaml").write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert read(tmp_path / "bom.yaml").value == {"a": 1}


@pytest.mark.parametrize(("content", "what"), [(None, "No such file"), (b"a: \xff", "not UTF-8")])
def test_a_file_that_cannot_be_read(tmp_path: Path, content: bytes | None, what: str) -> None:
    path = tmp_path / "x.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(Usage, match=what) as caught:
        read(path)
    assert caught.value.where == str(path)
