"""cdc/yamlfile.py: YAML means what it shows, and every value knows its place."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from cdc.errors import Usage
from cdc.yamlfile import parse, read


def test_words_of_yaml_1_1_are_texts() -> None:
    text = "[NO, yes, on, 1:30, 2026-01-05, 1_000, 0b1, =, <<]"
    assert parse(text, "x.yaml").data == ["NO", "yes", "on", "1:30", "2026-01-05", "1_000", "0b1", "=", "<<"]


def test_the_core_schema() -> None:
    text = "[1, -2, 010, 0x1f, 0o17, 1.5, .5, 1e3, -.inf, ~, null, true, False, '1', \"true\"]"
    expected = [1, -2, 10, 31, 15, 1.5, 0.5, 1000.0, -math.inf, None, None, True, False, "1", "true"]
    assert parse(text, "x.yaml").data == expected
    assert math.isnan(parse(".nan", "x.yaml").data)


def test_an_empty_value_is_null_and_an_empty_file_too() -> None:
    assert parse("a:\nb: ''\n", "x.yaml").data == {"a": None, "b": ""}
    assert parse("", "x.yaml").data is None


def test_places() -> None:
    document = parse("a:\n  b: 1\n  c:\n    - x\n    - {d: e}\n", "x.yaml")
    assert document.mark(("a", "b")) == (2, 6)
    assert document.mark(("a", "c", 1, "d")) == (5, 11)
    assert document.where(("a", "c", 9, "gone")) == "x.yaml:4:5"
    assert document.where(()) == "x.yaml:1:1"
    assert document.mark(("a", "c"), key=True) == (3, 3)
    assert document.mark(("a", "c")) == (4, 5)


@pytest.mark.parametrize(
    ("text", "where", "said"),
    [
        ("a: 1\nb: 2\na: 3\n", "x.yaml:3:1", "written twice, first in line 1"),
        ("a:\n\tb: 1\n", "x.yaml:2:1", "cannot start"),
        ("a: !secret x\n", "x.yaml:1:4", "tag"),
        ("? [a]\n: 1\n", "x.yaml:1:3", "a key must be a word"),
        ("a: *gone\n", "x.yaml:1:4", "undefined alias"),
        ("a: 1\n---\nb: 2\n", "x.yaml:2:1", "another document"),
        ("a: 'x\n", "x.yaml:2:1", "end of stream"),
    ],
)
def test_what_is_refused(text: str, where: str, said: str) -> None:
    with pytest.raises(Usage) as caught:
        parse(text, "x.yaml")
    assert caught.value.where == where
    assert said in caught.value.what


def test_a_tab_gets_a_hint() -> None:
    with pytest.raises(Usage, match="not tabs"):
        parse("a:\n\tb: 1\n", "x.yaml")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(Usage) as caught:
        read(tmp_path / "gone.yaml")
    assert caught.value.where == str(tmp_path / "gone.yaml")
