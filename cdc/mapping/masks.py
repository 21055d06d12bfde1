"""What a pipeline file may say of a masked column: `mask: {hash: customers}`. Shape, and what each kind promises."""

from __future__ import annotations

from decimal import Decimal
from typing import Annotated, Any, Final, Literal, NamedTuple, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError

from cdc.keys import CURRENT, DEFAULT

Unit: TypeAlias = Literal["hour", "day", "week", "month", "quarter", "year", "decade"]
_Word: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
_KINDS = ("constant", "partial", "hash", "pseudonym", "date")


class _Part(BaseModel):
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, populate_by_name=False
    )


class Kept(NamedTuple):
    """What a kind of mask keeps of the values: whether different ones stay different, whether their order stays."""

    uniqueness: bool
    order: bool


KEEPS: Final = {
    "null": Kept(False, False),
    "constant": Kept(False, False),
    "partial": Kept(False, False),
    "hash": Kept(True, False),
    "pseudonym": Kept(True, False),
    "date": Kept(False, True),
}


class Partial(_Part):
    """Which characters stay; each of the others becomes `*`. A text that is no longer than what stays becomes stars.
    `partial: email` keeps an e-mail's domain."""

    first: int = Field(default=0, ge=0)
    """Characters at the beginning."""
    last: int = Field(default=0, ge=0)
    """Characters at the end."""
    email: bool = False
    """Keep what stands behind the @."""

    @model_validator(mode="before")
    @classmethod
    def _short_form(cls, value: Any) -> Any:
        return {"email": True} if value == "email" else value

    @model_validator(mode="after")
    def _something(self) -> Partial:
        if self.email == bool(self.first or self.last):
            raise PydanticCustomError("mask_partial", "say what stays: {first: 2}, {last: 4}, both of them, or email")
        return self

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {
            "description": cls.__doc__ or "",
            "anyOf": [{"const": "email"}, handler.resolve_ref_schema(handler(schema))],
        }


class Mask(_Part):
    """How a column's values are masked: one of these kinds. `mask: null` writes NULL. The same value always becomes the
    same; NULL stays NULL, except under `constant`."""

    constant: Annotated[
        str | bool | int | Decimal | None, WithJsonSchema({"type": ["string", "boolean", "number"]})
    ] = None
    """The same value for all rows, of the column's type. Keeps nothing."""
    partial: Partial | None = None
    """Some characters of a text stay. Does not keep uniqueness."""
    hash: _Word | None = None
    """HMAC-SHA-256 as 64 hexadecimal digits, of the domain named here. Keeps uniqueness."""
    pseudonym: _Word | None = None
    """A value of the same form and type (digits stay digits, letters letters), of the domain named here: the same in
    every column that names it, so that foreign keys still fit. Keeps uniqueness."""
    date: Unit | None = None
    """A date or timestamp cut down to its year, quarter, month… Keeps order, not uniqueness."""
    key: _Word = DEFAULT
    """The set of keys (`masking` in connections.yaml) that hash and pseudonym use."""
    version: _Word = CURRENT
    """The version of that key. `current` follows connections.yaml; a target key needs a version by name."""

    @model_validator(mode="after")
    def _one_kind(self) -> Mask:
        given = [kind for kind in _KINDS if kind in self.model_fields_set]
        if len(given) != 1 or getattr(self, given[0]) is None:
            raise PydanticCustomError("mask_kind", f"a mask is null or exactly one of {', '.join(_KINDS)}")
        if not self.keyed and {"key", "version"} & self.model_fields_set:
            raise PydanticCustomError("mask_kind", f"'{given[0]}' needs no key")
        return self

    @property
    def kind(self) -> str:
        return next(kind for kind in _KINDS if kind in self.model_fields_set)

    @property
    def keyed(self) -> bool:
        return self.hash is not None or self.pseudonym is not None

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        full = handler.resolve_ref_schema(handler(schema))
        full["oneOf"] = [{"required": [kind]} for kind in _KINDS]
        return full


def kind_of(mask: Mask | None) -> str:
    """The kind's name, that of `mask: null` among them."""
    return "null" if mask is None else mask.kind


def keeps(mask: Mask | None) -> Kept:
    return KEEPS[kind_of(mask)]
