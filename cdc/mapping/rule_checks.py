"""Conflict rules: what is wrong with them, and their compiled form (`cdc.model.Rules`) for tables without `sources`.

Two moments. When a file is read, all that can be told without a source's schema; when a mapping meets a schema version,
names and kinds of columns. Both point at the rule in the file, not at the table it is for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeAlias

from cdc.mapping.diagnostics import Diagnostic, did_you_mean
from cdc.mapping.masks import keeps, kind_of
from cdc.mapping.model import EVERYTHING, Pipeline, TableMapping
from cdc.mapping.rules import ByVersion, DetailedRule, Resolver, TableRules
from cdc.model import Combine, Detect, Rules, TargetColumn, Unit
from cdc.rules import ALLOWED, BY_VERSION, ORDERED, VERSIONS
from cdc.yamlfile import ValuePath

_WITH_SOURCES = ("delta", "union", "merge")
_OF_ONE_VALUE = (Combine.MAX, Combine.MIN)
_NOT_HERE = "it needs to know what each source says: add sources: […], the names of those that make the row"
Named: TypeAlias = tuple[Resolver, ValuePath, tuple[str, ...]]  # a resolver, where it stands, the columns it is for


# --- when a file is read ---------------------------------------------------------------------------------------------


def rule_findings(pipeline: Pipeline) -> Iterator[Diagnostic]:
    """Every finding about the `rules` of a pipeline that needs no schema."""
    for name, rules in pipeline.rules.items():
        at: ValuePath = ("rules", name)
        tables = [table for table in pipeline.tables if table.rules is rules]
        if name != EVERYTHING and not tables:
            message = f"no table of this pipeline is written to '{name}'"
            known = [str(table.to) for table in pipeline.tables]
            yield _found(pipeline, "unknown-table", message, at, did_you_mean(name, known), key=True)
        yield from _of_actions(pipeline, rules, at)
        yield from _of_sources(pipeline, tables, rules, at) if rules.sources else _without_sources(pipeline, rules, at)
        yield from _of_groups(pipeline, rules, at)
        yield from _of_masks(pipeline, tables, rules, at)
        if tables and name != EVERYTHING and all(table.columns.everything is None for table in tables):
            known = list(dict.fromkeys(column for table in tables for column in table.columns.named))
            yield from _unknown(pipeline, rules, at, known, tables[0].key or ())


def _found(
    pipeline: Pipeline, code: str, message: str, path: ValuePath, help: str | None = None, *, key: bool = False
) -> Diagnostic:
    assert pipeline.document is not None, "pipelines of files have one"
    return Diagnostic(code, message, pipeline.document.file, pipeline.document.span(path, key=key), help)


def _of_actions(pipeline: Pipeline, rules: TableRules, at: ValuePath) -> Iterator[Diagnostic]:
    compares = isinstance(rules.detect, ByVersion) or rules.detect == "commit_time"
    for type_, action in rules.on.items():
        path: ValuePath = (*at, "on", type_.value)
        if action not in ALLOWED[type_]:
            message = f"'{action}' makes no sense for {type_}"
            yield _found(pipeline, "bad-action", message, path, f"here may stand: {', '.join(sorted(ALLOWED[type_]))}")
        elif action in BY_VERSION and not compares and not rules.sources:
            message = f"'{action}' needs to know which is newer"
            advice = "detect: {version: …}, a column that says so, or detect: commit_time"
            yield _found(pipeline, "bad-action", message, path, advice)


def _of_sources(
    pipeline: Pipeline, tables: Sequence[TableMapping], rules: TableRules, at: ValuePath
) -> Iterator[Diagnostic]:
    if "detect" in rules.model_fields_set:
        message = "'detect' compares a change with the target's row; with 'sources' the row is worked out from them"
        yield _found(pipeline, "bad-value", message, (*at, "detect"), "leave it out", key=True)
    names = [table.contributor or "" for table in tables]
    for place, source in enumerate(rules.sources or ()):
        if source not in names:
            message = f"no table of '{source}' is written to this target table"
            yield _found(pipeline, "unknown-source", message, (*at, "sources", place), did_you_mean(source, names))
    for table, name in zip(tables, names, strict=True):
        if name not in (rules.sources or ()):
            message = f"'{name}' is none of the sources that the rules of {table.to} name"
            advice = did_you_mean(name, rules.sources or ())
            yield table.finding("unknown-source", message, ("as",) if table.as_ else ("from",), help=advice)


def _without_sources(pipeline: Pipeline, rules: TableRules, at: ValuePath) -> Iterator[Diagnostic]:
    if "exists" in rules.model_fields_set:
        message = "'exists' is about rows that several sources make"
        yield _found(pipeline, "bad-value", message, (*at, "exists"), "add sources: […], or leave it out", key=True)
    for resolver, path, columns in _resolvers(rules, at):
        word = _word(resolver)
        if word in _WITH_SOURCES or (isinstance(resolver, DetailedRule) and word not in ("newest", "oldest")):
            message = f"'{word}' cannot be told from the row and the change alone"
            yield _found(pipeline, "needs-sources", message, path, _NOT_HERE)
        elif isinstance(resolver, str) and word in ("newest", "oldest"):
            message = f"'{word}' needs a column that says which is newer"
            yield _found(pipeline, "bad-resolver", message, path, f"{{{word}: …}}, or add sources: […]")
        elif len(columns) > 1 and path[-1] == "resolve" and word in _OF_ONE_VALUE:
            message = f"'{word}' is about one value, not about columns that belong together"
            advice = f"{{{'newest' if word == 'max' else 'oldest'}: …}}, the column that decides"
            yield _found(pipeline, "bad-resolver", message, path, advice)


def _of_groups(pipeline: Pipeline, rules: TableRules, at: ValuePath) -> Iterator[Diagnostic]:
    seen = {column: f"'{column}' has a rule of its own" for column in rules.columns}
    for name, group in rules.groups.items():
        for place, column in enumerate(group.columns):
            if column in seen:
                path: ValuePath = (*at, "groups", name, "columns", place)
                advice = "a column is in one group, or has one rule of its own"
                yield _found(pipeline, "duplicate-column", seen[column], path, advice)
            seen.setdefault(column, f"'{column}' is in group '{name}' already")


def _of_masks(
    pipeline: Pipeline, tables: Sequence[TableMapping], rules: TableRules, at: ValuePath
) -> Iterator[Diagnostic]:
    """Rules that compare or combine what only the values themselves tell."""
    named = [each for table in tables for each in table.columns.named.items()]
    masks = {name: spec.mask for name, spec in named if spec.masked}
    ordered: list[tuple[str, ValuePath]] = []
    for resolver, path, columns in _resolvers(rules, at):
        word, version = _word(resolver), _version(resolver)
        ordered += [(version, (*path, word))] if version is not None else []
        ordered += [(column, path) for column in columns] if word in _OF_ONE_VALUE else []
        for column in columns if word in _WITH_SOURCES else ():
            if column in masks:
                message = f"'{word}' of '{column}', which is masked: nothing can be made of such values"
                yield _found(pipeline, "mask-in-rule", message, path, "another rule, or no mask")
    if isinstance(rules.detect, ByVersion):
        ordered.append((rules.detect.version, (*at, "detect", "version")))
    for column, path in ordered:
        if column in masks and not keeps(masks[column]).order:
            message = f"'{column}' is masked, and '{kind_of(masks[column])}' keeps no order to compare by"
            yield _found(pipeline, "mask-in-rule", message, path, "'date' keeps it; or compare another column")


def _unknown(
    pipeline: Pipeline, rules: TableRules, at: ValuePath, known: Sequence[str], key: Sequence[str]
) -> Iterator[Diagnostic]:
    """Names that are no columns of the table, or have no rule because rows are told apart by them."""
    for column, path, about_key in _names(rules, at):
        if column not in known:
            message = f"'{column}' is not a column of the target"
            is_key = path[-1] == column and path[-2] == "columns"
            yield _found(pipeline, "unknown-column", message, path, did_you_mean(column, known), key=is_key)
        elif about_key and column in key:
            message = f"'{column}' is in the key: rows are told apart by it, and never differ in it"
            yield _found(pipeline, "bad-resolver", message, path, "leave it out")


def _names(rules: TableRules, at: ValuePath) -> Iterator[tuple[str, ValuePath, bool]]:
    """Every name of a target column in the rules, where it stands, and whether the rule is about that column."""
    for column in rules.columns:
        yield column, (*at, "columns", column), True
    for name, group in rules.groups.items():
        for place, column in enumerate(group.columns):
            yield column, (*at, "groups", name, "columns", place), True
    for resolver, path, _ in _resolvers(rules, at):
        version = _version(resolver)
        if version is not None:
            yield version, (*path, _word(resolver)), False
    if isinstance(rules.detect, ByVersion):
        yield rules.detect.version, (*at, "detect", "version"), False


def _resolvers(rules: TableRules, at: ValuePath) -> Iterator[Named]:
    """All of them; the default last, for no column by name."""
    for column, resolver in rules.columns.items():
        yield resolver, (*at, "columns", column), (column,)
    for name, group in rules.groups.items():
        yield group.resolve, (*at, "groups", name, "resolve"), group.columns
    if rules.resolve is not None:
        yield rules.resolve, (*at, "resolve"), ()


def _word(resolver: Resolver) -> str:
    return resolver if isinstance(resolver, str) else next(iter(resolver.model_fields_set))


def _version(resolver: Resolver) -> str | None:
    return None if isinstance(resolver, str) else resolver.newest or resolver.oldest


# --- when a mapping meets a schema -----------------------------------------------------------------------------------


def compile_rules(
    mapping: TableMapping, columns: Sequence[TargetColumn], key: Sequence[str], full_before: bool | None
) -> tuple[Rules | None, list[Diagnostic]]:
    """The rules of a table for these target columns, and what is wrong with them. None: there are none, or the table's
    rows are worked out from several sources."""
    if mapping.rules is None or mapping.rules.sources:
        return None, []
    compiler = _Compiler(mapping, mapping.rules, columns, key)
    made = compiler.rules()
    compiler.check_before(made, full_before)
    return made, compiler.found


class _Compiler:
    def __init__(
        self, mapping: TableMapping, rules: TableRules, columns: Sequence[TargetColumn], key: Sequence[str]
    ) -> None:
        self.mapping = mapping
        self.said = rules
        self.columns = columns
        self.names = {column.name: index for index, column in enumerate(columns)}
        self.key = key
        self.everywhere = mapping.rules_name == EVERYTHING  # then names that this table lacks are meant for others
        self.found: list[Diagnostic] = []

    def rules(self) -> Rules:
        self._check_names()
        units = self._units()
        detect = self.said.detect
        version = self._version_index(detect.version, ("detect", "version")) if isinstance(detect, ByVersion) else None
        ruled = {index for unit in units for index in unit.columns}
        keys = {self.names[name] for name in self.key}
        kind = Detect.VERSION if isinstance(detect, ByVersion) else Detect(detect)
        reads = kind in (Detect.CHANGED_COLUMNS, Detect.ALL_COLUMNS)
        compared = tuple(index for index in range(len(self.columns)) if index not in ruled | keys) if reads else ()
        return Rules(
            detect=Detect.POSITION if kind is Detect.VERSION and version is None else kind,
            version=version,
            compared=compared,
            units=tuple(units),
            on=tuple(sorted(self.said.on.items())),
            max_skew_us=round(self.said.max_skew_s * 1_000_000),
        )

    def check_before(self, rules: Rules, full_before: bool | None) -> None:
        """Comparing before images takes a source that sends them."""
        if not rules.reads_before or full_before:
            return
        message = f"'{rules.detect}' compares before images, which PostgreSQL sends with REPLICA IDENTITY FULL only"
        advice = f"ALTER TABLE {self.mapping.from_} REPLICA IDENTITY FULL; without it, nothing is compared"
        severity: Literal["error", "warning"] = "warning" if full_before is None else "error"
        self._error("detect-needs-old-row", message, ("detect",), advice, severity=severity)

    def _check_names(self) -> None:
        for column, path, about_key in _names(self.said, ()):
            if column not in self.names:
                if not self.everywhere:
                    message, advice = f"'{column}' is not a column of the target", did_you_mean(column, [*self.names])
                    is_key = path[-1] == column and path[-2] == "columns"
                    self._error("unknown-column", message, path, advice, key=is_key)
            elif about_key and column in self.key and not self.everywhere:
                message = f"'{column}' is in the key: rows are told apart by it, and never differ in it"
                self._error("bad-resolver", message, path, "leave it out")

    def _units(self) -> list[Unit]:
        """Each column that something is said of, in one; what is said of a column by name goes before the default."""
        units: list[Unit] = []
        versions: dict[int, tuple[Combine, ValuePath]] = {}
        left = {index: self.columns[index].name for index in range(len(self.columns))}
        for name in self.key:
            left.pop(self.names[name], None)
        for resolver, path, names in _resolvers(self.said, ()):
            together = len(names) > 1 or path[0] == "groups" or _version(resolver) is not None
            named = [self.names[name] for name in names if self.names.get(name) in left]
            indexes = named if names else [index for index in left if index not in versions]
            if not indexes or _word(resolver) not in list(Combine):
                continue
            combine, version = Combine(_word(resolver)), None
            if _version(resolver) is not None:
                version = self._version_index(str(_version(resolver)), (*path, combine.value))
                if version is None:
                    continue
                self._decides(versions, version, combine, (*path, combine.value))
            for group in [indexes] if together else [[index] for index in indexes]:
                units += self._unit(combine, group, version, path)
            for index in indexes:
                left.pop(index, None)
        return self._with_versions(units, versions)

    def _unit(self, combine: Combine, indexes: list[int], version: int | None, path: ValuePath) -> list[Unit]:
        if combine is Combine.SOURCE_WINS:
            return []
        for index in indexes if combine in _OF_ONE_VALUE else ():
            column = self.columns[index]
            if column.type.kind not in ORDERED:
                message = f"'{combine}' does not fit '{column.name}': {column.type.kind} values have no order"
                self._error(
                    "bad-resolver", message, path, "choose source_wins, target_wins, keep_if_null or fill_nulls"
                )
        columns = tuple(index for index in indexes if index != version)
        return [Unit(combine, columns, version)] if columns else []

    def _decides(
        self, versions: dict[int, tuple[Combine, ValuePath]], version: int, combine: Combine, path: ValuePath
    ) -> None:
        wanted = Combine.MAX if combine is Combine.NEWEST else Combine.MIN
        if versions.setdefault(version, (wanted, path))[0] is not wanted:
            message = f"'{self.columns[version].name}' cannot say which is newest and which is oldest at once"
            self._error("bad-resolver", message, path)

    def _with_versions(self, units: list[Unit], versions: Mapping[int, tuple[Combine, ValuePath]]) -> list[Unit]:
        """A column that decides for others keeps the highest (lowest) value that it had."""
        kept: list[Unit] = []
        for unit in units:
            for index in set(unit.columns) & versions.keys():
                wanted, path = versions[index]
                if unit.combine is not wanted and unit.version != index:
                    name = self.columns[index].name
                    message = f"'{name}' decides for other columns and keeps the {wanted}: it can have no other rule"
                    self._error("bad-resolver", message, path, f"leave the rule of '{name}' out")
            columns = tuple(index for index in unit.columns if index not in versions)
            kept += [Unit(unit.combine, columns, unit.version)] if columns else []
        return [*kept, *(Unit(combine, (index,)) for index, (combine, _) in versions.items())]

    def _version_index(self, name: str, path: ValuePath) -> int | None:
        """The place of a version column, if it can be one."""
        index = self.names.get(name)
        if index is None:
            return None  # said by _check_names
        type_ = self.columns[index].type
        if type_.kind not in VERSIONS or (type_.length or 0) > 20:
            message = f"a {type_.kind} column cannot say which is newer"
            self._error("bad-version", message, path, f"choose a column of {', '.join(sorted(VERSIONS))}")
            return None
        return index

    def _error(
        self,
        code: str,
        message: str,
        path: ValuePath,
        help: str | None = None,
        *,
        key: bool = False,
        severity: Literal["error", "warning"] = "error",
    ) -> None:
        self.found.append(self.mapping.rule_finding(code, message, path, help=help, key=key, severity=severity))
