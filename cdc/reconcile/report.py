"""What a comparison found, as plain values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any, Literal, Protocol, get_args


class What(StrEnum):
    """How a row differs."""

    MISSING = "missing"  # at the source, not at the target (a soft-deleted row is not at the target)
    SURPLUS = "surplus"  # at the target, not at the source
    DIFFERENT = "different"  # at both, with other values
    UNMAPPED = "unmapped"  # at the source, but the mapping or the target's column types refuse it


@dataclass(frozen=True)
class Cell:
    """One differing column of a row; the texts are the target's own, None is NULL."""

    column: str
    expected: str | None
    actual: str | None


@dataclass(frozen=True)
class Difference:
    """One row. `key`: the target key, in its order, as text. `reason`: why a row is `unmapped`. `settled`: False when
    the source row kept changing up to the deadline, so that nothing can be said of it. `excused`: the key is parked.

    `cells` only when values were asked for: they hold data.
    """

    what: What
    key: tuple[str | None, ...]
    columns: tuple[str, ...] = ()
    reason: str = ""
    settled: bool = True
    excused: bool = False
    cells: tuple[Cell, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        found: dict[str, Any] = {
            "what": self.what.value,
            "key": list(self.key),
            "columns": list(self.columns),
            "settled": self.settled,
            "excused": self.excused,
        }
        if self.reason:
            found["reason"] = self.reason
        if self.cells:
            found["values"] = {cell.column: {"expected": cell.expected, "actual": cell.actual} for cell in self.cells}
        return found


Verdict = Literal["equal", "parked", "unsettled", "never run", "differs"]
"""From the best to the worst."""


@dataclass(frozen=True)
class TableReport:
    """One mapping. Counts are of target keys, except `source_rows`.

    missing, surplus, different, unmapped   confirmed: they stayed so while the source row stood still
    unsettled     the source row changed again and again: not judged
    in_flight     differed in the first pass and settled since
    soft_deleted  rows marked as deleted at the target (they are not among `target_rows`)
    kept          surplus rows that are as they should be: the mapping ignores deletes or truncates
    parked        keys that are parked now; `parked_without_key`: parked records whose key could not be read
    excused       differences of parked keys: not counted among the others, but no equality either
    unchecked     values that no canonical value holds (two-dimensional arrays…): not compared
    columns       by column, in how many of the `different` rows it differs
    seconds       spent on this mapping, without waiting for keys to settle
    label         the pipeline as commands name it: NAME, or NAME:TARGET where it has several targets
    never_run     the target table is not there: nothing was compared
    """

    mapping: str
    pipeline: str
    source: str
    source_table: str
    target: str
    target_table: str
    source_rows: int = 0
    target_rows: int = 0
    soft_deleted: int = 0
    missing: int = 0
    surplus: int = 0
    different: int = 0
    unmapped: int = 0
    unsettled: int = 0
    in_flight: int = 0
    kept: int = 0
    parked: int = 0
    parked_without_key: int = 0
    excused: int = 0
    unchecked: int = 0
    columns: tuple[tuple[str, int], ...] = ()
    examples: tuple[Difference, ...] = ()
    seconds: float = 0.0
    label: str = ""
    never_run: bool = False

    @property
    def title(self) -> str:
        """The mapping's name among those of all targets."""
        return f"{self.label or self.pipeline}/{self.target_table}"

    @property
    def differences(self) -> int:
        return self.missing + self.surplus + self.different + self.unmapped

    @property
    def equal(self) -> bool:
        """Nothing differs, for whatever reason, and nothing stayed open."""
        return self.verdict == "equal"

    @property
    def verdict(self) -> Verdict:
        """'parked': what differs is parked, and nothing else is wrong."""
        if self.never_run:
            return "never run"
        if self.differences:
            return "differs"
        if self.unsettled:
            return "unsettled"
        return "parked" if self.excused else "equal"

    def to_dict(self) -> dict[str, Any]:
        plain = {name: getattr(self, name) for name in _PLAIN}
        return {
            **plain,
            "verdict": self.verdict,
            "columns": dict(self.columns),
            "examples": [each.to_dict() for each in self.examples],
            "seconds": round(self.seconds, 3),
        }


_PLAIN = (
    *("mapping", "pipeline", "label", "source", "source_table", "target", "target_table", "source_rows", "target_rows"),
    *("soft_deleted", "missing", "surplus", "different", "unmapped", "unsettled", "in_flight", "kept"),
    *("parked", "parked_without_key", "excused", "unchecked"),
)


@dataclass(frozen=True)
class NotCompared:
    """A part of a pipeline whose rows cannot be read back."""

    label: str
    reason: str


@dataclass(frozen=True)
class CompareReport:
    """All mappings that were compared, and what was left out."""

    tables: tuple[TableReport, ...]
    seconds: float = 0.0
    not_compared: tuple[NotCompared, ...] = ()

    @property
    def equal(self) -> bool:
        return all(table.equal for table in self.tables)

    @property
    def verdict(self) -> Verdict:
        """The worst of the tables'."""
        verdicts = get_args(Verdict)
        return max((table.verdict for table in self.tables), key=verdicts.index, default="equal")

    @property
    def excused(self) -> int:
        """Rows that differ but are parked."""
        return sum(table.excused for table in self.tables)

    @property
    def rows(self) -> int:
        """Source rows that were read and compared."""
        return sum(table.source_rows for table in self.tables)

    def table(self, mapping: str) -> TableReport:
        """The report of a mapping by its id ('pipeline/schema.table'). Raises `KeyError`."""
        for table in self.tables:
            if table.mapping == mapping:
                return table
        raise KeyError(mapping)

    def to_dict(self) -> dict[str, Any]:
        return {
            "equal": self.equal,
            "verdict": self.verdict,
            "excused": self.excused,
            "rows": self.rows,
            "seconds": round(self.seconds, 3),
            "tables": [table.to_dict() for table in self.tables],
            "not_compared": [asdict(each) for each in self.not_compared],
        }


Stage = Literal["reading", "comparing", "settling", "done"]


@dataclass(frozen=True)
class Progress:
    """Where the comparison stands. `rows`: source rows read in the first pass (0 while settling); `open`: keys that
    still differ, only while settling."""

    mapping: str
    stage: Stage
    rows: int = 0
    open: int | None = None


class Report(Protocol):
    def __call__(self, progress: Progress) -> None:
        """Called from the comparing thread, some times a second."""
