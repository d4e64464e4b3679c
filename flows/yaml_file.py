"""Reads a YAML file into a record, and explains every mistake in it: file, line, path, value seen, mend."""

import difflib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from schemas.base import InputError, Record

R = TypeVar("R", bound=Record)


@dataclass(frozen=True)
class Mistake:
    """One thing wrong with a file."""

    line: int
    """1-based, in the YAML file."""
    path: str
    """Such as `sources[2].videos`; empty for the file as a whole."""
    message: str


class FileError(InputError):
    """A file that cannot be used, with all its mistakes."""

    def __init__(self, file: str, mistakes: list[Mistake]) -> None:
        self.file = file
        self.mistakes = mistakes
        super().__init__(
            "\n".join(f"{file}:{m.line}: {m.path + ': ' if m.path else ''}{m.message}" for m in mistakes)
        )


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key written twice, which plain YAML resolves silently to the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a plain word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is given twice: keep one", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def packaged(folder: str) -> dict[str, str]:
    """Names and texts of the files in `folder` of this package, such as `recipes`."""
    found = files("flows") / folder
    return {f.name.removesuffix(".yaml"): f.read_text() for f in found.iterdir() if f.name.endswith(".yaml")}


def load(name: str, model: type[R], folder: str, kind: str) -> R:
    """The record in the file `name`, or in the packaged one of that name.

    Args:
        name: As the user gave it.
        model: What the file must hold.
        folder: Of this package, where the ready ones lie.
        kind: What the file is called in messages: `recipe`.

    Raises FileError.
    """
    path = Path(name)
    if path.is_file():
        try:
            text = path.read_text(encoding="utf-8")
        except (UnicodeDecodeError, OSError) as error:
            message = f"cannot be read as UTF-8 text: {error}"
            raise FileError(name, [Mistake(0, "", message)]) from None
        return parse(text, name, model, kind)
    ready = packaged(folder)
    if name in ready:
        return parse(ready[name], f"{name} (packaged)", model, kind)
    known = ", ".join(sorted(ready))
    message = f"no such file, and no packaged {kind} of that name (there are: {known})"
    raise FileError(name, [Mistake(0, "", message)])


def parse(text: str, file: str, model: type[R], kind: str) -> R:
    """The record written in `text`; `file` is its name in messages. Raises FileError."""
    try:
        # The loader is a SafeLoader: it builds plain data only.
        data = yaml.load(text, _Loader)  # noqa: S506
        root = yaml.compose(text, yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise FileError(file, [Mistake(line, "", f"not valid YAML: {error.problem}")]) from None
    except yaml.YAMLError as error:
        raise FileError(file, [Mistake(0, "", f"not valid YAML: {error}")]) from None
    if root is None or not isinstance(data, dict):
        raise FileError(file, [Mistake(1, "", f"a {kind} is a mapping of fields, this is {data!r:.60}")])
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise FileError(file, sorted(_mistakes(error, root, model), key=lambda m: m.line)) from None


def _mistakes(error: ValidationError, root: yaml.Node, model: type[BaseModel]) -> Iterator[Mistake]:
    errors = error.errors()
    for item in errors:
        # Items that are wrong themselves make pydantic say that their list is too short.
        if item["type"] == "too_short" and any(_is_inside(other["loc"], item["loc"]) for other in errors):
            continue
        line, path = _locate(root, item["loc"])
        yield Mistake(line, path, _explain(item, str(item["loc"][-1]) if item["loc"] else "", model))


def _is_inside(inner: tuple[int | str, ...], outer: tuple[int | str, ...]) -> bool:
    return len(inner) > len(outer) and inner[: len(outer)] == outer


def _explain(item: Any, field: str, model: type[BaseModel]) -> str:
    kind, value = item["type"], item["input"]
    if kind == "extra_forbidden":
        near = difflib.get_close_matches(field, _field_names(model), n=1)
        if near == [field]:
            return f"no such field here; it belongs under {' or '.join(_homes(field, model))}"
        return "no such field" + (f"; did you mean {near[0]!r}?" if near else "; remove it")
    if kind == "missing":
        return "this field is needed"
    message = str(item["msg"]).removeprefix("Value error, ")
    return message if kind == "value_error" else f"{message}, got {value!r:.80}"


def _locate(node: yaml.Node, loc: tuple[int | str, ...]) -> tuple[int, str]:
    """Line and printed path of a pydantic location, leaving out what is not in the YAML (union tags)."""
    line, path = node.start_mark.line + 1, ""
    for step in loc:
        child = _child(node, step)
        if child is None:
            # A field that is missing has no node of its own: its parent's line is the place to add it.
            path += f".{step}" if step == loc[-1] and isinstance(node, yaml.MappingNode) else ""
            continue
        line, node = child
        path += f"[{step}]" if isinstance(step, int) else f".{step}"
    return line, path.lstrip(".")


def _child(node: yaml.Node, step: int | str) -> tuple[int, yaml.Node] | None:
    if isinstance(node, yaml.SequenceNode) and isinstance(step, int):
        return node.value[step].start_mark.line + 1, node.value[step]
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if key.value == str(step):
                return key.start_mark.line + 1, value
    return None


def _homes(field: str, model: type[BaseModel]) -> list[str]:
    """Names of the fields of `model` and of the records inside it that hold a record with `field`; or the top."""
    schema = model.model_json_schema()
    holders = {name for name, each in schema.get("$defs", {}).items() if field in each.get("properties", {})}
    places = [*schema.get("$defs", {}).values(), schema]
    found = {
        name
        for place in places
        for name, each in place.get("properties", {}).items()
        if any(f'"#/$defs/{holder}"' in json.dumps(each) for holder in holders)
    }
    return sorted(f"`{name}`" for name in found) or ["the top of the file"]


def _field_names(model: type[BaseModel]) -> list[str]:
    """Every field name of `model` and of the records inside it."""
    names: list[str] = []
    for definition in model.model_json_schema().get("$defs", {}).values():
        names += definition.get("properties", {})
    return sorted({*names, *model.model_fields})
