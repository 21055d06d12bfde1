"""What several commands share: their common options."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

Mappings = Annotated[Path, Parameter(help="Folder of pipeline files.", env_var="CDC_MAPPINGS")]
Connections = Annotated[Path, Parameter(help="Where everything is: connections.yaml.", env_var="CDC_CONNECTIONS")]
Target = Annotated[
    str | None, Parameter(name=["--target"], help="Only what goes to this target, of pipelines with several.")
]
