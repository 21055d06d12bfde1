"""Event tapes: rows in the order they arrive, the named cases of the design, and how to play them on a target."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby, pairwise

import msgspec
from hypothesis import strategies as st

from cdc.blocks import RowBlock
from cdc.engine.apply import Applier, Batch, TableBatch
from cdc.engine.oracle import Oracle
from cdc.engine.parked import Remap, retry
from cdc.model import (
    UNAVAILABLE,
    ColumnType,
    Decision,
    DeletePolicy,
    Kind,
    MappedRow,
    Position,
    RawRecord,
    RowOp,
    TargetColumn,
    TargetTable,
    TopicPartition,
    TruncatePolicy,
)
from cdc.target.base import ON_REQUEST, Advance, Owner, Parked, Target, hold_of
from tests.blocks import in_blocks

PARTITION = TopicPartition("crm.public.customers", 0)
OWNER = Owner("tapes", "target")
REFUSED_TEXT = "refused"  # a value that the test tables do not take


def table(
    name: str = "customers",
    on_delete: DeletePolicy = DeletePolicy.DELETE,
    on_truncate: TruncatePolicy = TruncatePolicy.APPLY,
    supersede: bool = False,
) -> TargetTable:
    text = ColumnType(Kind.TEXT, "text")
    return TargetTable(
        mapping=f"tapes/{name}",
        namespace="hub",
        name=name,
        columns=(
            TargetColumn("id", ColumnType(Kind.INTEGER, "int8"), nullable=False),
            TargetColumn("name", text),
            TargetColumn("notes", text),
        ),
        key=("id",),
        on_delete=on_delete,
        soft_delete="is_deleted" if on_delete is DeletePolicy.SOFT else None,
        partials=True,
        on_truncate=on_truncate,
        supersede=supersede,
    )


@dataclass
class Tape:
    """Builds rows with rising offsets; positions are given as (major, minor)."""

    offset: int = 0

    def _record(self) -> RawRecord:
        self.offset += 1
        return RawRecord(PARTITION.topic, PARTITION.partition, self.offset - 1, b"k", b"v")

    def full(
        self,
        key: int,
        name: str | None,
        notes: str | None,
        at: tuple[int, int],
        moved_from: int | None = None,
        epoch: int = 1,
        snapshot: bool = False,
    ) -> MappedRow:
        return MappedRow(
            op=RowOp.UPSERT,
            key=(key,),
            values=(key, name, notes),
            position=Position(epoch, *at),
            record=self._record(),
            snapshot="initial" if snapshot else "",
            moved_from=None if moved_from is None else (moved_from,),
        )

    def unsure(self, key: int, name: str | None, at: tuple[int, int]) -> MappedRow:
        """A partial image that does not tell whether its row is inside of the mapping's filter."""
        return msgspec.structs.replace(self.partial(key, name, at), filtered=True)

    def partial(self, key: int, name: str | None, at: tuple[int, int], moved_from: int | None = None) -> MappedRow:
        return MappedRow(
            op=RowOp.UPSERT,
            key=(key,),
            values=(key, name, UNAVAILABLE),
            position=Position(1, *at),
            record=self._record(),
            moved_from=None if moved_from is None else (moved_from,),
        )

    def delete(self, key: int, at: tuple[int, int], moved_to: int | None = None) -> MappedRow:
        return MappedRow(
            op=RowOp.DELETE,
            key=(key,),
            values=None,
            position=Position(1, *at),
            record=self._record(),
            moved_to=None if moved_to is None else (moved_to,),
        )

    def truncate(self, at: tuple[int, int]) -> MappedRow:
        return MappedRow(op=RowOp.TRUNCATE, key=(), values=None, position=Position(1, *at), record=self._record())

    def again(self, rows: Iterable[MappedRow]) -> list[MappedRow]:
        """The same changes redelivered: identical positions, new offsets."""
        return [msgspec.structs.replace(row, record=self._record()) for row in rows]


def named_cases() -> dict[str, list[MappedRow]]:
    """The design's named cases as tapes; `tests` compare every write path with the oracle on each of them."""
    cases: dict[str, list[MappedRow]] = {}
    t = Tape()
    cases["e1 late lower lsn after a snapshot read"] = [
        t.full(1, "read", "long", (26506176, 0), snapshot=True),
        t.full(1, "updated", "long", (26506176, 26506000)),
    ]
    t = Tape()
    cases["e2 incremental read against a concurrent update"] = [
        t.full(1, "old", "long", (100, 150)),
        t.full(2, "other", "x", (200, 290)),
        t.full(1, "read", "long", (200, 0)),
        t.partial(1, "newer, lower lsn", (200, 210)),
    ]
    t = Tape()
    cases["e3 delete then create of one key under a deferrable key"] = [
        t.full(1, "first", "long", (4000, 0), snapshot=True),
        t.delete(1, (4000, 4984)),
        t.full(1, "second", None, (5000, 4856)),
    ]
    t = Tape()
    first = [t.full(1, "a", "x", (1, 1)), t.partial(1, "b", (2, 2)), t.delete(2, (2, 3)), t.full(2, "new", "y", (3, 4))]
    cases["e5 redelivery after kill -9"] = [*first, *t.again(first), *t.again(first[1:])]
    t = Tape()
    cases["e6 snapshot repeated after a crash"] = [
        t.full(1, "a", "x", (10, 0), snapshot=True),
        t.full(2, "b", "y", (10, 0), snapshot=True),
        t.full(3, "c", "z", (10, 15)),
        t.full(1, "a", "x", (20, 0), snapshot=True),
        t.full(3, "c", "z", (20, 0), snapshot=True),
    ]
    t = Tape()
    cases["partial image before the full one"] = [
        t.partial(1, "newer", (5, 5)),
        t.full(1, "older", "long", (3, 3)),
        t.partial(1, "newest", (7, 7)),
    ]
    t = Tape()
    cases["partial image of a row that never came"] = [t.partial(1, "waits", (5, 5)), t.partial(1, "behind", (6, 6))]
    t = Tape()
    cases["partial image made stale by a delete"] = [t.partial(1, "waits", (5, 5)), t.delete(1, (6, 6))]
    t = Tape()
    cases["key change lends its values"] = [
        t.full(1, "a", "long", (1, 0)),
        t.delete(1, (2, 3), moved_to=2),
        t.partial(2, "moved", (2, 3), moved_from=1),
        t.full(1, "reused", "other", (3, 3)),
    ]
    t = Tape()
    cases["key change, the create first"] = [
        t.full(1, "a", "long", (1, 0)),
        t.partial(2, "moved", (2, 3), moved_from=1),
        t.partial(2, "after", (4, 4)),
        t.partial(1, "late update of the old key", (2, 1)),
        t.delete(1, (2, 3), moved_to=2),
    ]
    t = Tape()
    move = [t.delete(1, (2, 3), moved_to=2), t.partial(2, "moved", (2, 3), moved_from=1)]
    cases["key change redelivered"] = [
        t.full(1, "a", "long", (1, 0)),
        *move,
        t.partial(2, "later", (3, 3)),
        *t.again(move),
    ]
    t = Tape()
    cases["key change there and back"] = [
        t.full(1, "a", "long", (1, 0)),
        t.delete(1, (2, 3), moved_to=2),
        t.partial(2, "b", (2, 3), moved_from=1),
        t.delete(2, (3, 4), moved_to=1),
        t.partial(1, "c", (3, 4), moved_from=2),
    ]
    t = Tape()
    cases["truncate between changes"] = [
        t.full(1, "a", "x", (1, 1)),
        t.truncate((2, 2)),
        t.full(2, "b", "y", (2, 5)),
        t.full(1, "late", "x", (1, 9)),
    ]
    t = Tape()
    cases["delete, then an older create"] = [
        t.full(1, "a", "x", (1, 1)),
        t.delete(1, (5, 5)),
        t.full(1, "older", "x", (4, 4)),
    ]
    t = Tape()
    cases["undelete: a create after a delete"] = [
        t.full(1, "a", "x", (1, 1)),
        t.delete(1, (2, 2)),
        t.full(1, "back", "y", (3, 3)),
        t.partial(1, "changed", (4, 4)),
    ]
    t = Tape()
    cases["undelete by an older create is stale, by a newer one not"] = [
        t.full(1, "a", "x", (1, 1)),
        t.delete(1, (5, 5)),
        t.full(1, "older", "x", (4, 4)),
        t.full(1, "back", "y", (6, 6)),
        t.delete(1, (5, 6)),
    ]
    t = Tape()
    cases["undelete by a key change onto a deleted row"] = [
        t.full(1, "a", "first", (1, 0)),
        t.full(2, "b", "second", (1, 1)),
        t.delete(2, (2, 2)),
        t.delete(1, (3, 3), moved_to=2),
        t.partial(2, "moved", (3, 3), moved_from=1),
        t.full(1, "reused", "z", (4, 4)),
    ]
    t = Tape()
    cases["undelete after a truncate"] = [
        t.full(1, "a", "x", (1, 1)),
        t.full(2, "b", "y", (1, 2)),
        t.delete(2, (2, 1)),
        t.truncate((3, 3)),
        t.full(1, "late", "x", (2, 9)),
        t.full(1, "back", "x", (4, 4)),
        t.full(2, "back too", "y", (4, 5)),
    ]
    t = Tape()
    cases["partial images that may be outside of a filter"] = [
        t.unsure(1, "not there", (1, 1)),
        t.full(1, "came in", "x", (2, 2)),
        t.unsure(1, "changed", (3, 3)),
        t.delete(1, (4, 4)),
        t.unsure(1, "outside", (5, 5)),
        t.unsure(2, "outside", (5, 6)),
        t.partial(2, "came in, but not all of it", (6, 6)),
        t.unsure(2, "behind it", (7, 7)),
    ]
    t = Tape()
    cases["ties of one page apply in topic order"] = [
        t.full(1, "a", "x", (1, 1)),
        t.full(1, "b", "y", (1, 1)),
        t.delete(1, (1, 1)),
        t.full(1, "c", "z", (1, 1)),
    ]
    t = Tape()
    cases["merged chain of which a part is stale"] = [
        t.full(1, "now", "newest notes", (5, 5)),
        t.full(1, "old", "old notes", (3, 3)),
        t.partial(1, "next", (7, 7)),
    ]
    t = Tape()
    cases["a new epoch wins over higher positions"] = [
        t.full(1, "before the restore", "x", (900, 900)),
        t.full(1, "after the restore", "x", (5, 5), epoch=2),
        t.full(1, "straggler", "x", (950, 950)),
    ]
    return cases


def rows_strategy(
    partials: bool = True, moves: bool = True, refused: bool = False
) -> st.SearchStrategy[list[tuple[object, ...]]]:
    """Random tapes as specifications: arbitrary interleavings over few keys and few positions."""
    key = st.integers(1, 3)
    at = st.tuples(st.integers(1, 4), st.integers(0, 3))
    text = st.sampled_from(["a", "b", REFUSED_TEXT if refused else None])
    kinds: list[st.SearchStrategy[tuple[object, ...]]] = [
        st.tuples(st.just("full"), key, text, text, at),
        st.tuples(st.just("full"), key, text, text, at),
        st.tuples(st.just("delete"), key, at),
        st.tuples(st.just("truncate"), at),
        st.tuples(st.just("again"), st.integers(1, 5)),
    ]
    if partials:
        kinds += [st.tuples(st.just("partial"), key, text, at), st.tuples(st.just("partial"), key, text, at)]
        kinds.append(st.tuples(st.just("unsure"), key, text, at))
    if moves:
        kinds.append(st.tuples(st.just("move"), key, key, text, at, st.booleans()))
    return st.lists(st.one_of(kinds), max_size=14)


def build(specification: Sequence[tuple[object, ...]]) -> list[MappedRow]:
    """The tape that a specification from `rows_strategy` stands for."""
    tape, rows = Tape(), list[MappedRow]()
    for kind, *args in specification:
        if kind == "again":
            rows += tape.again(rows[-args[0] :])
        elif kind == "move":
            old, new, text, (major, _), reorder = args
            if old != new:
                # A row that moves was there before, and one change moves it once: no others share their positions.
                at = (major, 100 + len(rows))
                create = tape.partial(new, text, at, moved_from=old)
                lent = tape.full(old, text, "lent", (major, 50 + len(rows)))
                lender = [lent, tape.delete(old, at, moved_to=new)]
                rows += tape.again([create, *lender] if reorder else [*lender, create])
        else:
            rows.append(getattr(tape, kind)(*args))
    return rows


def play(
    target: Target,
    table: TargetTable,
    tape: Sequence[MappedRow],
    cuts: Sequence[int] = (),
    owner: Owner = OWNER,
    *,
    blocks: bool = True,
    aside: Collection[int] = (),
) -> Applier:
    """Play a tape through the engine's batch path, in batches cut before the given indexes; heal as the engine does.

    `blocks`: as the hot path carries them, plain rows in blocks; else every row by itself. `aside`: offsets that the
    intake sets aside because somebody asked for it.
    """
    target.open(owner)
    target.prepare(table)
    mark = target.take({PARTITION: "topic-id"})[0]
    applier, fence, done = Applier(target), mark.fence, mark.next
    applier.held = target.parked([PARTITION])
    # The engine ends a batch before a truncate, so that parked keys that heal do so before their rows are gone.
    truncates = {index for index, row in enumerate(tape) if row.op is RowOp.TRUNCATE}
    edges = sorted({0, *(cut for cut in cuts if cut < len(tape)), *truncates, len(tape)})
    remap = remapping(table, tape)
    for start, end in pairwise(edges):
        expected, done = done, (done or 0) + end - start
        rows = TableBatch(table, _found(table, tape[start:end], blocks, aside))
        rows.fold()
        if rows.writes is not None:
            rows.writes.encoded = target.encode(table, rows.writes)
        applied = applier.apply(Batch([rows], [Advance(PARTITION, fence, expected, done, "")]))
        if applied.may_heal:
            as_it_is = Advance(PARTITION, fence, done, done)
            retry(target, applied.may_heal, remap, partial(_always, as_it_is), applier.held, applier.waiting)
    return applier


def remapping(table: TargetTable, tape: Iterable[MappedRow]) -> Remap:
    """The mapping's word on a parked record of the tape: its row, as before."""
    by_offset = {row.record.offset: row for row in tape}

    def remap(parked: Parked) -> tuple[TargetTable, MappedRow | Decision]:
        return table, by_offset[parked.record.offset]

    return remap


def retry_asked(target: Target, table: TargetTable, tape: Iterable[MappedRow], applier: Applier) -> None:
    """Do the retries that somebody asked for, as the engine does."""
    (mark,) = target.watermarks()
    as_it_is = Advance(PARTITION, mark.fence, mark.next, mark.next)
    keys = target.retries([PARTITION])
    retry(target, keys, remapping(table, tape), partial(_always, as_it_is), applier.held, applier.waiting)


def _found(
    table: TargetTable, rows: Sequence[MappedRow], blocks: bool, aside: Collection[int]
) -> list[RowBlock | MappedRow | Parked]:
    found: list[RowBlock | MappedRow | Parked] = []
    for wanted, group in groupby(rows, lambda row: row.record.offset in aside):
        same = list(group)
        if wanted:
            found += [_on_request(table, row) for row in same]
        else:
            found += in_blocks(same) if blocks else same
    return found


def _on_request(table: TargetTable, row: MappedRow) -> Parked:
    hold = hold_of(row.key) if row.key else ""
    return Parked(table.mapping, hold, row.record, row.position, ON_REQUEST, "asked for")


def _always(advance: Advance, partitions: Iterable[TopicPartition]) -> list[Advance]:
    return [advance]


def expected(table: TargetTable, tape: Sequence[MappedRow], aside: Collection[int] = ()) -> Oracle:
    """The oracle after the tape; it refuses rows whose name is `REFUSED_TEXT`."""
    oracle = Oracle(table, accepts=lambda values: values[1] != REFUSED_TEXT, aside=set(aside))
    oracle.play(tape)
    return oracle


def retry_everything(oracle: Oracle) -> None:
    """A person asks for the retry of all that is parked: truncates go first."""
    oracle.retry_truncates()
    for key in list(oracle.parked):
        if key in oracle.parked:
            oracle.retry(key)
