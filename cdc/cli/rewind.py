"""cdc rewind: apply changes again from an earlier place, or leave some out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from cdc.cli import shown
from cdc.cli.common import Connections, Mappings
from cdc.cli.shown import Execute, Output, Reason
from cdc.control.rewind import UNDO_FOLDER, Rewind, rehearse
from cdc.control.rewind import rewind as run_rewind
from cdc.control.rewind_request import request_of
from cdc.control.run import one_pipeline
from cdc.ops.audit import audited, check_reason
from cdc.settings import DEFAULT_PATH, load


def rewind(
    pipeline: str,
    /,
    *,
    to_earliest: Annotated[bool, Parameter(help="All that the topics still hold.", negative="")] = False,
    to_latest: Annotated[bool, Parameter(help="Leave out what is not applied yet.", negative="")] = False,
    to_offset: Annotated[int | None, Parameter(help="This offset, in every partition of the scope.")] = None,
    shift_by: Annotated[int | None, Parameter(help="So many records further (or back: -100).")] = None,
    to_datetime: Annotated[
        str | None, Parameter(help="The first record that Kafka Connect wrote then or later; ISO 8601, else UTC.")
    ] = None,
    from_file: Annotated[Path | None, Parameter(help="The places in a file: the undo of an earlier rewind.")] = None,
    topic: Annotated[
        tuple[str, ...], Parameter(help="Only this topic, or T:0,2 for partitions of it. May be repeated.")
    ] = (),
    execute: Execute = False,
    reason: Reason = "",
    undo_folder: Annotated[Path, Parameter(help="Where the undo file goes.")] = UNDO_FOLDER,
    output: Output = "table",
    mappings: Mappings = Path("mappings"),
    connections: Connections = DEFAULT_PATH,
) -> int:
    """Move a pipeline's watermarks; only says from where to where unless --execute. Workers may go on running.

    Records that come again change nothing that is newer: the guard skips them. Exit code 1: a place is refused (gone
    from the topic, behind its end); then nothing moves.
    """
    check_reason(execute, reason)
    request = request_of(
        to_earliest=to_earliest,
        to_latest=to_latest,
        to_offset=to_offset,
        shift_by=shift_by,
        to_datetime=to_datetime,
        from_file=from_file,
        topic=topic,
    )
    settings, found = load(connections), one_pipeline(mappings, pipeline)
    done = rehearse(settings, found, request)
    if execute and not done.refused:

        def action() -> Rewind:
            return run_rewind(settings, found, request, undo_folder=undo_folder)

        done = audited(settings, f"rewind {pipeline}", reason, done, action)
    if output == "json":
        shown.print_json(done.to_dict())
    else:
        _print(done)
    return 1 if done.refused else 0


def _print(done: Rewind) -> None:
    table = shown.table("topic", "partition", "from", "to", "replayed", "left out", "note", right=_NUMBERS)
    for step in done.steps:
        there = (shown.number(step.before, "-"), shown.number(step.after, "start"))
        counted = (f"{step.replayed:,}" if step.replayed else "", f"{step.left_out:,}" if step.left_out else "")
        note = f"refused: {step.refused}" if step.refused else step.note
        table.add_row(step.topic, str(step.partition), *there, *counted, note)
    console = shown.console()
    console.print(table)
    if done.at:
        console.print(f"time asked for: {done.at} (when Kafka Connect wrote the records, not their commit time)")
    if done.refused:
        console.print(f"refused: {len(done.refused)} partitions cannot go there, nothing was moved")
    elif not done.moving:
        console.print("nothing to move")
    else:
        console.print(f"{done.replayed:,} records come again; what is newer in the target stays as it is")
        if done.left_out:
            console.print(f"{done.left_out:,} records are left out: the target will lack them", style="yellow")
        console.print(_next(done))


def _next(done: Rewind) -> str:
    if not done.executed:
        return shown.NOT_DONE
    if done.noticed is False:
        shown.console().print("the running worker has not noticed yet: its next commit is refused, then it goes there")
    return f"done; undo: cdc rewind {done.pipeline} --from-file {done.undo} --execute --reason …"


_NUMBERS = ("partition", "from", "to", "replayed", "left out")
