"""The JSON Schema of a pipeline file, for editors: `# yaml-language-server: $schema=.pipeline.schema.json`.

The YAML language server understands draft 7; pydantic writes 2020-12, so the few words that differ are rewritten.
"""

from __future__ import annotations

import json
from typing import Any

from pydantic import BaseModel

from cdc.mapping.model import Pipeline

FILE_NAME = ".pipeline.schema.json"
MODELINE = f"# yaml-language-server: $schema={FILE_NAME}"
_DRAFT = "http://json-schema.org/draft-07/schema#"


def schema(of: type[BaseModel] = Pipeline, title: str = "A pipeline: one file in mappings/") -> dict[str, Any]:
    """The schema of a kind of file as plain data."""
    return {"$schema": _DRAFT, "title": title, **_down(of.model_json_schema(by_alias=True))}


def text(of: type[BaseModel] = Pipeline, title: str = "A pipeline: one file in mappings/") -> str:
    """The schema as it stands in the file."""
    return json.dumps(schema(of, title), indent=2, ensure_ascii=False) + "\n"


def _down(node: Any) -> Any:
    """2020-12 → draft 7. What stands beside a $ref is ignored there, so the $ref moves into an allOf."""
    if isinstance(node, list):
        return [_down(each) for each in node]
    if not isinstance(node, dict):
        return node
    if node.get("default", ...) is None:
        node = _without_null(node)
    result: dict[str, Any] = {}
    for word, value in node.items():
        if word == "$ref":
            result[word] = value.replace("#/$defs/", "#/definitions/")
        elif word == "$defs":
            result["definitions"] = _down(value)
        elif word == "prefixItems":
            result["items"] = _down(value)
        elif word != "title" or not isinstance(value, str):  # pydantic's titles say the name again
            result[word] = _down(value)
    if "$ref" in result and len(result) > 1:
        result = {"allOf": [{"$ref": result.pop("$ref")}], **result}
    return result


def _without_null(node: dict[str, Any]) -> dict[str, Any]:
    """A key that may be left out is not one that may be written as null."""
    kept = [branch for branch in node.get("anyOf", []) if branch != {"type": "null"}]
    rest = {word: value for word, value in node.items() if word not in {"default", "anyOf"}}
    return {**kept[0], **rest} if len(kept) == 1 else {**rest, **({"anyOf": kept} if kept else {})}
