"""Changes and what somebody else writes, in any order: the memory target equals the oracle under every kind of rule."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cdc.model import DeletePolicy
from tests import rules
from tests.fix_targets import MemoryBench
from tests.rules_cases import RULE_SETS, check, scripts


@pytest.mark.parametrize("name", RULE_SETS)
@settings(max_examples=250, deadline=None)
@given(
    steps=scripts(),
    policy=st.sampled_from([DeletePolicy.DELETE, DeletePolicy.SOFT]),
    single=st.booleans(),
    blocks=st.booleans(),
)
def test_random_scripts(name: str, steps: list[rules.Step], policy: DeletePolicy, single: bool, blocks: bool) -> None:
    check(MemoryBench(), rules.table("random", RULE_SETS[name], policy), steps, single=single, blocks=blocks)
