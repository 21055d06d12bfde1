"""What a table's `rest:` may say: the requests by which a REST target's rows are written."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from pydantic.json_schema import WithJsonSchema
from pydantic_core import PydanticCustomError

Json = Annotated[Any, WithJsonSchema({"description": 'JSON; a text "{column}" is that column\'s value'})]
Url = Annotated[str, Field(pattern=r"^/", examples=["/customers/{id}"])]
WORDS = ("$key", "$operation")
"""What may stand in a batch's item beside columns: the idempotency key, and create, update, upsert, patch or delete."""


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Request(_Part):
    """One request. `{column}` places hold only key columns in the URL, any column in the body."""

    method: Literal["POST", "PUT", "PATCH", "DELETE"]
    """The HTTP method."""
    url: Url
    """Path and query below the target's URL: `/customers/{id}?source={origin}`. Values are escaped."""
    body: Json = None
    """The JSON body. Default: an object of all columns that the change brings (of a delete: none)."""


class BatchRequest(_Part):
    """One request for many rows, answered row by row."""

    method: Literal["POST", "PUT", "PATCH"] = "POST"
    """The HTTP method."""
    url: Url
    """Path and query below the target's URL; no columns here."""
    size: int = Field(default=100, ge=1, le=10_000)
    """Most rows of one request."""
    items: str = Field(default="items", min_length=1)
    """The field of the body that holds the items."""
    item: dict[str, Json] = Field(min_length=1)
    """One item, as JSON: any column, `{$key}` (its idempotency key) and `{$operation}`. Fields of columns that a
    change does not bring are left out."""
    results: str = Field(default="results", min_length=1)
    """The field of the answer that holds the items' results, in the order of the items."""
    status: str = Field(default="status", min_length=1)
    """The field of a result that holds its HTTP status."""


class RestTable(_Part):
    """How a REST target's rows of this table are written: `upsert`, or `create` and `update`; or a `batch`."""

    upsert: Request | None = None
    """Creates a row or replaces it."""
    create: Request | None = None
    """Creates a row that the target has not been given yet."""
    update: Request | None = None
    """Replaces a row that the target has."""
    patch: Request | None = None
    """Changes only the columns that came: a source does not repeat large values that did not change. Without it such
    changes are parked until a whole row comes."""
    delete: Request | None = None
    """Removes a row. Not needed with `on_delete: ignore`."""
    batch: BatchRequest | None = None
    """Sends rows together; the other requests are not used then."""
    patches: bool = False
    """With `batch`: items may bring only some columns (operation `patch`)."""

    @model_validator(mode="after")
    def _complete(self) -> RestTable:
        single = (self.upsert, self.create, self.update, self.patch, self.delete)
        if self.batch is not None:
            if any(single):
                raise PydanticCustomError("rest_batch", "'batch' stands alone: its item says what each row looks like")
        elif (self.upsert is None) == (self.create is None) or (self.create is None) != (self.update is None):
            raise PydanticCustomError("rest_requests", "give 'upsert', or both 'create' and 'update', or 'batch'")
        return self

    @property
    def deletes(self) -> bool:
        return self.delete is not None or self.batch is not None
