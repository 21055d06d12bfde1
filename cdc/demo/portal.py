"""What customers do in the self-care portal, transaction by transaction."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from random import Random

from cdc.demo import rows, values
from cdc.demo.world import Calendar, Operation, Statement, Transaction, hot, pick, remove

FEWEST = 20
"""Below this number of profiles none is closed any more."""


@dataclass
class PortalRows:
    """The keys that are in the database: all that the next transaction depends on, besides chance."""

    profiles: list[int]
    owners: dict[int, int]  # the customer's number by profile
    next_profile: int
    now: datetime | None = None


class PortalWorld:
    """See `world.World`. `known` is kept up to date; a transaction that is to be rolled back leaves it as it is."""

    def __init__(self, known: PortalRows, seed: int) -> None:
        self._known = known
        self._chance = Random(f"portal {seed}")
        self._calendar = Calendar(self._chance, known.now)
        self._kinds: tuple[tuple[int, Callable[[], Transaction]], ...] = (
            (32, self._change_profile),
            (14, self._move_house),
            (14, self._change_preferences),
            (18, self._log_in),
            (8, self._sign_up),
            (5, self._close_profile),
            (3, self._correct_number),
            (6, self._change_their_mind),
        )

    def next(self) -> Transaction:
        return pick(self._chance, self._kinds)

    def _profile(self) -> int:
        return hot(self._chance, self._known.profiles)

    def _change_profile(self) -> Transaction:
        chance = self._chance
        column, value = chance.choice(
            (
                ("phone", values.maybe(chance, 0.3, values.phone(chance))),
                ("email", values.maybe(chance, 0.1, values.email(chance))),
                ("language", values.maybe(chance, 0.2, chance.choice(values.LANGUAGES))),
                ("marketing_consent", chance.choice((True, False, None))),
                ("interests", values.interests(chance)),
            )
        )
        return self._update("change a profile", self._profile(), {column: value})

    def _move_house(self) -> Transaction:
        return self._update("move house", self._profile(), values.address(self._chance))

    def _change_preferences(self) -> Transaction:
        chosen = {"preferences": values.portal_preferences(self._chance)}
        return self._update("change preferences", self._profile(), chosen)

    def _log_in(self) -> Transaction:
        sql = "UPDATE profiles SET last_login = %s WHERE id = %s"
        return _one("log in", "update", sql, self._calendar.now(), self._profile())

    def _sign_up(self) -> Transaction:
        """Of a customer without a profile, often one whose profile was closed."""
        known, free = self._known, self._without_profile()
        owner = self._chance.choice(free) if free and self._chance.random() < 0.8 else self._newest_owner() + 1
        profile = known.next_profile
        row = rows.profile(self._chance, profile, owner, self._calendar.now())
        known.next_profile += 1
        known.profiles.append(profile)
        known.owners[profile] = owner
        return _one("sign up", "insert", rows.insert("profiles"), *row)

    def _close_profile(self) -> Transaction:
        known = self._known
        if len(known.profiles) <= FEWEST:
            return self._sign_up()
        gone = self._chance.choice(known.profiles)
        remove(known.profiles, gone)
        known.owners.pop(gone)
        return _one("close a profile", "delete", "DELETE FROM profiles WHERE id = %s", gone)

    def _correct_number(self) -> Transaction:
        """It was another customer's: the same profile, under another customer_no."""
        free = self._without_profile()
        if not free:
            return self._log_in()
        profile, owner = self._chance.choice(self._known.profiles), self._chance.choice(free)
        self._known.owners[profile] = owner
        return self._update("correct a number", profile, {"customer_no": rows.customer_no(owner)})

    def _without_profile(self) -> list[int]:
        return sorted(set(range(1, self._newest_owner() + 1)).difference(self._known.owners.values()))

    def _newest_owner(self) -> int:
        return max(self._known.owners.values(), default=0)

    def _change_their_mind(self) -> Transaction:
        """Rolled back: none of it may arrive anywhere."""
        profile = self._profile()
        update = self._update("", profile, {"email": "rolled@back"}).statements[0]
        delete = Statement("profiles", "delete", "DELETE FROM profiles WHERE id = %s", (profile,))
        return Transaction("change their mind", (update, delete), rollback=True)

    def _update(self, kind: str, profile: int, new: Mapping[str, object]) -> Transaction:
        columns = ", ".join(f"{column} = %s" for column in new)
        sql = f"UPDATE profiles SET {columns}, updated_at = %s WHERE id = %s"  # noqa: S608  our own names only
        return _one(kind, "update", sql, *new.values(), self._calendar.now(), profile)


def _one(kind: str, operation: Operation, sql: str, *places: object) -> Transaction:
    return Transaction(kind, (Statement("profiles", operation, sql, places),))
