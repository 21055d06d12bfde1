"""A target around another: tables of contributions go through `cdc.engine.merging`, everything else straight on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from cdc.blocks import Writes
from cdc.conflict.contributions import decode
from cdc.engine.merged import MergedTables
from cdc.engine.merging import MergingTransaction, keep
from cdc.mapping.rules import TableRules
from cdc.model import TargetTable
from cdc.target.base import Advance, Owner, Related
from cdc.target.contributions import ContributingTarget

PURGE_PORTION = 1000
"""Most documents that are looked at in one transaction."""


class MergingTarget:
    """A `Target`. `rules`: of tables with several sources, by the target table's mapping."""

    def __init__(
        self, inner: ContributingTarget, rules: Mapping[str, TableRules], now_s: Callable[[], float] = time.time
    ) -> None:
        self.inner = inner
        self.capabilities = inner.capabilities
        self.register = inner.register
        self.take = inner.take
        self.watermarks = inner.watermarks
        self.epochs = inner.epochs
        self.begin_epoch = inner.begin_epoch
        self.report = inner.report
        self.close = inner.close
        self.purge_conflicts = inner.purge_conflicts
        self.standing = inner.standing
        self.parked = inner.parked
        self.queue = inner.queue
        self.retries = inner.retries
        self.park_requests = inner.park_requests
        self.deployed = inner.deployed
        self._tables = MergedTables(inner, rules)
        self._mappings = sorted(rules)
        self._now_s = now_s
        self._beside = ThreadPoolExecutor(1, "contributions")

    def open(self, owner: Owner) -> None:
        self._tables.clear()
        self.inner.open(owner)

    def prepare(self, table: TargetTable) -> None:
        if table.contributes is None:
            self.inner.prepare(table)
        else:
            self._tables.prepare(table)

    def written(self, table: TargetTable) -> TargetTable:
        """The target table that rows of a prepared table end in."""
        return table if table.contributes is None else self._tables.of(table).merged.table

    def related(self, table: TargetTable) -> Related:
        """Of a contribution: what the row that it is a part of refers to, as far as the contribution says so."""
        if table.contributes is None:
            return self.inner.related(table)
        found, columns = self.inner.related(self._tables.of(table).merged.table), {each.name for each in table.columns}
        keys = tuple(key for key in found.foreign_keys if columns >= set(key.columns))
        return Related(found.name, keys)

    def encode(self, table: TargetTable, writes: Writes) -> object:
        return self.inner.encode(table, writes) if table.contributes is None else None

    def forget(self) -> None:
        self._tables.clear()
        self.inner.forget()

    @contextmanager
    def begin(self, moves: Sequence[Advance] = ()) -> Iterator[MergingTransaction]:
        with self.inner.begin(moves) as transaction:
            yield MergingTransaction(transaction, self._tables, self.inner.encode, self._beside, self._now_s)

    def purge(self, keep_s: float) -> int:
        gone = self.inner.purge(keep_s)
        before_s = int(self._now_s() - keep_s)
        for mapping in self._mappings:
            with self.inner.begin() as transaction:
                store = transaction.contributions
                documents = {
                    key: decode(kept) for key, kept in store.forgettable(mapping, before_s, PURGE_PORTION).items()
                }
                for document in documents.values():
                    document.forget(before_s)
                if documents:
                    keep(store, mapping, documents)
                gone += len(documents)
        return gone
