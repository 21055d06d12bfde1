"""Tests of mappings: played, and compared with what they expect."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cdc.author.cases import CaseFile, load_cases
from cdc.author.differences import RowDifference
from cdc.author.grounds import MemoryGround
from cdc.author.play import Decided, Ground, Played, play
from cdc.author.script import KindOf, Script, script_of
from cdc.errors import Usage
from cdc.mapping.diagnostics import Diagnostic, MappingError, did_you_mean
from cdc.mapping.load import load
from cdc.mapping.model import Pipeline
from cdc.model import Outcome
from cdc.yamlfile import ValuePath

Prepare = Callable[[Script], Ground]
"""The ground on which a test is played."""


@dataclass
class Result:
    """One test's outcome. `findings`: all that is wrong, each at its place in the file of tests; `rows`: of those, the
    rows. `broken`: the test itself cannot be played."""

    file: str
    name: str
    where: str
    seconds: float = 0.0
    decided: list[list[Decided]] = field(default_factory=list)
    findings: list[Diagnostic] = field(default_factory=list)
    rows: list[RowDifference] = field(default_factory=list)
    stopped: str = ""
    broken: bool = False

    @property
    def passed(self) -> bool:
        return not self.findings

    def to_dict(self) -> dict[str, Any]:
        return {
            "file": self.file,
            "test": self.name,
            "where": self.where,
            "passed": self.passed,
            "seconds": round(self.seconds, 4),
            "decided": [{each.table: list(each.words) for each in event} for event in self.decided],
            "findings": [each.to_dict() for each in self.findings],
            "rows": [
                {
                    "table": each.table,
                    "key": each.key,
                    "difference": each.kind,
                    "columns": [cell._asdict() for cell in each.cells],
                }
                for each in self.rows
            ],
        }


def run_files(
    paths: Iterable[Path],
    kind_of: KindOf,
    prepare: Prepare = lambda script: MemoryGround(script.pipeline),
    only: str = "",
) -> list[Result]:
    """The tests of these files; `only`: those whose names hold it. What is wrong with a file is a result as well."""
    results: list[Result] = []
    for path in paths:
        try:
            cases = load_cases(path)
            pipeline = load(cases.pipeline_file)
        except MappingError as error:
            broken = Result(str(path), "", error.where or str(path), broken=True)
            broken.findings += error.diagnostics
            results.append(broken)
            continue
        for number, case in enumerate(cases.tests):
            if only.lower() in case.name.lower():
                results.append(_run(cases, number, pipeline, kind_of, prepare))
    return results


def _run(cases: CaseFile, number: int, pipeline: Pipeline, kind_of: KindOf, prepare: Prepare) -> Result:
    case = cases.tests[number]
    path: ValuePath = ("tests", number)
    result = Result(cases.document.name, case.name, cases.document.where((*path, "name")))
    began = time.perf_counter()
    try:
        script = script_of(cases, number, _part(cases, number, pipeline), kind_of)
        with closing(prepare(script)) as ground:
            played = play(script, ground)
            _compare(cases, number, script, played, ground, result)
    except MappingError as error:
        result.findings += error.diagnostics
        result.broken = True
    result.seconds = time.perf_counter() - began
    return result


def _part(cases: CaseFile, number: int, pipeline: Pipeline) -> Pipeline:
    wanted = cases.tests[number].target
    if wanted is None and len(pipeline.targets) == 1:
        return pipeline.part(pipeline.targets[0])
    if wanted in pipeline.targets:
        assert wanted is not None
        return pipeline.part(wanted)
    path: ValuePath = ("tests", number, "name" if wanted is None else "target")
    message = f"{pipeline.file} has several targets: say which" if wanted is None else f"no target '{wanted}'"
    help_ = did_you_mean(wanted or "", pipeline.targets) if wanted else f"target: {pipeline.targets[0]}"
    raise MappingError([cases.finding("unknown-target", message, path, help=help_)])


# -- comparing


def _compare(cases: CaseFile, number: int, script: Script, played: Played, ground: Ground, result: Result) -> None:
    result.decided, result.stopped = played.decided, played.stopped
    path: ValuePath = ("tests", number)
    for index, event in enumerate(script.case.events):
        place: ValuePath = (*path, "events", index)
        decided = played.decided[index] if index < len(played.decided) else None
        result.findings += _decisions(cases, place, event.decision, decided)
    for name, rows in script.expected.items():
        if name not in played.tables:  # no event and no row tells its columns
            continue
        result.rows += ground.differences(name, played.tables[name], rows)
    result.findings += [_of_row(cases, path, each) for each in result.rows]
    if script.case.parked is not None:
        expected = {name: list(reasons) for name, reasons in script.case.parked.items()}
        result.findings += _parked(cases, path, expected, played.parked)


def _decisions(
    cases: CaseFile, place: ValuePath, expected: str | dict[str, str] | None, decided: Sequence[Decided] | None
) -> list[Diagnostic]:
    if decided is None:
        return [cases.finding("not-reached", "the pipeline stopped before this event", (*place, "op"))]
    found = []
    for each in decided:
        said = ", ".join(each.words)
        wanted = expected.get(each.table) if isinstance(expected, dict) else expected
        if wanted is None:
            if not any(word.startswith(f"{Outcome.PARKED}:") or word == "stopped" for word in each.words):
                continue
            message, help_ = f"{_about(each)}was decided: {said}", f"if that is right: decision: {said}"
            found.append(cases.finding("parked", _with(message, each.detail), (*place, "op"), help=help_))
        elif wanted != said:
            message = f"{_about(each)}was decided: {said}, not {wanted}"
            found.append(cases.finding("decision", _with(message, each.detail), (*place, "decision")))
    for table in expected if isinstance(expected, dict) else ():
        if table not in {each.table for each in decided}:
            found.append(cases.finding("decision", f"nothing was decided about {table}", (*place, "decision", table)))
    if isinstance(expected, str) and not decided:
        found.append(cases.finding("decision", "nothing was decided: no mapping takes it", (*place, "decision")))
    return found


def _about(decided: Decided) -> str:
    return f"{decided.table}: " if decided.table else ""


def _with(message: str, detail: str) -> str:
    return f"{message} ({detail})" if detail else message


def _of_row(cases: CaseFile, path: ValuePath, row: RowDifference) -> Diagnostic:
    where = row.path or (*path, "rows", row.table)
    if row.kind == "missing":
        return cases.finding("missing-row", f"{row.table}: no row {row.key}", where)
    if row.kind == "surplus":
        return cases.finding("surplus-row", f"{row.table}: a row {row.key} that was not expected", where)
    cells = "; ".join(f"{cell.column} is {cell.actual}, not {cell.expected}" for cell in row.cells)
    where = (*where, row.cells[0].column)
    return cases.finding("different-row", f"{row.table}, row {row.key}: {cells}", where)


def _parked(
    cases: CaseFile, path: ValuePath, expected: dict[str, list[str]], actual: dict[str, list[str]]
) -> list[Diagnostic]:
    found = []
    for name in dict.fromkeys((*expected, *actual)):
        wanted, there = expected.get(name, []), actual.get(name, [])
        if wanted != there:
            message = f"{name}: parked at the end are {there or 'none'}, not {wanted or 'none'}"
            found.append(cases.finding("still-parked", message, (*path, "parked", name)))
    return found


def check_any(results: Sequence[Result], only: str) -> None:
    """Raises `Usage` when nothing was played: silence would look like success."""
    if not results:
        raise Usage(f"no test's name holds '{only}'")
