"""`cdc mapping`: check mapping files, show what they may say."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from rich.console import Console

from cdc.cli.common import Connections
from cdc.control.feeds import unknown_names
from cdc.errors import Usage
from cdc.mapping import change, functions, schema_json
from cdc.mapping.diagnostics import Format, MappingError, render
from cdc.mapping.load import files_in, load_files
from cdc.settings import DEFAULT_PATH, load

app = App(name="mapping", help="Check mapping files; show what they may say.")

Output = Annotated[Format, Parameter(name=["--output", "-o"], help="For people, for programs, for pull requests.")]
_FOLDER = Path("mappings")


@app.command
def lint(
    *files: Annotated[Path, Parameter(help="Files or folders of pipelines; default: mappings/.")],
    output: Output = "full",
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Check pipeline files, one by one, against one another, and, where there is a connections.yaml, against the names
    in it and the tables that its connectors capture. Asks no server. Exit code 0: nothing found, 1: findings, 2: usage.
    """
    console = Console(soft_wrap=True, highlight=False, markup=False, emoji=False)
    paths = [path for given in files or (_FOLDER,) for path in (files_in(given) if given.is_dir() else [given])]
    if not paths:
        raise Usage("there is no pipeline file here", where=str(_FOLDER), hint="name the files, or a folder of them")
    try:
        pipelines = load_files(paths)
        found = unknown_names(load(connections), pipelines) if connections.exists() else []
        if found:
            raise MappingError(found)
    except MappingError as error:
        console.print(render(error.diagnostics, output))
        return 1
    if output == "json":
        console.print("[]")
    elif output != "github":
        console.print(f"{len(paths)} {'file' if len(paths) == 1 else 'files'} checked, nothing found")
    return 0


@app.command
def schema(
    *,
    write: Annotated[
        bool, Parameter(help=f"Write it to {_FOLDER / schema_json.FILE_NAME} instead.", negative="")
    ] = False,
) -> None:
    """The JSON Schema of a pipeline file, which editors complete and check by."""
    if write:
        (_FOLDER / schema_json.FILE_NAME).write_text(schema_json.text(), encoding="utf-8")
        return
    Console(soft_wrap=True, highlight=False, markup=False, emoji=False).print(schema_json.text(), end="")


@app.command(name="functions")
def list_functions() -> None:
    """The functions that SQL expressions may call, the operators on JSON, and what they read beside columns."""
    console = Console(soft_wrap=True, highlight=False, markup=False)
    for line in (*functions.described(), *change.described()):
        console.print(line)
