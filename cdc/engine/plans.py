"""The pipeline's mappings, ready for events: compiled once for each schema version that a topic carries."""

from __future__ import annotations

from collections.abc import Callable

import structlog

from cdc.errors import Terminal
from cdc.keys import NO_KEYS, Keyring
from cdc.mapping.compile import compile_table
from cdc.mapping.mask_checks import masked_columns
from cdc.mapping.model import Pipeline, TableMapping
from cdc.mapping.plan import KeylessPlan, Plan
from cdc.model import Column, TableSchema
from cdc.source.refusals import refusal

_log = structlog.get_logger(__name__)


class Plans:
    """Plans by schema version, topics and their mappings. Debezium names a table's topic source.namespace.table.
    `keys`: of masks."""

    def __init__(self, pipeline: Pipeline, keys: Keyring = NO_KEYS) -> None:
        self._keys = keys
        self._by_topic: dict[str, list[TableMapping]] = {}
        for table in pipeline.tables:
            topic = f"{table.source_name}.{table.from_.namespace}.{table.from_.name}"
            self._by_topic.setdefault(topic, []).append(table)
        self._plans: dict[int, list[Plan | KeylessPlan]] = {}
        self._newest: dict[str, TableSchema] = {}  # by topic

    @property
    def topics(self) -> list[str]:
        return sorted(self._by_topic)

    @property
    def sources(self) -> list[str]:
        return sorted({table.source_name for tables in self._by_topic.values() for table in tables})

    @property
    def masked_topics(self) -> set[str]:
        """Topics of which some mapping masks something."""
        return {topic for topic, tables in self._by_topic.items() if any(map(masked_columns, tables))}

    def reads(self, topic: str) -> bool:
        return topic in self._by_topic

    def source_of(self, topic: str) -> str:
        return self._by_topic[topic][0].source_name

    def mappings_of(self, topic: str) -> list[str]:
        return [table.id for table in self._by_topic.get(topic, ())]

    def of(self, schema: TableSchema) -> list[Plan | KeylessPlan]:
        """The plans for a schema version. Raises `MappingError` when a mapping does not fit it."""
        plans = self._plans.get(schema.version)
        if plans is None:
            topic = f"{schema.source}.{schema.namespace}.{schema.table}"
            plans = [
                compile_table(table, schema, refuse=refuser(schema), keys=self._keys)
                if schema.key
                else KeylessPlan(table)
                for table in self._tables(topic)
            ]
            self._plans[schema.version] = plans
            self._tell_change(topic, schema)
            for plan in plans:
                for found in plan.warnings if isinstance(plan, Plan) else ():
                    _log.warning("mapping", where=found.where, what=found.message, hint=found.help)
        return plans

    def _tell_change(self, topic: str, schema: TableSchema) -> None:
        """Say what another version of a topic's schema brought; louder when a target column is left behind."""
        before, self._newest[topic] = self._newest.get(topic), schema
        if before is None:
            return
        old = {column.name: column.type for column in before.columns}
        new = {column.name: column.type for column in schema.columns}
        gone, retyped = sorted(old.keys() - new.keys()), sorted(n for n in old.keys() & new.keys() if old[n] != new[n])
        come = sorted(new.keys() - old.keys())
        if not (come or gone or retyped):
            return  # their order, a default, the key
        log = _log.warning if gone or retyped else _log.info
        log("the source table's columns changed", topic=topic, new=come, gone=gone, retyped=retyped)

    def _tables(self, topic: str) -> list[TableMapping]:
        tables = self._by_topic.get(topic)
        if tables is None:
            raise Terminal(
                f"records of {topic} on a topic that no mapping reads",
                where=topic,
                hint="one topic a table: remove transforms that route tables together from the connector, or map it",
            )
        return tables


def refuser(schema: TableSchema) -> Callable[[Column], str | None]:
    """Why a column of this source cannot be carried exactly, for `compile_table`."""

    def refuse(column: Column) -> str | None:
        found = refusal(column.type, schema.kind)
        return None if found is None else found.reason

    return refuse
