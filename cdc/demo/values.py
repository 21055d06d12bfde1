"""Names, texts and sums. Everything is a function of a `random.Random`, so that a seed names a world."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from random import Random

EPOCH_SUM = Decimal("0.01")
BIG_TEXT = (20_000, 60_000)  # characters: far beyond what PostgreSQL keeps in the row, even compressed

FIRST = (
    "Anna",
    "Łukasz",
    "Zoë",
    "Søren",
    "Ñusta",
    "Wei",
    "Ayşe",
    "Olumide",
    "Ірина",
    "Γιώργος",
    "मीरा",
    "さくら",
    "مريم",
)
LAST = ("Novák", "O'Brien", "Müller", "de la Cruz", "Nguyễn", "Şahin", "Okafor", "Шевченко", "王", "D'Angelo", "Ek")
EMOJI = ("👩🏽‍💻", "🎉", "📞", "🧾", "𝔘𝔫𝔦", "🇪🇺", "é", "")
WORDS = (
    *("line", "router", "invoice", "number", "porting", "signal", "quiet", "refund", "contract", "Störung", "crédit"),
    *("naïve", "délai", "übermorgen", "звонок", "請求書", "tariff", "roaming", "\\N", "NULL", "'quoted'", '"double"'),
    *("tab\there", "100%", "{brace}", "a,b;c", "back\\slash", "line\nbreak", "🙂", "№7", "½", "end"),
)
SEGMENTS = ("consumer", "business", "vip", "public")
PLANS = ("mini", "flat", "flat+", "family", "iot")
CHANNELS = ("phone", "chat", "mail", "letter", "shop")
TICKET_STATES = ("open", "waiting", "solved", "closed")
TAGS = ("urgent", "billing", "network", "vip", "ärger", "two words", 'quo"te', "comma,here", "🚨")
METHODS = ("card", "transfer", "cash")
LANGUAGES = ("de", "en", "uk", "日本語")
INTERESTS = ("roaming", "5G", "TV & film", "smart home", "Fußball", "travel", "games 🎮", 'so "called" extras', "a,b")
STREETS = ("Hauptstraße", "Rue de l'Église", "Long Lane", "вул. Шевченка", "桜通り", "O'Connell Street")
CITIES = ("Köln", "Liège", "Kraków", "Львів", "York", "Nagoya")


def full_name(chance: Random) -> str:
    return f"{chance.choice(FIRST)} {chance.choice(LAST)} {chance.choice(EMOJI)}".strip()


def email(chance: Random) -> str:
    return f"user{chance.randrange(10**6)}@example.{chance.choice(('org', 'com', 'net'))}"


def phone(chance: Random) -> str:
    return f"+49 {chance.randrange(100, 999)} {chance.randrange(10**6, 10**7)}"


def text(chance: Random, words: int) -> str:
    return " ".join(chance.choices(WORDS, k=words))


def big_text(chance: Random) -> str:
    """20,000 to 60,000 characters that compress badly enough to stay out of line."""
    size = chance.randint(*BIG_TEXT)
    numbered = (f"{chance.choice(WORDS)}-{chance.getrandbits(40):x}" for _ in range(size // 14))
    return " ".join(numbered)[:size]


def maybe(chance: Random, share: float, value: str) -> str | None:
    """NULL in `share` of the cases."""
    return None if chance.random() < share else value


def money(chance: Random, low: int, high: int) -> Decimal:
    """With two decimals; `low` and `high` are whole units."""
    return Decimal(chance.randint(low * 100, high * 100)) * EPOCH_SUM


def preferences(chance: Random) -> str:
    return json.dumps(
        {
            "language": chance.choice(LANGUAGES),
            "newsletter": chance.random() < 0.5,
            "limit": chance.choice((None, 10, 99.5, 1e20)),
            "quiet": {"from": f"{chance.randrange(24):02}:00", "days": chance.sample(range(7), 2)},
            "note": chance.choice(("", "NULL", "☎️ only", 'a "b"')),
        },
        ensure_ascii=False,
    )


def portal_preferences(chance: Random) -> str:
    """Some of them are the CRM's too."""
    return json.dumps(
        {
            "theme": chance.choice(("dark", "light", "🌙")),
            "paperless": chance.random() < 0.5,
            "newsletter": chance.random() < 0.5,
            "quiet": {"from": f"{chance.randrange(24):02}:30", "weekends": chance.random() < 0.5},
        },
        ensure_ascii=False,
    )


def address(chance: Random) -> dict[str, object]:
    """By column; postcodes begin with zeros, and some streets are not known."""
    street = maybe(chance, 0.1, f"{chance.choice(STREETS)} {chance.randrange(1, 200)}")
    return {"street": street, "postcode": f"{chance.randrange(10**5):05}", "city": chance.choice(CITIES)}


def interests(chance: Random) -> list[str]:
    return chance.sample(INTERESTS, chance.randrange(4))


def tags(chance: Random) -> list[str]:
    return chance.sample(TAGS, chance.randrange(4))


def duration(chance: Random) -> timedelta | None:
    if chance.random() < 0.1:
        return None
    return timedelta(seconds=chance.randrange(7200), microseconds=chance.randrange(10**6))
