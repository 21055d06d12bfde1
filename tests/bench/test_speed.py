"""A guard against getting slow: rows/s beside the database's own limit in the same run, so that a slow machine is no
failure. A worker that decodes, maps and writes reaches about 0.8 of what hand-written SQL does with ready rows."""

from __future__ import annotations

from pathlib import Path

import pytest

from cdc.stack import Stack
from tests.bench.applier import applier
from tests.bench.limit import by_hand
from tests.bench.workloads import workloads
from tests.bench.world import World

pytestmark = pytest.mark.stack
ROUNDS = 3
LEAST = 0.35
"""Loose: the best of three rounds on a quiet machine is twice this."""


def test_no_slower_than_a_third_of_the_limit(stack: Stack, tmp_path: Path) -> None:
    world = World(stack, tmp_path)
    workload = next(each for each in workloads(60_000) if each.name == "snapshot")
    source = world.source_of(workload)
    ratios = []
    try:
        for _ in range(ROUNDS):
            with world.target() as target:
                mine = applier("librdkafka")(world, source, workload, target)
            with world.target() as target:
                limit = by_hand(world, source, workload, target)
            ratios.append(mine.rows_per_s / limit.rows_per_s)
    finally:
        world.drop_database(source.name)
    assert max(ratios) >= LEAST, ratios
