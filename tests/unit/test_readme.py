"""What the README says that can be checked: its links lead somewhere, its table of targets is what they declare."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cdc.engine.targets import capabilities_of
from cdc.entries import TARGET_KINDS
from cdc.settings import load

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINKS = sorted(set(re.findall(r"\]\(([^)#:]+)\)", README)))

MINIMAL = {
    "postgresql": "{kind: postgresql, host: h, port: 1, database: d, user: u}",
    "mariadb": "{kind: mariadb, host: h, port: 1, database: d, user: u}",
    "sqlite": "{kind: sqlite, path: p.db}",
    "rest": "{kind: rest, url: 'https://h/'}",
}
"""The shortest entry of each kind."""


@pytest.mark.parametrize("link", LINKS)
def test_links_lead_somewhere(link: str) -> None:
    assert (ROOT / link).exists()


@pytest.mark.parametrize("kind", TARGET_KINDS)
def test_the_table_of_targets_is_what_they_declare(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "connections.yaml"
    path.write_text(f"targets:\n  t: {MINIMAL[kind]}\n", encoding="utf-8")
    declared = capabilities_of(load(path).destination("t"))
    (row,) = [line for line in README.splitlines() if line.startswith(f"| `{kind}` |")]
    _, _, upsert, makes, writers, limits = (cell.strip() for cell in row.strip("|").split("|"))
    assert upsert == declared.upsert
    assert makes == ("yes" if declared.creates_tables else "no")
    assert writers == ("in turn" if declared.one_writer else "side by side")
    assert limits == ("; ".join(declared.limits) or "-")
