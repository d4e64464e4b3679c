"""Writes a recipe with every field explained: what it is, its range, and what raising it does."""

import textwrap
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

import annotated_types
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from schemas.recipe import Recipe

WIDTH = 110


def commented(recipe: Recipe) -> str:
    """The recipe as YAML, each field under a comment made from its own declaration."""
    head = [
        f"# Recipe {recipe.name!r}. Check it with `mixture validate FILE`, build it with `mixture build FILE`.",
        "# Paths are relative to the folder the command runs in. Shares and rates are exact: 14.4 means 72/5.",
        "",
    ]
    return "\n".join([*head, *_record(recipe, 0)]) + "\n"


def _record(record: BaseModel, depth: int) -> Iterator[str]:
    for name, field in type(record).model_fields.items():
        yield from _comment(field, depth)
        yield from _entry(name, getattr(record, name), depth)


def _entry(name: str, value: Any, depth: int) -> Iterator[str]:
    pad = "  " * depth
    if isinstance(value, BaseModel):
        yield f"{pad}{name}:"
        yield from _record(value, depth + 1)
    elif isinstance(value, Mapping) and value:
        yield f"{pad}{name}:"
        for key, item in value.items():
            yield from _entry(str(key), item, depth + 1)
    elif isinstance(value, tuple) and value and isinstance(value[0], BaseModel):
        yield f"{pad}{name}:"
        for item in value:
            # A list item is its record, two deeper, with the dash put before its first field.
            lines = list(_record(item, depth + 2))
            first = next(i for i, line in enumerate(lines) if not line.lstrip().startswith("#"))
            lines[first] = f"{pad}  - {lines[first].lstrip()}"
            yield from lines
    else:
        yield f"{pad}{name}: {_scalar(value)}"


def _comment(field: FieldInfo, depth: int) -> Iterator[str]:
    text = " ".join(filter(None, [field.description, _range(field)]))
    pad = "  " * depth + "# "
    yield from textwrap.wrap(text, WIDTH, initial_indent=pad, subsequent_indent=pad)


def _range(field: FieldInfo) -> str:
    low = high = ""
    for rule in field.metadata:
        match rule:
            case annotated_types.Ge(ge=value):
                low = f"{value}"
            case annotated_types.Gt(gt=value):
                low = f"above {value}"
            case annotated_types.Le(le=value) | annotated_types.Lt(lt=value):
                high = f"{value}"
    if low and high:
        return f"[{low} to {high}]"
    return f"[{low} or more]" if low else ""


def _scalar(value: Any) -> str:
    if isinstance(value, Fraction):
        return _decimal(value)
    plain = [_plain(item) for item in value] if isinstance(value, tuple) else _plain(value)
    text = yaml.safe_dump(plain, default_flow_style=True, width=10**6, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, str) else value


def _decimal(value: Fraction) -> str:
    """A fraction as the decimal it is, or as n/d where no short decimal is equal to it."""
    text = f"{float(value):g}"
    return text if Fraction(text) == value else str(value)
