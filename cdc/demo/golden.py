"""What the golden customers must be: worked out in plain Python from what the three databases hold now, nothing else.

This is mappings/golden.yaml said a second time, without the engine's rules, as a proof of them. Where the databases
alone do not tell whose change came last (`email`, and the keys of `preferences`), the hub must hold what one of them
says. It is true of a hub that has caught up with sources that stand still.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from cdc.control.explain import ColumnOrigin, explain
from cdc.db import mariadb, postgres
from cdc.entries import PostgresTargetSettings, SourceSettings
from cdc.mapping.model import Pipeline
from cdc.settings import Settings

Row = dict[str, Any]
TABLE = "hub.golden_customers"
COLUMNS = (
    *("name", "segment", "birth_date", "email", "phone", "marketing_consent", "language", "street", "postcode", "city"),
    *("interests", "preferences", "updated_at", "last_login", "balance_eur", "accounts", "customer_since"),
)
_OF_ANYBODY = ("email", "preferences")
_SHOWN = ("name", "email", "phone", "marketing_consent", "language", "street", "city", "interests", "balance_eur")
_CRM = (
    "SELECT customer_no, full_name AS name, segment, birth_date, email, phone, preferences, street, postcode, city,"
    " interests, updated_at FROM customers"
)
_PORTAL = (
    "SELECT customer_no, email, phone, marketing_consent, language, street, postcode, city, interests, preferences,"
    " last_login, updated_at FROM profiles"
)
_BILLING = "SELECT customer_no, currency, balance, opened FROM accounts ORDER BY id"


@dataclass
class Said:
    """What the three databases say of one customer; None and nothing where they do not know it."""

    crm: Row | None = None
    portal: Row | None = None
    accounts: list[Row] = field(default_factory=list)

    @property
    def rows(self) -> list[Row]:
        """The CRM's and the portal's, the better rank first."""
        return [row for row in (self.crm, self.portal) if row is not None]


@dataclass(frozen=True)
class Wrong:
    """A value (column '' for a whole row) that is not as it must be."""

    customer_no: str
    column: str
    expected: str
    actual: str


@dataclass(frozen=True)
class Shown:
    """One column of one customer, as text: what CRM and portal (or billing, by accounts) say, what the hub holds,
    and by which rule; `source`: the one whose word it is, '' where several made it."""

    customer_no: str
    column: str
    said: dict[str, str]
    hub: str
    rule: str
    source: str


@dataclass(frozen=True)
class GoldenReport:
    """`contested`: customers of whom two sources say different things. `wrong`: at most `MOST_SHOWN`."""

    customers: int
    contested: int
    differences: int
    wrong: tuple[Wrong, ...]
    examples: tuple[Shown, ...]

    @property
    def equal(self) -> bool:
        return self.differences == 0

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "equal": self.equal}


MOST_SHOWN = 10
EXAMPLES = 2


def check(settings: Settings, pipeline: Pipeline) -> GoldenReport:
    """Read all four databases and compare. `pipeline`: the shipped one, whatever its sources are called. Raises what a
    database raises."""
    said = read_sources(settings, pipeline)
    rows = read_hub(settings, pipeline)
    wrong = list(differences(said, rows))
    contested = sorted(
        (each for each in rows if _disputed(said.get(each, Said()))), key=lambda each: _interest(said[each], each)
    )
    examples = []
    for number in contested[:EXAMPLES]:
        origins = {each.column: each for each in explain(settings, [pipeline], TABLE, number).columns}
        examples += [_shown(number, said[number], rows[number], origins[column]) for column in _SHOWN]
    return GoldenReport(len(rows), len(contested), len(wrong), tuple(wrong[:MOST_SHOWN]), tuple(examples))


# -- reading


def read_sources(settings: Settings, pipeline: Pipeline) -> dict[str, Said]:
    """By customer_no."""
    said: dict[str, Said] = {}
    names = {table.contributor: table.source_name for table in pipeline.tables}
    for row in _read_postgres(settings.source(names["crm"]), _CRM):
        said.setdefault(row["customer_no"], Said()).crm = {**row, **_told_by_preferences(row["preferences"])}
    for row in _read_postgres(settings.source(names["portal"]), _PORTAL):
        said.setdefault(row["customer_no"], Said()).portal = row
    source = settings.source(names["billing"])
    connection = mariadb.connect(source, account=source.admin, database=source.database)
    with closing(connection), connection.cursor() as cursor:
        cursor.execute(_BILLING)
        for customer_no, *account in cursor.fetchall():
            row = dict(zip(("currency", "balance", "opened"), account, strict=True))
            said.setdefault(customer_no, Said()).accounts.append(row)
    return said


def read_hub(settings: Settings, pipeline: Pipeline) -> dict[str, Row]:
    """The golden customers by customer_no."""
    target = settings.target(pipeline.target)
    assert isinstance(target, PostgresTargetSettings), "the demo's hub"
    query = f"SELECT customer_no, {', '.join(COLUMNS)} FROM {TABLE}"  # noqa: S608  our own names only
    with postgres.connect(target, application_name="cdc demo") as connection:
        return {row["customer_no"]: row for row in _rows(connection, query)}


def _read_postgres(source: SourceSettings, query: str) -> list[Row]:
    with postgres.connect(source, account=source.admin, application_name="cdc demo") as connection:
        return list(_rows(connection, query))


def _rows(connection: postgres.Connection, query: str) -> Iterator[Row]:
    cursor = connection.execute(query.encode())
    names = [column.name for column in cursor.description or ()]
    return (dict(zip(names, row, strict=True)) for row in cursor.fetchall())


def _told_by_preferences(preferences: Row) -> Row:
    newsletter = preferences.get("newsletter")
    return {"language": preferences.get("language"), "marketing_consent": newsletter}


# -- what must be


def expected(said: Said) -> Row | None:
    """The golden customer, without the columns that the databases alone do not tell; None: there must be none."""
    if said.crm is None and not said.accounts:
        return None
    crm, portal, rows = said.crm or {}, said.portal or {}, said.rows
    newest = max(rows, key=lambda row: row["updated_at"], default={})  # of equals the first: the CRM's
    return {
        **{column: crm.get(column) for column in ("name", "segment", "birth_date")},
        "phone": crm.get("phone") if portal.get("phone") is None else portal["phone"],
        "marketing_consent": (portal if said.portal else crm).get("marketing_consent"),
        "language": portal.get("language") or crm.get("language") or "en",
        **{column: newest.get(column) for column in ("street", "postcode", "city")},
        "interests": _union(row["interests"] for row in rows) if rows else None,
        "updated_at": max((row["updated_at"] for row in rows), default=None),
        "last_login": portal.get("last_login"),
        "balance_eur": sum((_euros(row) for row in said.accounts), Decimal(0)) if said.accounts else None,
        "accounts": len(said.accounts) or None,
        "customer_since": min((row["opened"] for row in said.accounts if row["opened"]), default=None),
    }


def differences(said: Mapping[str, Said], hub: Mapping[str, Row]) -> Iterator[Wrong]:
    """Everything that is not as it must be, customer by customer."""
    for number in sorted({*said, *hub}):
        must, found = expected(said.get(number, Said())), hub.get(number)
        if must is None or found is None:
            if must is not None or found is not None:
                yield Wrong(number, "", "a row" if must else "no row", "a row" if found else "no row")
            continue
        for column in COLUMNS:
            if column in _OF_ANYBODY:
                if not _is_somebodys(column, found[column], said[number].rows):
                    values = " or ".join(_text(row[column]) for row in said[number].rows)
                    yield Wrong(number, column, values or "NULL", _text(found[column]))
            elif found[column] != must[column]:
                yield Wrong(number, column, _text(must[column]), _text(found[column]))


def _is_somebodys(column: str, value: Any, rows: Sequence[Row]) -> bool:
    told = [row[column] for row in rows]
    if column == "preferences":
        return _is_merge(value, told) if told else value is None
    return value in [None if email is None else email.strip(" ").lower() for email in told] if told else value is None


def _is_merge(value: Any, told: Sequence[Any]) -> bool:
    """Whether every key has the value that somebody gave it, and none is lost or made up."""
    if not all(isinstance(each, dict) for each in told):
        return value in told
    keys = {key for each in told for key in each}
    return (
        isinstance(value, dict)
        and keys == value.keys()
        and all(_is_merge(value[key], [each[key] for each in told if key in each]) for key in keys)
    )


def _union(lists: Iterable[list[str]]) -> list[str]:
    return list(dict.fromkeys(element for each in lists for element in each))


def _euros(account: Row) -> Decimal:
    balance: Decimal = account["balance"]
    return balance if account["currency"] == "EUR" else Decimal(0)


# -- what is shown


def _disputed(said: Said) -> list[str]:
    """Columns of which CRM and portal say different things."""
    crm, portal = said.crm or {}, said.portal or {}
    return [column for column in COLUMNS if column in crm and column in portal and crm[column] != portal[column]]


def _interest(said: Said, number: str) -> tuple[int, int, str]:
    """Customers with several accounts, and of whom most is disputed, come first."""
    return -min(2, len(said.accounts)), -len(_disputed(said)), number


def _shown(number: str, said: Said, row: Row, origin: ColumnOrigin) -> Shown:
    column = origin.column
    told = {
        name: _text(source[column])
        for name, source in (("crm", said.crm), ("portal", said.portal))
        if source is not None and column in source
    }
    if column == "balance_eur":
        told["billing"] = " + ".join(f"{account['balance']} {account['currency']}" for account in said.accounts)
    return Shown(number, column, told, _text(row[column]), origin.rule, origin.source or "")


def _text(value: Any) -> str:
    if value is None:
        return "NULL"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "(none)"
    return value.isoformat() if isinstance(value, (date, datetime)) else str(value)
