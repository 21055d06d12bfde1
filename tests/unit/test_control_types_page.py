"""connect-configs/TYPES.md says what the code does."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc.cli.types import types
from cdc.control import types_page
from cdc.control.required import required_settings

PAGE = Path(__file__).parents[2] / "connect-configs" / types_page.FILE_NAME


def test_the_page_is_up_to_date() -> None:
    assert PAGE.read_text(encoding="utf-8") == types_page.text(), f"run: {types_page.COMMAND}"


def test_every_setting_is_on_it_once() -> None:
    text = types_page.text()
    for name in {*required_settings("postgresql"), *required_settings("mariadb")}:
        assert text.count(f"| `{name}` |") == 1


def test_tables_are_whole() -> None:
    """Every row has as many cells as its header, whatever stands in them."""
    width = 0
    for line in types_page.text().splitlines():
        cells = line.replace("\\|", "").count("|")
        assert not cells or cells == (width or cells)
        width = cells


def test_the_command_writes_and_prints_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "connect-configs").mkdir()
    types(write=True)
    assert (tmp_path / "connect-configs" / "TYPES.md").read_text(encoding="utf-8") == types_page.text()
    types()
    assert capsys.readouterr().out.strip() == types_page.text().strip()
