"""Epochs: identities as text."""

from __future__ import annotations

from cdc.control.epoch import identity_text, sources_of
from cdc.db.catalog import LogPosition, SourceIdentity
from cdc.engine.epochs import next_epoch
from cdc.mapping.load import loads
from cdc.target.base import Epoch

ANSWER = SourceIdentity("postgresql:7711", "2", LogPosition(5, 5), "0/5")


def test_the_identity_shown_is_the_one_that_is_stored() -> None:
    began = next_epoch(Epoch("crm", 1, "postgresql:7711/1"), ANSWER)
    assert (began.number, began.identity) == (2, identity_text(ANSWER)) == (2, "postgresql:7711/2")


def test_the_sources_of_a_pipeline() -> None:
    tables = "[{from: public.a, to: hub.a}, {from: shop.b, to: hub.b, source: billing}]"
    assert sources_of(loads(f"pipeline: p\nsource: crm\ntarget: hub\ntables: {tables}\n")) == ["billing", "crm"]
