"""A worker process for the fault tests: `python -m tests.faults.run_worker` with the spec as JSON on the command line.

The same body as under `cdc run`; started without its supervisor so that a test sees how each process ends.
"""

from __future__ import annotations

import json
import os
import sys
from multiprocessing import Pipe
from pathlib import Path

from cdc.engine.build import WorkerSpec
from cdc.engine.supervisor import work


def main() -> None:
    told = json.loads(sys.argv[1])
    spec = WorkerSpec(
        mapping_file=Path(told.pop("mapping_file")), connections_file=Path(told.pop("connections_file")), **told
    )
    ours, theirs = Pipe(duplex=False)  # nobody listens to its last words, but they must have a place to go
    with ours, theirs:
        work(spec, os.getppid(), theirs)


if __name__ == "__main__":
    main()
