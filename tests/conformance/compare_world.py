"""A source, a target and a mapping that the tests of `cdc compare` write to and compare; time is a counter."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg

from cdc.mapping.load import loads
from cdc.reconcile.compare import compare
from cdc.reconcile.comparison import Options
from cdc.reconcile.report import CompareReport, TableReport
from cdc.settings import load
from tests.fix_stack import Database

SETTLE_S = 10.0


@dataclass
class World:
    """A source, a target, and one mapping between them."""

    kind: str
    source: Database
    target: Database
    folder: Path
    hub: psycopg.Connection[Any]
    at_source: Callable[[str], object]
    mapping: str = "{from: public.t, to: public.t}"
    reader: tuple[str, str] | None = None
    """User and password at the source, the administrator's when None."""
    now: float = 0.0
    when_sleeping: Callable[[], object] = field(default=lambda: None)

    def write_files(self) -> tuple[Path, Path]:
        """connections.yaml and the folder of mappings."""
        server, hub = self.source.server, self.target.server
        connections = self.folder / "connections.yaml"
        user, password = self.reader or (server.user, server.password)
        (self.folder / "secrets").write_text(f"source={password}\nhub={hub.password}\n")
        connections.write_text(
            f"sources:\n  s: {{kind: {self.kind}, host: {server.host}, port: {server.port}, user: {user},"
            f' database: {self.source.name}, password: "${{file:secrets:source}}"}}\n'
            f"targets:\n  hub: {{kind: postgresql, host: {hub.host}, port: {hub.port}, user: {hub.user},"
            f' database: {self.target.name}, password: "${{file:secrets:hub}}"}}\n'
        )
        (self.folder / "mappings").mkdir(exist_ok=True)
        (self.folder / "mappings" / "p.yaml").write_text(self.pipeline)
        return connections, self.folder / "mappings"

    @property
    def pipeline(self) -> str:
        return f"pipeline: p\nsource: s\ntarget: hub\ntables:\n  - {self.mapping}\n"

    def both(self, statement: str) -> None:
        self.at_source(statement)
        self.hub.execute(statement)

    def compare_all(self, **more: Any) -> CompareReport:
        connections, _ = self.write_files()
        options = more.pop("options", Options(settle_s=SETTLE_S, values=True))
        return compare(
            load(connections), [loads(self.pipeline)], options=options, clock=lambda: self.now, sleep=self.sleep, **more
        )

    def compare(self) -> TableReport:
        (found,) = self.compare_all().tables
        return found

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.when_sleeping()


def park(world: World, hold: str) -> None:
    world.hub.execute(
        "INSERT INTO cdc.parked (pipeline, target, mapping, hold, topic, partition, record_offset, headers,"
        " timestamp_ms, position, reason, error) VALUES ('p', 'hub', 'p/public.t', %s, 't', 0,"
        " (SELECT count(*) FROM cdc.parked), '[]', 0, '', 'for the test', '')",
        (hold,),
    )
