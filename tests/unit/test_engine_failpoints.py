"""Failpoints: what CDC_FAILPOINT asks for, and that production has none."""

from __future__ import annotations

import os
import signal

import pytest

from cdc.engine.failpoints import POINTS, from_environment, nothing


def test_production_has_none() -> None:
    assert from_environment({}) is nothing
    for point in POINTS:
        nothing(point)


@pytest.mark.parametrize(("action", "number"), [("kill", signal.SIGKILL), ("stop", signal.SIGSTOP)])
def test_a_signal_at_the_nth_time_and_only_then(
    monkeypatch: pytest.MonkeyPatch, action: str, number: signal.Signals
) -> None:
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, which: sent.append((pid, which)))
    failpoint = from_environment({"CDC_FAILPOINT": f"pre_commit:3:{action}"})
    for _ in range(2):
        failpoint("pre_commit")
        failpoint("post_commit")
    assert sent == []
    failpoint("pre_commit")
    failpoint("pre_commit")
    assert sent == [(os.getpid(), number)]


def test_leaving_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    codes: list[int] = []
    monkeypatch.setattr(os, "_exit", codes.append)
    from_environment({"CDC_FAILPOINT": "mapped:1:exit"})("mapped")
    assert codes == [70]


@pytest.mark.parametrize("text", ["nowhere:1:kill", "mapped:1:explode", "mapped:x:kill", "mapped"])
def test_what_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"unknown|invalid literal|not enough values"):
        from_environment({"CDC_FAILPOINT": text})
