"""The partner: a REST API of somebody else's, which keeps what it is sent and can be told to misbehave."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Final

import httpx

from .components import Component
from .part import HOST, NotReady, Setting, private_file
from .partner_server import CONTROL
from .process import Launch

_PROBE_TIMEOUT_S = 3.0


class PartnerPart:
    """The server of partner_server.py; what it holds stays over restarts."""

    name: Final = "partner"
    stop_signal: Final = signal.SIGTERM
    version: Final = "1"

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self._secret = setting.home.config("partner.secret")
        self.port = setting.choices.ports.get("partner", 0)  # 0: the home is an older version's

    @staticmethod
    def needs(*, jdbc_sink: bool) -> tuple[Component, ...]:
        return ()

    def prepare(self) -> None:
        private_file(self._setting, self._secret, self._setting.choices.partner_secret)

    def launch(self) -> Launch:
        home = self._setting.home.path
        words = ("--port", str(self.port), "--secret", str(self._secret))
        journal = ("--journal", str(home / "data" / "partner.jsonl"))
        ours = str(Path(__file__).parents[2])  # the programs of this very checkout
        command = (sys.executable, "-m", "cdc.stack.partner_server", *words, *journal)
        return Launch(command, cwd=home, environment={"PYTHONPATH": ours})

    def configuration(self) -> str:
        return ""

    def probe(self) -> None:
        try:
            with httpx.Client(timeout=_PROBE_TIMEOUT_S, trust_env=False) as client:
                client.get(f"http://{HOST}:{self.port}{CONTROL}").raise_for_status()
        except httpx.HTTPError as error:
            raise NotReady(f"no answer at {HOST}:{self.port}: {type(error).__name__}") from error
