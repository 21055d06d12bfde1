"""`cdc mapping`: check mapping files, show what they may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from cdc.author import cases, scaffold
from cdc.author import explain as explaining
from cdc.cli import mapping_test, shown
from cdc.cli.common import Connections
from cdc.control.feeds import unknown_names
from cdc.errors import Usage
from cdc.mapping import change, functions, schema_json
from cdc.mapping.diagnostics import Format, MappingError, render
from cdc.mapping.load import files_in, load_files
from cdc.mapping.load import load as load_pipeline
from cdc.mapping.mask_checks import clear_copies
from cdc.mapping.model import QualifiedName
from cdc.settings import DEFAULT_PATH, load

app = App(name="mapping", help="Write, check and test mapping files; show what they may say.")
app.command(mapping_test.app)

Output = Annotated[Format, Parameter(name=["--output", "-o"], help="For people, for programs, for pull requests.")]
_FOLDER = Path("mappings")


@app.command
def lint(
    *files: Annotated[Path, Parameter(help="Files or folders of pipelines; default: mappings/.")],
    output: Output = "full",
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Check pipeline files, one by one, against one another, and, where there is a connections.yaml, against the names
    in it and the tables that its connectors capture. Asks no server. Exit code 0: no errors (there may be warnings),
    1: errors, 2: usage.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    paths = [path for given in files or (_FOLDER,) for path in (files_in(given) if given.is_dir() else [given])]
    if not paths:
        raise Usage("there is no pipeline file here", where=str(_FOLDER), hint="name the files, or a folder of them")
    try:
        pipelines = load_files(paths)
        found = [each for pipeline in pipelines for table in pipeline.tables for each in clear_copies(table)]
        found += unknown_names(load(connections), pipelines) if connections.exists() else []
        if found:
            raise MappingError(found)
    except MappingError as error:
        console.print(render(error.diagnostics, output))
        if any(each.severity == "error" for each in error.diagnostics):
            return 1
        found = list(error.diagnostics)
    if output == "json" and not found:
        console.print("[]")
    elif output not in ("json", "github"):
        noun, what = "file" if len(paths) == 1 else "files", "no errors" if found else "nothing found"
        console.print(f"{len(paths)} {noun} checked, {what}")
    return 0


@app.command
def schema(
    *,
    write: Annotated[
        bool, Parameter(help=f"Write both to {_FOLDER}/ instead, where editors look for them.", negative="")
    ] = False,
    tests: Annotated[bool, Parameter(help="Of a file of tests.", negative="")] = False,
) -> None:
    """The JSON Schema of a pipeline file, or of one of tests, which editors complete and check by."""
    if write:
        (_FOLDER / schema_json.FILE_NAME).write_text(schema_json.text(), encoding="utf-8")
        (_FOLDER / cases.SCHEMA_FILE).write_text(cases.schema_text(), encoding="utf-8")
        return
    text = cases.schema_text() if tests else schema_json.text()
    Console(soft_wrap=True, highlight=False, markup=False, emoji=False).print(text, end="")


@app.command(name="functions")
def list_functions() -> None:
    """The functions that SQL expressions may call, the operators on JSON, and what they read beside columns."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for line in (*functions.described(), *change.described()):
        console.print(line)


@app.command
def new(
    source: Annotated[str, Parameter(help="The source, as connections.yaml names it.")],
    /,
    *tables: Annotated[str, Parameter(help="Its tables: schema.table, or database.table in MariaDB.")],
    to: Annotated[
        tuple[str, ...], Parameter(help="The target table of each, in the same order; default: TARGET.table.")
    ] = (),
    target: Annotated[str, Parameter(name=["--target"], help="The target, as connections.yaml names it.")] = "hub",
    pipeline: Annotated[
        str | None, Parameter(help="The pipeline's name; default: the file's, or the source's.")
    ] = None,
    write: Annotated[Path | None, Parameter(help="Write it to this file, which is not there yet.")] = None,
    connections: Connections = DEFAULT_PATH,
) -> None:
    """A first mapping of source tables, from the live catalog: each column with its type and comment, the key, and what
    cannot be captured."""
    if not tables:
        raise Usage("no table is named", hint=f"cdc mapping new {source} schema.table")
    if to and len(to) != len(tables):
        raise Usage(f"{len(tables)} tables, but {len(to)} times --to")
    if write is not None and write.exists():
        raise Usage("the file is there already", where=str(write), hint="write to another, and take over what you want")
    settings = load(connections).source(source)
    found = scaffold.read_tables(settings, tables)
    names = to or tuple(str(QualifiedName(target, table.name)) for table in found)
    name = pipeline or (write.stem if write else source)
    text = scaffold.scaffold(source, settings.kind, found, target, names, name)
    if write is None:
        Console(soft_wrap=True, highlight=False, markup=False, emoji=False).print(text, end="")
    else:
        write.write_text(text, encoding="utf-8")
        Console(soft_wrap=True, highlight=False, markup=False).print(f"{write} is written: cdc mapping lint {write}")


@app.command
def explain(
    file: Annotated[Path, Parameter(help="The pipeline file.")],
    /,
    *tables: Annotated[str, Parameter(help="Only these target or source tables: schema.table.")],
    output: shown.Output = "table",
    connections: Connections = DEFAULT_PATH,
) -> None:
    """What each target column becomes: where it comes from, its type in each kind of database; and which target columns
    read a source column. Asks the source's catalog for its columns."""
    found = explaining.explain(load(connections), load_pipeline(file), tables)
    if not found:
        raise Usage(f"no mapping of {', '.join(tables)}", where=str(file))
    if output == "json":
        shown.print_json([each.to_dict() for each in found])
        return
    for each in found:
        _print_explained(each)


def _print_explained(found: explaining.TableExplained) -> None:
    console = shown.console()
    console.print(f"{found.source}: {found.table} → {found.to}  ({found.where})")
    table = shown.table("column", "from", "postgresql", "mariadb", "sqlite", "")
    for column in found.columns:
        by = column.by if column.origin == "copy" else f"{column.origin}: {column.by}"
        mark = "key" if column.key else "" if column.nullable else "not null"
        table.add_row(column.name, by, *(column.types[kind] for kind in ("postgresql", "mariadb", "sqlite")), mark)
    console.print(table)
    back = shown.table("source column", "becomes")
    for name, targets in found.used.items():
        back.add_row(name, ", ".join(targets) or "(left out)")
    console.print(back)
    for warning in found.warnings:
        console.print(f"warning: {warning}")
