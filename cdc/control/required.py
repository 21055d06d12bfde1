"""The connector settings that decide whether values, order and completeness survive, each with what goes wrong without.

`check_connector` is asked at registration, and again at the start of a pipeline about the connector that really runs.
The observations are those of EXACT-VALUES.md (Debezium 3.5).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cdc.control.findings import Finding
from cdc.entries import SourceKind

UNAVAILABLE_PLACEHOLDER = "__cdc_unavailable_3f9c1d7e52ab4806__"
"""What our connector configurations send for a value that the source did not log. Debezium's own default is a word that
a row may hold (somebody's documentation of Debezium); readers take it from the running connector: `placeholder_of`."""
DEBEZIUM_PLACEHOLDER = "__debezium_unavailable_value"

JSON_CONVERTER = "org.apache.kafka.connect.json.JsonConverter"
CONNECTOR_KINDS: dict[str, SourceKind] = {
    "io.debezium.connector.postgresql.PostgresConnector": "postgresql",
    "io.debezium.connector.mariadb.MariaDbConnector": "mariadb",
}


@dataclass(frozen=True)
class Required:
    """`values`: those accepted, the recommended one first; empty: any text, but it must be there. `default`: what holds
    when the setting is absent, None when that depends on the worker or is nothing. `error`: without it data is lost,
    changed or reordered in silence; otherwise it is costly or inconvenient."""

    values: tuple[str, ...]
    why: str
    default: str | None = None
    severity: Literal["error", "warning"] = "error"


def _error(value: str, why: str, *others: str, default: str | None = None) -> Required:
    return Required((value, *others), why, default)


def _warning(why: str, *values: str, default: str | None = None) -> Required:
    return Required(values, why, default, "warning")


SOURCE_TYPES = r".*\.(?!(BOOL|INT2|INT4|INT8|FLOAT4|FLOAT8|TEXT|UUID|DATE)$)[^.]*"
"""The PostgreSQL types whose names travel with every record: all but those that a record's schema tells anyway. With
all of them records of 14 columns have 9.4 kB instead of 6.6."""

_CONVERTER_WHY = "records must be JSON with their schemas: readers take every column's type from them"

_SOURCE_TYPE_WHY = "without it a reader cannot tell varchar(20) from text, or an enum from a string"

_COMMON: dict[str, Required] = {
    "key.converter": _error(JSON_CONVERTER, _CONVERTER_WHY),
    "key.converter.schemas.enable": _error("true", _CONVERTER_WHY, default="true"),
    "value.converter": _error(JSON_CONVERTER, _CONVERTER_WHY),
    "value.converter.schemas.enable": _error("true", _CONVERTER_WHY, default="true"),
    "value.converter.replace.null.with.default": _error(
        "false", "the default, true, writes a column's DEFAULT in the place of every NULL", default="true"
    ),
    "key.converter.replace.null.with.default": _error(
        "false", "a NULL in a unique key would become the column's DEFAULT: another row", default="true"
    ),
    "header.converter": _error(
        JSON_CONVERTER, "the header that names the other half of a key change is readable only as JSON"
    ),
    "decimal.handling.mode": _error(
        "string", "precise turns NaN and infinities into null, double rounds", default="precise"
    ),
    "time.precision.mode": _error("microseconds", "the other modes lose or overflow some times", default="adaptive"),
    "binary.handling.mode": _error("bytes", "with base64 an unchanged large bytea arrives as null", default="bytes"),
    "event.converting.failure.handling.mode": _error(
        "fail",
        "otherwise a value that cannot be converted becomes null, with no more than a line in a log",
        default="warn",
    ),
    "event.processing.failure.handling.mode": _error("fail", "otherwise changes are skipped", default="fail"),
    "errors.tolerance": _error("none", "all skips records that fail, in silence", default="none"),
    "skipped.operations": _error("none", "the default, t, drops TRUNCATE: the target keeps the rows", default="t"),
    "field.name.adjustment.mode": _error("none", "other modes rename columns", default="none"),
    "topic.delimiter": _error(".", "topics are found as prefix.schema.table", default="."),
    "transforms": _error("", "a transform changes records before they are read; mappings do that", default=""),
    "topic.prefix": Required((), "names the source: topics and offsets carry it"),
    "heartbeat.interval.ms": Required(
        (),
        "without heartbeats the offset of an idle source stands still: its log is kept for ever, and"
        " nobody can tell whether the capture has caught up",
    ),
    "producer.override.acks": _error("all", "a broker that dies would take records with it", "-1", default="all"),
    "poll.interval.ms": _warning("the default, 500, adds up to half a second to every change", default="500"),
    "unavailable.value.placeholder": _warning(
        "the default is a word that a row may hold; that row's column would then not be written",
        UNAVAILABLE_PLACEHOLDER,
        default=DEBEZIUM_PLACEHOLDER,
    ),
    "tombstones.on.delete": _warning(
        "a second, empty record after every delete serves compacted topics only", "false", default="true"
    ),
    "extended.headers.enabled": _warning(
        "four headers with schemas on every record, which nobody reads", "false", default="true"
    ),
    "signal.data.collection": _warning(
        "without a signal table no table can be loaded again while the connector runs, and an idle MariaDB source is"
        " known to be caught up only after a minute"
    ),
    "snapshot.mode": _warning(
        "the other modes leave rows out or read them again at every start", "initial", "when_needed", default="initial"
    ),
    "table.include.list": _warning("without it every table is captured, also those that come later"),
    "max.queue.size.in.bytes": _warning("large rows fill the worker's memory: the queue is bounded in rows only"),
    "topic.creation.default.partitions": _warning("the broker's default decides how many workers can share a topic"),
    "topic.creation.default.replication.factor": _warning("the broker's default decides, often 1: no second copy"),
    "topic.creation.default.cleanup.policy": _error(
        "delete", "a compacted topic forgets changes, and a pipeline refuses it", default="delete"
    ),
    "topic.creation.default.retention.ms": _warning("the broker's default decides how far back a rewind can go"),
}

_POSTGRESQL: dict[str, Required] = {
    "plugin.name": _error("pgoutput", "the others need an extension on the server", default="decoderbufs"),
    "slot.name": Required((), "the default, 'debezium', is shared by all connectors that do not say"),
    "slot.drop.on.stop": _error(
        "false", "a stop would drop the slot: changes made meanwhile are lost", default="false"
    ),
    "datatype.propagate.source.type": _error(SOURCE_TYPES, _SOURCE_TYPE_WHY, ".*"),
    "interval.handling.mode": _error("string", "numeric merges months and days, and overflows", default="numeric"),
    "hstore.handling.mode": _error("json", "readers take hstore as JSON text", default="map"),
    "include.unknown.datatypes": _error("true", "otherwise such columns are left out of the records", default="false"),
    "heartbeat.action.query": _warning(
        "without it the slot stands still while only other databases of the server write: the server keeps all log"
    ),
    "publication.name": _warning("the default, 'dbz_publication', is shared by all connectors that do not say"),
    "publication.autocreate.mode": _warning(
        "all_tables needs a superuser, and sends the whole database through the slot",
        "disabled",
        "filtered",
        default="all_tables",
    ),
}

_MARIADB: dict[str, Required] = {
    "column.propagate.source.type": _error(".*", _SOURCE_TYPE_WHY),
    "enable.time.adjuster": _error("false", "the default, true, turns the year 0001 into 2001", default="true"),
    "bigint.unsigned.handling.mode": _error("precise", "readers know these two forms", "long", default="long"),
    "event.deserialization.failure.handling.mode": _error("fail", "otherwise changes are skipped", default="fail"),
    "inconsistent.schema.handling.mode": _error("fail", "otherwise changes are skipped", default="fail"),
    "database.server.id": Required((), "two readers of a binlog with one id throw each other out"),
    "schema.history.internal.kafka.topic": Required((), "the connector cannot start again without its table history"),
    "schema.history.internal.kafka.bootstrap.servers": Required((), "the connector cannot start without"),
    "schema.history.internal.store.only.captured.tables.ddl": _warning(
        "a column type that Debezium does not know stops the task, even in a table that is not captured",
        "true",
        default="false",
    ),
    "schema.history.internal.skip.unparseable.ddl": _warning(
        "a statement that Debezium does not know stops the task, even in a table that is not captured",
        "true",
        default="false",
    ),
    "connect.keep.alive.interval.ms": _warning(
        "a server that was restarted is read again only after up to two minutes: the default is 60000", default="60000"
    ),
    "driver.yearIsDateType": _warning("a year 0000 stops the snapshot", "false"),
}

_SECRETS = ("database.password", "database.ssl.keystore.password", "database.ssl.truststore.password")


def required_settings(kind: SourceKind) -> dict[str, Required]:
    """Every setting that is checked for a connector of this kind."""
    return _COMMON | (_POSTGRESQL if kind == "postgresql" else _MARIADB)


def connector_kind(config: Mapping[str, str]) -> SourceKind | None:
    return CONNECTOR_KINDS.get(config.get("connector.class", ""))


def placeholder_of(config: Mapping[str, str]) -> str:
    """What this connector sends for values that the source did not log."""
    return config.get("unavailable.value.placeholder", DEBEZIUM_PLACEHOLDER)


def check_connector(config: Mapping[str, str], where: str = "connector") -> list[Finding]:
    """Settings that are wrong or missing, errors first. `config` as it is in the JSON or as Connect gives it back."""
    kind = connector_kind(config)
    if kind is None:
        return [_unknown_class(config, where)]
    wanted = required_settings(kind)
    found = [finding for key, rule in wanted.items() if (finding := _check(key, rule, config, where))]
    found += [_bare_secret(key, where) for key in _SECRETS if key in config and "${" not in config[key]]
    found += _heartbeat(config, where)
    return sorted(found, key=lambda finding: finding.severity != "error")


def _check(key: str, rule: Required, config: Mapping[str, str], where: str) -> Finding | None:
    given = config.get(key)
    if given is None:
        fine = rule.default is not None and rule.default in rule.values
    else:
        fine = not rule.values or given.strip() in rule.values
    if fine:
        return None
    said = f"{key} is not set" if given is None else f"{key} is {given}"
    recommended = rule.values[0] if rule.values else _EXAMPLES.get(key, "…")
    fix = f'remove "{key}"' if recommended == "" else f"{json.dumps(key)}: {json.dumps(recommended)},"
    return Finding(f"setting:{key}", rule.severity, where, said, rule.why, fix)


_EXAMPLES = {
    "heartbeat.action.query": "SELECT pg_logical_emit_message(true, 'cdc', 'heartbeat')",
    "topic.prefix": "crm",
    "heartbeat.interval.ms": "1000",
    "poll.interval.ms": "5",
    "signal.data.collection": "public.debezium_signal",
    "slot.name": "cdc_crm",
    "publication.name": "cdc_crm",
    "database.server.id": "54001",
    "connect.keep.alive.interval.ms": "5000",
    "table.include.list": "public.customers,public.orders",
    "max.queue.size.in.bytes": "67108864",
    "topic.creation.default.partitions": "4",
    "topic.creation.default.replication.factor": "3",
    "topic.creation.default.retention.ms": "604800000",
    "schema.history.internal.kafka.topic": "schema-history.crm",
    "schema.history.internal.kafka.bootstrap.servers": "${kafka:bootstrap}",
}


def _heartbeat(config: Mapping[str, str], where: str) -> list[Finding]:
    given = config.get("heartbeat.interval.ms")
    if given is None or (given.strip().isdigit() and int(given) > 0):
        return []
    key, rule = "heartbeat.interval.ms", _COMMON["heartbeat.interval.ms"]
    return [Finding(f"setting:{key}", "error", where, f"{key} is {given}", rule.why, f'"{key}": "1000",')]


def _bare_secret(key: str, where: str) -> Finding:
    why = "Kafka Connect shows its configuration to everybody who can reach it"
    fix = f'"{key}": "${{file:/path/on/the/worker:key}}",'
    return Finding("bare-secret", "error", where, f"{key} is written out", why, fix)


def _unknown_class(config: Mapping[str, str], where: str) -> Finding:
    given = config.get("connector.class")
    what = f"connector.class is {given}" if given else "connector.class is not set"
    fix = f'"connector.class": "{next(iter(CONNECTOR_KINDS))}",'
    return Finding("connector-class", "error", where, what, f"known: {', '.join(CONNECTOR_KINDS)}", fix)
