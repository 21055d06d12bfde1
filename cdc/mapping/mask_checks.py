"""What is wrong with masks, or may be, that a file alone tells; types are looked at when the mapping meets a schema."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from cdc.errors import Usage
from cdc.keys import CURRENT, DEFAULT, Keyring
from cdc.mapping.diagnostics import Diagnostic, did_you_mean
from cdc.mapping.expressions import columns_read
from cdc.mapping.masks import keeps, kind_of
from cdc.mapping.model import EVERYTHING, ColumnSpec, Pipeline, TableMapping
from cdc.yamlfile import ValuePath

SEALING = "parked"
"""The set of keys that seals the raw records of parked keys; where there is none, the default one does."""


def masked_columns(table: TableMapping) -> dict[str, ColumnSpec]:
    """The target columns that are masked."""
    return {name: spec for name, spec in table.columns.named.items() if spec.masked}


def key_findings(table: TableMapping, key: Sequence[str]) -> Iterator[Diagnostic]:
    """Masks of key columns: rows are told apart by them, now and after the key of the mask was rotated."""
    for name, spec in masked_columns(table).items():
        if name not in key:
            continue
        path: ValuePath = ("columns", name, "mask")
        if not keeps(spec.mask).uniqueness:
            message = f"'{name}' is in the key, and '{kind_of(spec.mask)}' does not keep uniqueness"
            advice = "pseudonym and hash do; or leave it out of the key: key: […]"
            yield table.finding("mask-in-key", message, path, help=advice)
        elif spec.mask is not None and spec.mask.version == CURRENT:
            message = f"'{name}' is in the key: with another current masking key every row would get another one"
            advice = "name the version: {…, version: NAME}; to change it later, load the table anew"
            yield table.finding("mask-version", message, path, help=advice)


def clear_copies(table: TableMapping) -> Iterator[Diagnostic]:
    """Warnings: what is masked in one column and can be read in another."""
    columns = table.columns
    masks: dict[str, str] = {}
    for name, spec in masked_columns(table).items():
        source = spec.source_of(name)
        if source is not None:
            masks.setdefault(source, name)
    for name, spec in columns.named.items():
        path: ValuePath = ("columns", name)
        if spec.masked:
            continue
        for source in columns_read(spec.sql) if spec.sql is not None else [spec.copy_]:
            if source in masks:
                message = f"'{name}' reads '{source}', which is masked in '{masks[source]}'"
                at: ValuePath = path if spec.sql is None else (*path, "sql")
                advice = "mask it too, if what it tells should not be known: mask: …"
                yield table.finding("reads-masked", message, at, help=advice, severity="warning")
    if columns.everything is not None:
        for source in masks:
            target = columns.everything.rename.get(source, source)
            if source not in columns.everything.except_ and target not in columns.named:
                message = f"'*' copies '{source}' as it is, which is masked in '{masks[source]}'"
                advice = f"'*': {{except: [{source}]}}"
                at = ("columns", EVERYTHING)
                yield table.finding("reads-masked", message, at, help=advice, key=True, severity="warning")


def key_problems(pipelines: Iterable[Pipeline], keys: Keyring, name: str) -> Iterator[Diagnostic]:
    """Masks that have no key in the file `name`, and, as warnings, keys that cannot be looked up here and now: each
    where it is first used."""
    away: set[tuple[str, str]] = set()
    sealing = SEALING if SEALING in keys.names else DEFAULT
    for pipeline in pipelines:
        needed = {(sealing, CURRENT)}
        for table in pipeline.tables:
            for column, spec in masked_columns(table).items():
                uses = {(spec.mask.key, spec.mask.version)} if spec.mask is not None and spec.mask.keyed else set()
                for use in sorted((uses | needed) - away):
                    for found in _problems_of(table, ("columns", column, "mask"), keys, *use, name):
                        yield found
                        away |= {use} if found.severity == "warning" else set()
                needed = set()  # said once


def _problems_of(
    table: TableMapping, path: ValuePath, keys: Keyring, key: str, version: str, name: str
) -> Iterator[Diagnostic]:
    if key not in keys.names:
        advice = did_you_mean(key, keys.names) or f"add it there: masking: {{{key}: {{current: …, versions: …}}}}"
        message = f"{name} has no masking key '{key}', which masks need, and the seal of what is parked of their rows"
        yield table.finding("no-masking-key", message, path, help=advice)
    elif version != CURRENT and version not in keys.versions(key):
        message = f"the masking key '{key}' has no version '{version}' in {name}"
        yield table.finding("no-masking-key", message, path, help=did_you_mean(version, keys.versions(key)))
    else:
        try:
            keys.key(key, version, "")
        except Usage as error:
            message = f"the masking key '{key}' cannot be looked up here: {error.what}"
            yield table.finding("masking-key-away", message, path, help=error.hint, severity="warning")
