"""MariaDB's errors in our words."""

from __future__ import annotations

import pymysql
import pytest

from cdc.errors import Transient
from cdc.target.mariadb_errors import translate


@pytest.mark.parametrize(
    ("number", "said"),
    [(1213, "deadlock (1213)"), (1205, "a lock was not granted in time (1205)"), (1040, "1040")],
)
def test_what_passes_is_called_by_its_name(number: int, said: str) -> None:
    found = translate(pymysql.OperationalError(number, "Try restarting transaction, 'a value'"))
    assert isinstance(found, Transient)
    assert found.what == f"the target answered {said}"
