"""The rooms of cdc/ and the arrows between them (DESIGN.md), read from the imports; and a few rules of the house."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LONGEST_FILE = 500

_LEAVES = {
    "model",
    "blocks",
    "moments",
    "decisions",
    "rules",
    "errors",
    "settings",
    "entries",
    "references",
    "keys",
    "retry",
    "templates",
    "yamlfile",
}
_DB = _LEAVES | {"db"}
_ENGINE = _DB | {"source", "mapping", "conflict", "target", "engine"}
_COMMANDED = {"author", "reconcile", "control"}

MAY_IMPORT: dict[str, set[str]] = {
    **dict.fromkeys(_LEAVES, _LEAVES),
    "db": _LEAVES,
    **dict.fromkeys(("source", "mapping", "conflict", "target"), _DB),
    "engine": _ENGINE,
    **dict.fromkeys(_COMMANDED, _ENGINE),
    "author": _ENGINE | {"reconcile", "control"},
    "demo": _ENGINE | _COMMANDED | {"stack"},
    "ops": _ENGINE | _COMMANDED,
    "cli": _ENGINE | _COMMANDED | {"demo", "ops", "stack"},
    "stack": {"errors", "retry"},
}
"""Beside itself, the rooms that a room may import."""

ONLY_IN: dict[str, tuple[str, ...]] = {
    "tenacity": ("cdc/retry.py",),
    "kafka": ("cdc/source/", "cdc/stack/"),
    "confluent_kafka": ("cdc/source/", "cdc/stack/"),
    "psycopg": ("cdc/db/", "cdc/target/", "cdc/stack/", "cdc/demo/"),
    "pymysql": ("cdc/db/", "cdc/target/", "cdc/stack/", "cdc/demo/"),
    "sqlite3": ("cdc/target/sqlite", "cdc/reconcile/local_staging.py"),
    "subprocess": ("cdc/stack/",),
    "multiprocessing": ("cdc/engine/supervisor.py", "cdc/demo/"),
}
"""Where a library may be imported: the beginnings of file names."""

TOP_LEVEL = {"pyproject.toml", "README.md", "LICENSE", "Makefile", "cdc", "mappings", "connect-configs", "tests"}


def _name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


MODULES = {_name(path): path for path in sorted((ROOT / "cdc").rglob("*.py"))}
TESTS = {_name(path): path for path in sorted((ROOT / "tests").rglob("*.py"))}


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """Every module that a file imports, by its full name, with the line."""
    package = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) - node.level + 1] if node.level else ()
            module = ".".join((*above, *([node.module] if node.module else [])))
            # `from cdc import yamlfile` imports a module by its name in the list.
            yield from ((f"{module}.{alias.name}" if module == "cdc" else module, node.lineno) for alias in node.names)


def room(name: str) -> str:
    """'cdc/db/catalog.py' and 'cdc.db.catalog' are in the room db, 'cdc/model.py' in model."""
    parts = name.removesuffix(".py").replace("/", ".").split(".")
    return "" if parts == ["cdc", "__init__"] else parts[1]


def wrong_imports(name: str, path: Path) -> Iterator[str]:
    here = room(name)
    for module, line in imports(path):
        library = module.split(".")[0]
        if library == "cdc":
            there = room(module)
            if there != here and there not in MAY_IMPORT.get(here, set()):
                yield f"{name}:{line}: {here or 'cdc'} must not import {there}"
        elif library in ONLY_IN and not name.startswith(ONLY_IN[library]):
            yield f"{name}:{line}: {library} is imported in {', '.join(ONLY_IN[library])} only"


def test_imports_follow_the_arrows() -> None:
    assert [wrong for name, path in MODULES.items() for wrong in wrong_imports(name, path)] == []


def test_the_arrows_make_no_ring() -> None:
    """A room whose neighbours may import it back would be no room; leaves are one."""
    for here, others in MAY_IMPORT.items():
        for there in others - ({here} | (_LEAVES if here in _LEAVES else set())):
            assert here not in MAY_IMPORT[there], f"{here} and {there} may import one another"


@pytest.mark.parametrize(
    ("name", "text", "wrong"),
    [
        ("cdc/db/x.py", "from cdc.source.values import Wire", "cdc/db/x.py:1: db must not import source"),
        ("cdc/db/x.py", "from cdc import engine, errors", "cdc/db/x.py:1: db must not import engine"),
        ("cdc/stack/x.py", "from ..settings import load", "cdc/stack/x.py:1: stack must not import settings"),
        ("cdc/engine/x.py", "def f():\n    import psycopg.sql", "cdc/engine/x.py:2: psycopg is imported in"),
        ("cdc/stack/x.py", "from .part import Part\nimport subprocess, kafka", None),
    ],
)
def test_this_test_sees(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, text: str, wrong: str | None
) -> None:
    monkeypatch.setattr(f"{__name__}.ROOT", tmp_path)
    path = tmp_path / name
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    found = list(wrong_imports(name, path))
    assert [each.startswith(wrong) for each in found] == [True] if wrong else found == []


def test_every_room_says_what_it_is_for() -> None:
    folders = {path.parent for path in MODULES.values()}
    assert {path.name for path in folders} - {"cdc"} == {
        each for each in MAY_IMPORT if (ROOT / "cdc" / each).is_dir()
    }, "a folder of cdc/ without its line in MAY_IMPORT, or without modules"
    for folder in sorted(folders):
        text = (folder / "__init__.py").read_text(encoding="utf-8")
        said = ast.get_docstring(ast.parse(text)) or ""
        assert len(said.splitlines()) >= 3, f"{_name(folder)}/__init__.py does not say what the room is for"
        if folder.name != "cdc":
            assert "may be changed here" in said or "will live here" in said, _name(folder)


def test_every_file_begins_with_its_purpose() -> None:
    without = [name for name, path in MODULES.items() if not ast.get_docstring(ast.parse(path.read_text()))]
    assert without == []


def test_files_stay_readable() -> None:
    sizes = {name: len(path.read_text().splitlines()) for name, path in {**MODULES, **TESTS}.items()}
    assert {name: lines for name, lines in sizes.items() if lines > LONGEST_FILE} == {}


def test_no_test_sleeps() -> None:
    """They wait for conditions, with a deadline (tests/waiting.py). Measurements are no tests: they sample and pace."""
    found = []
    for name, path in TESTS.items():
        if name.startswith("tests/bench/"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            attribute = isinstance(node, ast.Attribute) and node.attr == "sleep" and isinstance(node.value, ast.Name)
            if attribute and node.value.id in {"time", "asyncio"}:
                found.append(f"{name}:{node.lineno}")
            if isinstance(node, ast.ImportFrom) and node.module in {"time", "asyncio"}:
                found += [f"{name}:{node.lineno}" for alias in node.names if alias.name == "sleep"]
    assert found == []


def test_the_top_level_is_what_it_should_be() -> None:
    ignored = [line.strip("/") for line in (ROOT / ".gitignore").read_text().split()]
    names = {path.name for path in ROOT.iterdir() if not path.name.startswith(".")}
    assert {name for name in names if not any(fnmatch(name, pattern) for pattern in ignored)} == TOP_LEVEL
