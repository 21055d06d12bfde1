"""`cdc types`: what every type of a source becomes, and which connector settings decide correctness."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console
from rich.markdown import Markdown

from cdc.control import types_page

_PAGE = Path("connect-configs") / types_page.FILE_NAME


def types(
    *, write: Annotated[bool, Parameter(help=f"Write the page to {_PAGE} instead.", negative="")] = False
) -> None:
    """Each type of PostgreSQL and MariaDB: what it becomes, whether it is exact, what to do; and the settings."""
    if write:
        _PAGE.write_text(types_page.text(), encoding="utf-8")
        return
    console = Console()
    console.print(
        Markdown(types_page.text()) if console.is_terminal else types_page.text(), markup=False, soft_wrap=True
    )
