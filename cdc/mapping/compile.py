"""A mapping meets a schema version: names are resolved, expressions typed, the key checked; the result is a `Plan`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Literal

import msgspec

from cdc.keys import NO_KEYS, Keyring
from cdc.mapping import change, constants
from cdc.mapping.diagnostics import Diagnostic, MappingError, did_you_mean
from cdc.mapping.expressions import Expression, ExpressionError, compile_expression
from cdc.mapping.filters import Filter, FilteredPlan
from cdc.mapping.forms import FormError, form_of
from cdc.mapping.history_plan import HistoryPlan, history_findings, history_table
from cdc.mapping.mask_checks import clear_copies, key_findings, masked_columns
from cdc.mapping.masking import Masked, MaskError, Masking, compile_mask
from cdc.mapping.model import EVERYTHING, ColumnSpec, Star, TableMapping
from cdc.mapping.plan import Keys, Maker, Plan
from cdc.mapping.request_checks import request_findings
from cdc.mapping.rule_checks import compile_rules
from cdc.model import (
    Action,
    Column,
    ColumnType,
    ConflictType,
    DeletePolicy,
    Kind,
    Rules,
    TableSchema,
    TargetColumn,
    TargetTable,
)
from cdc.yamlfile import ValuePath

Refuse = Callable[[Column], str | None]
_FULL = "set REPLICA IDENTITY FULL on the source table"
_UNHASHABLE = {Kind.ARRAY, Kind.JSON}  # no order, no plain equality: nothing to find a row by


def compile_table(
    mapping: TableMapping,
    schema: TableSchema,
    *,
    refuse: Refuse | None = None,
    full_before: bool | None = None,
    keys: Keyring = NO_KEYS,
) -> Plan:
    """The plan of `mapping` for events of `schema`. Raises `MappingError` with every finding.

    `refuse` says why a source column cannot be carried exactly (None: it can). `full_before`: do updates and deletes
    carry the whole old row (REPLICA IDENTITY FULL)? None: not known; MariaDB always does. `keys`: of masks; `Usage`
    where one's reference leads nowhere. Plans are made once for each (mapping, schema.version).
    """
    return _Compiler(mapping, schema, refuse or _accept, full_before, keys).plan()


def _accept(column: Column) -> str | None:
    return None


class _Output:
    """A target column on its way to the plan."""

    def __init__(self, column: TargetColumn, maker: Maker, path: ValuePath) -> None:
        self.column = column
        self.maker = maker
        self.path = path


class _Compiler:
    def __init__(
        self, mapping: TableMapping, schema: TableSchema, refuse: Refuse, full_before: bool | None, keys: Keyring
    ) -> None:
        self.mapping = mapping
        self.schema = schema
        self.refuse = refuse
        self.keys = keys
        self.full_before = True if full_before is None and schema.kind == "mariadb" else full_before
        self.names = {column.name: index for index, column in enumerate(schema.columns)}
        self.found: list[Diagnostic] = []
        self.outputs: dict[str, _Output] = {}
        self.filter: Filter | None = None

    def plan(self) -> Plan:
        self._columns()
        key = self._key()
        if self.mapping.key is None:  # those of a key by name were found when the file was read
            self.found += key_findings(self.mapping, key)
        self.found += clear_copies(self.mapping)
        width = len(key)
        if self.mapping.contributor is not None:
            key += self._source_key(key)
        self._soft_delete()
        self._where(key)
        self._stop_on_errors()
        self.found += request_findings(self.mapping, list(self.outputs), key)
        makers = [output.maker for output in self.outputs.values()]
        keys = self._keys(key)
        rules = self._rules(key)
        self.found += history_findings(self.mapping, list(self.outputs))
        self._stop_on_errors()
        parts = (self.mapping, self.schema, self._target(key, width, rules), makers, keys, tuple(self.found))
        plan = Plan(*parts) if self.filter is None else FilteredPlan(*parts, self.filter)
        history = self.mapping.history
        return plan if history is None else HistoryPlan(plan, history_table(plan.target, history.compiled))

    # Columns

    def _columns(self) -> None:
        columns = self.mapping.columns
        named = dict(columns.named)
        if columns.everything is not None:
            for name in self._star(columns.everything, named):
                del named[name]
        for name, spec in named.items():
            self._named(name, spec)

    def _star(self, star: Star, named: Mapping[str, ColumnSpec]) -> list[str]:
        """Source columns in their own order; a renamed or redefined one keeps its place. Returns those redefined."""
        redefined = []
        below: ValuePath = ("columns", EVERYTHING)
        for place, name in enumerate(star.except_):
            self._known(name, (*below, "except", place))
        for name in star.rename:
            self._known(name, (*below, "rename", name), key=True)
        for column in self.schema.columns:
            if column.name in star.except_:
                continue
            target = star.rename.get(column.name, column.name)
            renamed = column.name in star.rename
            if target in named and not renamed:
                self._named(target, named[target])
                redefined.append(target)
            elif target in self.outputs or target in named:
                path = (*below, "rename", column.name) if renamed else below
                self._error("duplicate-column", f"two columns would be named '{target}'", path)
            else:
                path = (*below, "rename", column.name) if renamed else below
                self._copy(target, column, None, path)
        return redefined

    def _named(self, name: str, spec: ColumnSpec) -> None:
        path: ValuePath = ("columns", name)
        if spec.sql is not None:
            self._expression(name, spec, (*path, "sql"))
        elif (source := spec.source_of(name)) is not None:
            long_form = spec.copy_ is not None and self.mapping.span(*path, "copy") != self.mapping.span(*path)
            at = (*path, "copy") if long_form else path
            column = None if self._may_be_missing(source, at) else self._known(source, at, key=spec.copy_ is None)
            if column is not None and spec.masked:
                self._masked_copy(name, column, spec, at)
            elif column is not None:
                self._copy(name, column, spec.type, at)
                self._form(name, column, spec, path)
        else:
            self._constant(name, spec, path)

    def _may_be_missing(self, name: str, path: ValuePath) -> bool:
        """Whether the source table has no such column any more, and the rules say to go on without it."""
        rules = self.mapping.rules
        if name in self.names or rules is None or rules.on.get(ConflictType.SOURCE_COLUMN_MISSING) is not Action.SKIP:
            return False
        message = f"{self.schema.namespace}.{self.schema.table} has no column '{name}': by rule, it is not written"
        self.found.append(self.mapping.finding("source-column-missing", message, path, severity="warning"))
        return True

    def _known(self, name: str, path: ValuePath, *, key: bool = False) -> Column | None:
        index = self.names.get(name)
        if index is not None:
            return self.schema.columns[index]
        table = f"{self.schema.namespace}.{self.schema.table}"
        advice = did_you_mean(name, list(self.names))
        if "(" in name:
            advice = f"for an expression write {{sql: {name}}}"
        self._error("unknown-column", f"{table} has no column '{name}'", path, help=advice, key=key)
        return None

    def _copy(self, name: str, column: Column, sql_type: str | None, path: ValuePath) -> None:
        why = self.refuse(column)
        if why is not None:
            advice = f"leave it out: '*': {{except: [{column.name}]}}" if EVERYTHING in path or len(path) < 2 else None
            self._error("refused-column", f"column '{column.name}' cannot be copied exactly: {why}", path, help=advice)
        index = self.names[column.name]
        maker = Maker(name, source=index, inputs=(index,))
        self.outputs[name] = _Output(TargetColumn(name, column.type, sql_type, column.nullable), maker, path)

    def _form(self, name: str, column: Column, spec: ColumnSpec, path: ValuePath) -> None:
        """The values of a copied column, changed on the way."""
        index = self.names[column.name]
        try:
            form = form_of(spec, column, index, self.schema.kind)
        except FormError as error:
            self._error("bad-form", str(error), (*path, *error.place), help=error.help, key=error.key)
            return
        if form is not None:
            maker = Maker(name, call=form.call, inputs=(index,))
            self.outputs[name] = _Output(TargetColumn(name, form.type, spec.type), maker, path)

    def _masked_copy(self, name: str, column: Column, spec: ColumnSpec, path: ValuePath) -> None:
        masked = self._mask(spec, column.type, column.nullable, ("columns", name, "mask"))
        if masked is None:
            return
        if masked.masking is None:
            maker = Maker(name, constant=masked.constant)
            self.outputs[name] = _Output(TargetColumn(name, masked.type, spec.type, masked.nullable), maker, path)
            return
        self._copy(name, column, spec.type, path)
        maker = msgspec.structs.replace(self.outputs[name].maker, masking=masked.masking)
        self.outputs[name] = _Output(TargetColumn(name, masked.type, spec.type, masked.nullable), maker, path)

    def _mask(self, spec: ColumnSpec, type_: ColumnType, nullable: bool, path: ValuePath) -> Masked | None:
        try:
            return compile_mask(spec.mask, type_, nullable, self.keys)
        except MaskError as error:
            self._error(error.code, error.message, path, help=error.help)
            return None

    def _constant(self, name: str, spec: ColumnSpec, path: ValuePath) -> None:
        try:
            type_, value = constants.typed(spec.value, spec.type)
        except (ValueError, ArithmeticError) as error:
            self._error("bad-constant", f"the value does not fit the type: {error}", (*path, "value"))
            return
        column = TargetColumn(name, type_, spec.type, value is None)
        self.outputs[name] = _Output(column, Maker(name, constant=value), path)

    def _expression(self, name: str, spec: ColumnSpec, path: ValuePath) -> None:
        assert spec.sql is not None
        made = self._compiled(spec.sql, path)
        if made is None:
            return
        maker, type_ = self._maker(name, made), made.type
        if spec.masked:
            masked = self._mask(spec, made.type, True, ("columns", name, "mask"))
            if masked is None:
                return
            type_ = masked.type
            if masked.masking is None:
                maker = Maker(name, constant=masked.constant)
            else:
                maker = msgspec.structs.replace(maker, masking=masked.masking)
        self.outputs[name] = _Output(TargetColumn(name, type_, spec.type), maker, path)

    def _maker(self, name: str, made: Expression) -> Maker:
        of_change = change.of_change(self.schema, made.inputs)
        return Maker(name, call=made.call, constant=made.constant, inputs=made.inputs, of_change=of_change)

    def _compiled(self, text: str, path: ValuePath, *, condition: bool = False) -> Expression | None:
        """The expression, or None when something is wrong with it."""
        try:
            made = compile_expression(text, self.schema, of_change=True, condition=condition)
        except ExpressionError as error:
            for problem in error.problems:
                within = (problem.start, problem.length)
                self._error(problem.code, problem.message, path, help=problem.help, within=within)
            return None
        read = {change.column_of(self.schema, index) for index in made.inputs}
        for column in (self.schema.columns[index] for index in read if index is not None):
            why = self.refuse(column)
            if why is not None:
                self._error("refused-column", f"column '{column.name}' cannot be read exactly: {why}", path)
        if not self.full_before and change.reads_before(self.schema, made.inputs):
            message = "before.… is NULL where the source does not send the old row"
            self.found.append(self.mapping.finding("needs-old-row", message, path, help=_FULL, severity="warning"))
        return made

    # The key

    def _key(self) -> tuple[str, ...]:
        if self.mapping.key is None:
            return self._default_key()
        for place, name in enumerate(self.mapping.key):
            if name not in self.outputs:
                advice = did_you_mean(name, list(self.outputs))
                self._error(
                    "unknown-key-column", f"'{name}' is not a column of the target", ("key", place), help=advice
                )
        if len(set(self.mapping.key)) < len(self.mapping.key):
            self._error("duplicate-column", "a column stands twice in the key", ("key",))
        return self.mapping.key

    def _default_key(self) -> tuple[str, ...]:
        copies: dict[int, str] = {}
        for output in reversed(self.outputs.values()):
            if output.maker.tells is not None:
                copies[output.maker.tells] = output.column.name
        table = f"{self.schema.namespace}.{self.schema.table}"
        if not self.schema.key:
            self._error("no-key", f"{table} has no key", ("from",), help="name the target's key columns: key: […]")
        # One whose mask tells no rows apart stands in the key all the same: it is refused there.
        found = [copies.get(self.names[name]) or self._masked_by(name) for name in self.schema.key]
        left_out = [name for name, copy in zip(self.schema.key, found, strict=True) if copy is None]
        if left_out and not self.found:
            advice = "copy it, or name the target's key columns: key: […]"
            self._error("no-key", f"the key column '{left_out[0]}' of {table} is not copied", ("columns",), help=advice)
        return tuple(copy or name for copy, name in zip(found, self.schema.key, strict=True))

    def _source_key(self, key: tuple[str, ...]) -> tuple[str, ...]:
        """Of a contribution: columns for the source row's key, where the target key does not hold all of it. Several
        source rows may meet in one target row, and each has its own word."""
        held = {self.outputs[name].maker.tells for name in key if name in self.outputs}
        added = []
        for name in self.schema.key:
            index = self.names[name]
            if index not in held:
                column, masking = self._kept_as(name, index)
                maker = Maker(column.name, source=index, inputs=(index,), masking=masking)
                self.outputs[column.name] = _Output(column, maker, ("from",))
                added.append(column.name)
        return tuple(added)

    def _kept_as(self, name: str, index: int) -> tuple[TargetColumn, Masking | None]:
        """A key column of the source as it is kept with contributions: masked where the mapping masks it."""
        masked = self._masked_by(name)
        type_, masking = self.schema.columns[index].type, None
        if masked is not None and masked in self.outputs:
            output = self.outputs[masked]
            type_, masking = output.column.type, output.maker.masking
            self.found += key_findings(self.mapping, [masked])
        return TargetColumn(f"@{name}", type_, None, nullable=False), masking

    def _masked_by(self, name: str) -> str | None:
        """The target column that masks a source column."""
        masked = masked_columns(self.mapping)
        return next((target for target, spec in masked.items() if spec.source_of(target) == name), None)

    def _keys(self, key: tuple[str, ...]) -> Keys:
        source_key = tuple(self.names[name] for name in self.schema.key)
        outputs = [self.outputs[name] for name in key]
        for output in outputs:
            if output.maker.of_change:
                message = "a key is the row's own: it cannot read before.… or meta.…"
                self._error("bad-key", message, self._key_path(output.column.name))
            if output.column.type.kind in _UNHASHABLE:
                message = f"a {output.column.type.kind} column cannot be part of a key"
                self._error("bad-key", message, self._key_path(output.column.name))
        own = [output.maker for output in outputs if not output.maker.of_change]
        other = {index for maker in own for index in maker.inputs} - set(source_key)
        if other:
            self._key_of_other_columns(outputs, other)
        copied = {output.maker.tells for output in outputs}
        if source_key and (not other or self.mapping.history) and not copied.issuperset(source_key):
            message = (
                "the target key does not hold the whole source key: several source rows may meet in one target row"
            )
            # In a history, changes of several source rows at one position would be taken for one.
            if self.mapping.history is None:
                self.found.append(self.mapping.finding("narrow-key", message, self._key_path(), severity="warning"))
            else:
                names = ", ".join(self.schema.key)
                self._error("narrow-key", message, self._key_path(), help=f"a history's key holds it: add {names}")
        return Keys(tuple(output.maker for output in outputs), source_key, len(self.schema.columns), bool(other))

    def _key_of_other_columns(self, outputs: Iterable[_Output], other: set[int]) -> None:
        """The old target key of a changed row is in the old row only: does the source send it?"""
        names = ", ".join(sorted(self.schema.columns[index].name for index in other))
        message = f"the target key reads {names}, which the source's key does not hold"
        advice = "set REPLICA IDENTITY FULL on the source table, or choose a key from its key columns"
        computed = any(output.maker.call and other.intersection(output.maker.inputs) for output in outputs)
        if self.full_before is False or (self.full_before is None and computed):
            # Of a default-identity delete all other columns are NULL, which an expression may turn into a wrong key.
            self._error("key-needs-old-row", message, self._key_path(), help=advice)
        elif self.full_before is None:
            note = self.mapping.finding("key-needs-old-row", message, self._key_path(), help=advice, severity="warning")
            self.found.append(note)

    def _key_path(self, name: str | None = None) -> ValuePath:
        if self.mapping.key is None:
            return ("from",)
        return ("key", self.mapping.key.index(name)) if name in self.mapping.key else ("key",)

    # The filter

    def _where(self, key: tuple[str, ...]) -> None:
        text = self.mapping.where
        made = None if text is None else self._compiled(text, ("where",), condition=True)
        if made is None:
            return
        held = {self.outputs[name].maker.source for name in key if name in self.outputs}
        narrow = not held.issuperset(self.names[name] for name in self.schema.key)
        of_change = change.of_change(self.schema, made.inputs)
        by_key = all(index < len(self.schema.columns) and self.schema.columns[index].key for index in made.inputs)
        self.filter = Filter(made.call or (lambda row: made.constant), made.inputs, of_change, narrow, by_key)
        if narrow and of_change:
            message = "whether a row leaves the filter cannot be told from the old row, and others may share its key"
            self._error("filter-of-change", message, ("where",), help="choose a key that holds the source's whole key")
        elif narrow and not by_key and not self.full_before:
            self._needs_old_row("other source rows may have the target key of a row that the filter leaves out")
        elif not self.full_before and self.mapping.history is not None:
            self._needs_old_row("a history parks changes outside of the filter that do not tell whether they leave it")
        elif not self.full_before and self._partials(key) and self.mapping.on_delete is not DeletePolicy.DELETE:
            self._needs_old_row("where deleted rows stay, changes without all large values are parked")
        elif not self.full_before and self._partials(key):
            self._needs_old_row("large values that an update left alone are missing when it brings a row in", "warning")

    def _needs_old_row(self, why: str, severity: Literal["error", "warning"] | None = None) -> None:
        level = severity or ("error" if self.full_before is False else "warning")
        self.found.append(self.mapping.finding("filter-needs-old-row", why, ("where",), help=_FULL, severity=level))

    # The target

    def _soft_delete(self) -> None:
        name = self.mapping.soft_delete_column
        if self.mapping.on_delete is DeletePolicy.SOFT and name in self.outputs:
            message = f"'{name}' is the column that marks deleted rows; it cannot hold something else"
            advice = "choose another name: soft_delete_column: …"
            self._error("duplicate-column", message, self.outputs[name].path, help=advice)

    def _rules(self, key: tuple[str, ...]) -> Rules | None:
        rules, found = compile_rules(self.mapping, self._target_columns(key), key, self.full_before)
        self.found += found
        return rules

    def _target_columns(self, key: tuple[str, ...]) -> tuple[TargetColumn, ...]:
        return tuple(
            TargetColumn(column.name, column.type, column.sql_type, column.nullable and column.name not in key)
            for column in (output.column for output in self.outputs.values())
        )

    def _target(self, key: tuple[str, ...], width: int, rules: Rules | None) -> TargetTable:
        soft = self.mapping.soft_delete_column if self.mapping.on_delete is DeletePolicy.SOFT else None
        contributor, on_delete, contributes = self.mapping.contributor, self.mapping.on_delete, None
        if contributor is not None:
            contributes = self.mapping.contributes(width)
            soft = None
            on_delete = DeletePolicy.DELETE if on_delete is DeletePolicy.SOFT else on_delete
        return TargetTable(
            mapping=self.mapping.id,
            namespace=self.mapping.to.namespace,
            name=self.mapping.to.name,
            columns=self._target_columns(key),
            key=key,
            on_delete=on_delete,
            soft_delete=soft,
            partials=self._partials(key),
            rules=rules,
            on_truncate=self.mapping.on_truncate,
            supersede=self.mapping.supersede,
            contributes=contributes,
        )

    def _partials(self, key: tuple[str, ...]) -> bool:
        if self.schema.kind != "postgresql":
            return False
        read = {index for name, output in self.outputs.items() if name not in key for index in output.maker.inputs}
        read.update(() if self.filter is None else self.filter.inputs)
        columns = {change.column_of(self.schema, index) for index in read}
        return any(may_be_unavailable(self.schema.columns[index].type) for index in columns if index is not None)

    def _error(
        self,
        code: str,
        message: str,
        path: ValuePath,
        *,
        help: str | None = None,
        key: bool = False,
        within: tuple[int, int] | None = None,
    ) -> None:
        self.found.append(self.mapping.finding(code, message, path, help=help, key=key, within=within))

    def _stop_on_errors(self) -> None:
        if any(found.severity == "error" for found in self.found):
            raise MappingError(self.found)


def may_be_unavailable(type_: ColumnType) -> bool:
    """Can PostgreSQL store a value of this type out of line (TOAST)? Then an update may come without it.

    Only values longer than a TOAST pointer (18 bytes) ever are.
    """
    if type_.kind is Kind.TEXT:
        return type_.length is None or type_.length * 4 > 16
    if type_.kind is Kind.DECIMAL:
        return type_.length is None or type_.length > 20  # two bytes hold four digits, beside a header
    return type_.kind in {Kind.BYTES, Kind.BITS, Kind.JSON, Kind.LITERAL, Kind.ARRAY}
