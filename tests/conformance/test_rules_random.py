"""Random scripts of changes and foreign writes: real targets equal the oracle under every kind of rule."""

from __future__ import annotations

import itertools
from contextlib import closing

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.model import DeletePolicy
from tests import rules
from tests.fix_targets import Bench, MemoryBench
from tests.rules_cases import RULE_SETS, check, scripts

_numbers = itertools.count(1)


@pytest.mark.parametrize("name", RULE_SETS)
@settings(max_examples=12, deadline=None, suppress_health_check=(HealthCheck.function_scoped_fixture,))
@given(
    steps=scripts(),
    policy=st.sampled_from([DeletePolicy.DELETE, DeletePolicy.SOFT]),
    single=st.booleans(),
    blocks=st.booleans(),
)
def test_random_scripts(
    bench: Bench, name: str, steps: list[rules.Step], policy: DeletePolicy, single: bool, blocks: bool
) -> None:
    with closing(bench.target()) as target:
        if not target.capabilities.rules:
            pytest.skip("decides no conflicts")
    table = rules.table(f"ruled_{next(_numbers)}", RULE_SETS[name], policy)
    check(MemoryBench() if isinstance(bench, MemoryBench) else bench, table, steps, single=single, blocks=blocks)
