"""`cdc run --profile` on the real stack."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fix_pipeline import Maker

pytestmark = pytest.mark.stack


def test_run_says_where_its_time_went(pipelines: Maker, tmp_path: Path) -> None:
    pipeline = pipelines()
    shutil.copy(pipeline.mapping_file, tmp_path)
    files = ["--mappings", str(tmp_path), "--connections", str(pipeline.connections_file)]
    words = [pipeline.name, "--workers", "2", "--until-caught-up", "--profile", *files]
    command = [sys.executable, "-c", "from cdc.cli.main import main; main()", "run", *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    shown = {line.split("  ")[1].strip(): line.split() for line in done.stdout.splitlines() if "  " in line.strip()}
    rows = [int(word.replace(",", "")) for word in shown["rows"][1:]]
    assert len(rows) == 2, done.stdout
    assert sum(rows) == sum(pipeline.watermarks().values()) > 0
    assert {"idle", "waiting for broker", "decoding", "mapping", "encoding", "waiting for target"} <= shown.keys()
