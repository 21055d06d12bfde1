"""From contributions to the target row: a pure function, made once per set of rules and shapes.

Every rule ranks the same candidates in the same way, whatever order they came in: by the rule's own measure, then by
the rank of the source, then by the source row's key. Times are each source's commit times (µs in PostgreSQL, whole
seconds to ms in MariaDB); a value that was read by a snapshot ranks below every streamed one, because its time is the
snapshot's, not its own, and among such the source's rank decides.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from cdc.blocks import Image, picker
from cdc.conflict.combine import combiner, merged, order
from cdc.conflict.contributions import Contribution, Document
from cdc.model import TargetColumn, Value

_NEVER = -(1 << 62)  # the time of what no stream has told: before every time
_BEFORE = _NEVER - 1
_COMPUTED = {"sql", "union"}  # also where there is only one source row


class _Nothing(Enum):
    NOTHING = "NOTHING"


NOTHING: Final = _Nothing.NOTHING
"""In a `Word`: its source has no such column, which is not NULL."""


class Rule(msgspec.Struct, frozen=True):
    """How one column (or a group of columns, as one) follows from the contributions.

    `name`: newest, oldest, priority, fill_nulls, keep_if_null, max, min, delta, union, merge or sql. `by`: for newest
    and oldest, a column whose value is compared in place of the times. `sources`: for priority and fill_nulls, those
    asked, in this order (empty: all, by rank). `call`: for sql, from (contributor, column) → value to the value; it may
    raise `ValueError` or `ArithmeticError`.
    """

    name: str
    by: str = ""
    sources: tuple[str, ...] = ()
    call: Callable[[Mapping[tuple[str, str], Value]], Value] | None = None


_PLAIN_NEWEST = Rule("newest")


class Rules(msgspec.Struct, frozen=True):
    """The rules of one target table. `rank`: the contributors, the first wins ties. `exists`: those of which one is
    enough for the row to be there; empty: all must be. `groups`: columns that come from one source row, with the rule
    that chooses it; `columns`: by target column; `otherwise`: for all others. `fingerprint` changes with the rules."""

    rank: tuple[str, ...]
    exists: tuple[str, ...]
    columns: Mapping[str, Rule]
    groups: tuple[tuple[tuple[str, ...], Rule], ...]
    otherwise: Rule
    fingerprint: str


class Shape(NamedTuple):
    """What the values of a contribution are: the contributor and its columns, in order; `key`: those of the target
    row's key."""

    contributor: str
    columns: tuple[TargetColumn, ...]
    key: tuple[str, ...] = ()


class Resolved(NamedTuple):
    """A target row's values, in the order of the resolver's columns. `chosen`: per column the (contributor, source key)
    that its value came from, None where several made it, or nobody."""

    values: Image
    chosen: tuple[tuple[str, str] | None, ...]


class UnknownShapeError(Exception):
    """A contribution of a shape that this resolver was not told of."""


class Word(NamedTuple):
    """One live contribution, in the order of the target's columns; `NOTHING` where the source has no such column."""

    contributor: str
    source_key: str
    values: Image
    times: tuple[int, ...]


Words: TypeAlias = Sequence[Word]  # in the order of rank, then of the source row's key
_Found: TypeAlias = tuple[Value, Word | None]


class Resolver:
    """Makes rows of `columns` from documents whose contributions have the given shapes, by number."""

    def __init__(
        self, rules: Rules, columns: Sequence[TargetColumn], key: Sequence[str], shapes: Mapping[int, Shape]
    ) -> None:
        self.rules = rules
        self.columns = tuple(columns)
        names = [column.name for column in columns]
        self._index = {name: index for index, name in enumerate(names)}
        self._rank = {name: number for number, name in enumerate(rules.rank)}
        self._getters = {
            number: (_getter(shape, names, NOTHING), _getter(shape, names, _NEVER)) for number, shape in shapes.items()
        }
        self._steps = list(self._all_steps(set(key)))
        self._alone = [step for step in self._steps if step.computes]

    def words(self, document: Document) -> list[Word]:
        """What counts: contributions that were not withdrawn, the best rank first. Raises `UnknownShapeError`."""
        found = [
            (self._rank[contributor], key, contributor, contribution)
            for contributor, rows in document.by.items()
            if contributor in self._rank
            for key, contribution in rows.items()
            if contribution.values is not None
        ]
        found.sort(key=_by_rank)
        return [self._word(contributor, key, said) for _, key, contributor, said in found]

    def resolve(self, words: Words) -> Resolved | None:
        """The row, or None where the rules say that there is none. Key columns are those of the first word: the target
        key is the same for all. Raises `ValueError` or `ArithmeticError` from expressions."""
        if not words or not self._exists(words):
            return None
        first = words[0]
        origin = (first.contributor, first.source_key)
        made = _Row(list(first.values), [None if value is NOTHING else origin for value in first.values])
        for step in self._steps if len(words) > 1 else self._alone:
            step.run(words, made)
        return Resolved(tuple([None if value is NOTHING else value for value in made.values]), tuple(made.chosen))

    def says(self, word: Word, index: int) -> bool:
        """Whether the word's source has this column."""
        return word.values[index] is not NOTHING

    def time(self, word: Word, index: int) -> int | None:
        """When its source changed this value, in µs; None where only a snapshot has shown it."""
        time = word.times[index]
        return None if time == _NEVER else time

    def _exists(self, words: Words) -> bool:
        there = {word.contributor for word in words}
        wanted = self.rules.exists
        return not there.isdisjoint(wanted) if wanted else len(there) == len(self.rules.rank)

    def _word(self, contributor: str, key: str, said: Contribution) -> Word:
        getters = self._getters.get(said.shape)
        if getters is None:
            raise UnknownShapeError(said.shape)
        values_of, times_of = getters
        assert said.values is not None
        values = values_of(said.values)
        time = _NEVER if said.time is None else said.time
        if said.times is None:
            return Word(contributor, key, values, (time,) * len(values))
        times = times_of(tuple([_NEVER if each is None else each for each in said.times]))
        return Word(contributor, key, values, times)

    def _all_steps(self, key: set[str]) -> Iterator[_Step | _NewestOfAll]:
        """The newest of every column at once first (most columns have that rule), then what takes more."""
        grouped = {name for group, _ in self.rules.groups for name in group}
        rules = {name: self.rules.columns.get(name, self.rules.otherwise) for name in self._index}
        plain = {name for name, rule in rules.items() if rule == _PLAIN_NEWEST and name not in grouped | key}
        yield _NewestOfAll([index for name, index in self._index.items() if name in plain])
        for names, rule in self.rules.groups:
            indexes = [self._index[name] for name in names if name in self._index]
            if indexes:
                yield _Step(indexes, self._choice(rule, indexes[0]), computes=False)
        for name, index in self._index.items():
            if name not in grouped | key | plain:
                yield _Step([index], self._find(rules[name], index), computes=rules[name].name in _COMPUTED)

    def _find(self, rule: Rule, index: int) -> _Find:
        """How a rule makes one column."""
        if rule.name == "sql":
            return self._expression(rule)
        if rule.name in {"max", "min", "delta", "union"}:
            return _combining(combiner(rule.name, self.columns[index].type.kind), index)
        if rule.name == "merge":
            return partial(_merge, index)
        return self._choice(rule, index)

    def _choice(self, rule: Rule, index: int) -> _Find:
        """How a rule chooses the word that a column (the first of a group) is taken from."""
        if rule.name in {"newest", "oldest"} and rule.by:
            by = self._index[rule.by]
            measure = order(self.columns[by].type.kind)
            return partial(_extreme_by, index, by, measure, -1 if rule.name == "oldest" else 1)
        if rule.name in {"priority", "fill_nulls"}:
            sources = rule.sources or self.rules.rank
            return partial(_first, index, sources, rule.name == "fill_nulls")
        return {"oldest": partial(_oldest, index), "keep_if_null": partial(_newest, index, True)}.get(
            rule.name, partial(_newest, index, False)
        )

    def _expression(self, rule: Rule) -> _Find:
        call = rule.call
        assert call is not None

        def find(words: Words) -> _Found:
            said: dict[tuple[str, str], Value] = {}
            for word in sorted(words, key=lambda word: max(word.times), reverse=True):
                for column, value in zip(self.columns, word.values, strict=True):
                    if value is not NOTHING:
                        said.setdefault((word.contributor, column.name), value)
            return call(said), None

        return find


class _Row(NamedTuple):
    """The row that is being made."""

    values: list[Value]
    chosen: list[tuple[str, str] | None]


class _NewestOfAll(NamedTuple):
    """For each of these columns the value that changed last; of equals the first."""

    indexes: list[int]
    computes: bool = False

    def run(self, words: Words, row: _Row) -> None:
        values, chosen = row.values, row.chosen
        first, *others = words
        for index in self.indexes:
            best, newest = (None, _BEFORE) if first.values[index] is NOTHING else (first, first.times[index])
            for word in others:
                if word.times[index] > newest and word.values[index] is not NOTHING:
                    best, newest = word, word.times[index]
            if best is not None and best is not first:
                values[index], chosen[index] = best.values[index], (best.contributor, best.source_key)


class _Step(NamedTuple):
    """One rule at work on its columns. `computes`: also where there is only one word."""

    indexes: list[int]
    find: _Find
    computes: bool

    def run(self, words: Words, row: _Row) -> None:
        value, word = self.find(words)
        if len(self.indexes) == 1:
            index = self.indexes[0]
            row.values[index], row.chosen[index] = value, None if word is None else (word.contributor, word.source_key)
            return
        for index in self.indexes:
            row.values[index] = None if word is None else word.values[index]
            row.chosen[index] = None if word is None else (word.contributor, word.source_key)


_Find: TypeAlias = Callable[[Words], _Found]


def _newest(index: int, skip_null: bool, words: Words) -> _Found:
    best, value, newest = None, None, 0
    for word in words:
        found = word.values[index]
        if found is NOTHING or (skip_null and found is None):
            continue
        time = word.times[index]
        if best is None or time > newest:
            best, value, newest = word, found, time
    return value, best


def _oldest(index: int, words: Words) -> _Found:
    best, value, oldest = None, None, 0
    for word in words:
        found = word.values[index]
        if found is not NOTHING and (best is None or word.times[index] < oldest):
            best, value, oldest = word, found, word.times[index]
    return value, best


def _extreme_by(index: int, by: int, measure: Callable[[Value], Any], sign: int, words: Words) -> _Found:
    """The highest (sign 1) or lowest of column `by`; a row without a version is the last resort."""
    best, most = None, None
    for word in words:
        version = word.values[by]
        if word.values[index] is NOTHING:
            continue
        measured = None if version is None or version is NOTHING else measure(version)
        if best is None or (measured is not None and (most is None or _beats(measured, most, sign))):
            best, most = word, measured
    return (None, None) if best is None else (best.values[index], best)


def _beats(one: Any, other: Any, sign: int) -> bool:
    return bool(one > other if sign > 0 else one < other)


def _first(index: int, sources: Sequence[str], skip_null: bool, words: Words) -> _Found:
    """Of the first source that has the column (or a value); of its several rows the newest."""
    for source in sources:
        value, word = _newest(index, skip_null, [word for word in words if word.contributor == source])
        if word is not None:
            return value, word
    return None, None


def _combining(combine: Callable[[Sequence[Value]], Value], index: int) -> _Find:
    def find(words: Words) -> _Found:
        values = [word.values[index] for word in words]
        said = [value for value in values if value is not None and value is not NOTHING]
        return (combine(said) if said else None), None

    return find


def _merge(index: int, words: Words) -> _Found:
    """Of several with one time, the better rank comes later: its keys stay."""
    said = [word for word in reversed(words) if word.values[index] not in (None, NOTHING)]
    said.sort(key=lambda word: word.times[index])
    texts = [word.values[index] for word in said]
    if not texts:
        return None, None
    return (texts[0] if texts.count(texts[0]) == len(texts) else merged(texts)), None


def _getter(shape: Shape, names: Sequence[str], absent: Any) -> Callable[[Image], Image]:
    """Picks a shape's values in the order of `names`; `absent` for those that it has not."""
    own = [column.name for column in shape.columns]
    if own == list(names):
        return lambda values: values
    pick = picker([own.index(name) if name in own else len(own) for name in names])
    return lambda values: pick((*values, absent))


def _by_rank(found: tuple[int, str, str, Contribution]) -> tuple[int, str]:
    return found[0], found[1]
