"""What checks find: one thing that is not as it must be, why it matters, and the exact text that mends it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from cdc.errors import Terminal


@dataclass(frozen=True)
class Finding:
    """`code`: a short stable word. `where`: file, connector, table or server. `fix`: a line of JSON or a statement of
    SQL, complete, to be pasted. An `error` is refused; a `warning` is only shown."""

    code: str
    severity: Literal["error", "warning"]
    where: str
    what: str
    why: str
    fix: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.severity}[{self.code}] {self.where}: {self.what}\n  why: {self.why}\n  fix: {self.fix}"


def errors(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    return tuple(each for each in findings if each.severity == "error")


class RefusedError(Terminal):
    """A check found errors; all findings are in `findings`."""

    def __init__(self, what: str, findings: Sequence[Finding], *, where: str | None = None) -> None:
        self.findings = tuple(findings)
        super().__init__(what, where=where, hint="\n  ".join(each.fix for each in errors(findings)))

    def __str__(self) -> str:
        return "\n".join((self.what, *(str(each) for each in self.findings)))
