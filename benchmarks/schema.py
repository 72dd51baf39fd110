"""Checks a value against the part of JSON Schema that `results.schema.json` uses."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

SCHEMA: dict[str, Any] = json.loads(Path(__file__).with_name("results.schema.json").read_text(encoding="utf-8"))
TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
    "null": (type(None),),
}
ANNOTATIONS = {"$schema", "$defs", "title", "description"}


def violations(value: Any, schema: dict[str, Any] = SCHEMA, at: str = "$") -> Iterator[str]:
    """What is wrong with a value, one sentence each; none where it fits.

    Raises
    ------
    ValueError : a keyword of JSON Schema that is not known here, rather than leaving it unchecked.
    """
    if "$ref" in schema:
        yield from violations(value, SCHEMA["$defs"][schema["$ref"].removeprefix("#/$defs/")], at)
        return
    for keyword, wanted in schema.items():
        if keyword == "type":
            names = [wanted] if isinstance(wanted, str) else wanted
            if not any(_is(value, name) for name in names):
                yield f"{at}: expected {' or '.join(names)}, got {type(value).__name__}"
                return
        elif keyword == "enum":
            if value not in wanted:
                yield f"{at}: expected one of {wanted}, got {value!r}"
        elif keyword == "pattern":
            if isinstance(value, str) and not re.search(wanted, value):
                yield f"{at}: expected text like {wanted}, got {value!r}"
        elif keyword in ("minimum", "exclusiveMinimum"):
            if _is(value, "number") and not (value >= wanted if keyword == "minimum" else value > wanted):
                yield f"{at}: expected {'at least' if keyword == 'minimum' else 'more than'} {wanted}, got {value}"
        elif keyword == "minItems":
            if isinstance(value, list) and len(value) < wanted:
                yield f"{at}: expected at least {wanted} entries, got {len(value)}"
        elif keyword == "required":
            if isinstance(value, dict):
                yield from (f"{at}: expected {name!r}, got none" for name in wanted if name not in value)
        elif keyword == "items":
            if isinstance(value, list):
                for i, entry in enumerate(value):
                    yield from violations(entry, wanted, f"{at}[{i}]")
        elif keyword in ("properties", "additionalProperties"):
            yield from _of_properties(value, schema, keyword, at)
        elif keyword not in ANNOTATIONS:
            raise ValueError(f"schema: expected a keyword that is checked here, got {keyword!r}. Add it.")


def _of_properties(value: Any, schema: dict[str, Any], keyword: str, at: str) -> Iterator[str]:
    if not isinstance(value, dict):
        return
    named = schema.get("properties", {})
    if keyword == "properties":
        for name in named.keys() & value.keys():
            yield from violations(value[name], named[name], f"{at}.{name}")
        return
    rest = schema["additionalProperties"]
    for name in value.keys() - named.keys():
        if rest is False:
            yield f"{at}: expected no {name!r}, got one"
        elif rest is not True:
            yield from violations(value[name], rest, f"{at}.{name}")


def _is(value: Any, name: str) -> bool:
    """Whether a value has a JSON type; true and false are no numbers, 2.0 is an integer."""
    if name in ("integer", "number") and isinstance(value, bool):
        return False
    return isinstance(value, TYPES[name]) or (name == "integer" and isinstance(value, float) and value.is_integer())
