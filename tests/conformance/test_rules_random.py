"""Random scripts of changes and foreign writes: real targets equal the oracle under every kind of rule."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cdc.model import DeletePolicy
from tests import rules
from tests.fix_targets import Bench
from tests.rules_cases import RULE_SETS, check, scripts


@pytest.mark.parametrize("name", RULE_SETS)
@settings(max_examples=12, deadline=None, suppress_health_check=(HealthCheck.function_scoped_fixture,))
@given(
    steps=scripts(),
    policy=st.sampled_from([DeletePolicy.DELETE, DeletePolicy.SOFT]),
    single=st.booleans(),
    blocks=st.booleans(),
)
def test_random_scripts(
    ruled: Bench, name: str, steps: list[rules.Step], policy: DeletePolicy, single: bool, blocks: bool
) -> None:
    check(ruled, rules.new_table(RULE_SETS[name], policy), steps, single=single, blocks=blocks)
