"""Laws of the recipe file: every mistake is named with its line and path; `init` explains every field."""

import re
from collections.abc import Iterator
from importlib import import_module

import pytest
import yaml
from mini import mini_recipe
from pydantic import BaseModel

import schemas.capacity
import schemas.workload
from flows.recipe_file import RecipeError, load_recipe, packaged, parse_recipe
from flows.starter import commented
from schemas.base import Record
from schemas.recipe import Recipe


def mistakes(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(RecipeError) as error:
        parse_recipe(text, "r.yaml")
    return [(m.line, m.path, m.message) for m in error.value.mistakes]


@pytest.fixture
def text(tmp_path):
    return yaml.safe_dump(mini_recipe(tmp_path), sort_keys=False)


def line_of(text: str, words: str) -> int:
    return next(number for number, line in enumerate(text.splitlines(), start=1) if words in line)


def test_every_mistake_is_told_at_once_with_its_line(text):
    bad = (
        text.replace("seed: 3", "seed: -3")
        .replace("videos: 30", "vidoes: 30")
        .replace("size: tiny", "size: big", 1)
    )
    found = mistakes(bad)
    assert [path for _, path, _ in found] == ["seed", "sources[0].vidoes", "encoders.siglip.size"]
    assert [line for line, _, _ in found] == [line_of(bad, w) for w in ("seed: -3", "vidoes", "size: big")]
    assert "got -3" in found[0][2]
    assert "did you mean 'videos'?" in found[1][2]
    assert "'tiny' or 'full'" in found[2][2]


def test_a_missing_field_is_named_where_it_belongs(text):
    found = mistakes(text.replace("  total: 40\n", ""))
    assert found == [(line_of(text, "mixture:"), "mixture.total", "this field is needed")]


def test_shares_that_do_not_sum_to_a_hundred_show_their_values(text):
    ((line, path, message),) = mistakes(text.replace("text: 10", "text: 10.5"))
    assert (line, path) == (line_of(text, "mixture:"), "mixture")
    assert "shares sum to 100.5, must be exactly 100: text 10.5" in message


def test_a_key_given_twice_is_refused(text):
    ((_, _, message),) = mistakes(text + "seed: 4\n")
    assert "'seed' is given twice" in message


@pytest.mark.parametrize("bad", ["a: [1", "- 1", "", "just words", "{{a: b}: c}", "a: \x01", "? [a]\n: b"])
def test_what_is_no_recipe_is_told_in_a_sentence(bad):
    assert len(mistakes(bad)) == 1


def test_an_unknown_kind_of_source_lists_the_known(text):
    ((_, path, message),) = mistakes(text.replace("kind: shapes", "kind: youtube"))
    assert path == "sources[0]"
    assert "'clips', 'photos', 'photo_sets', 'docs', 'shapes', 'llava'" in message


def test_a_name_that_is_no_file_lists_the_packaged_recipes():
    with pytest.raises(RecipeError, match="there are: align, apollo-4m, demo, sft, sft-paper, vision"):
        load_recipe("nothing")


@pytest.mark.parametrize("name", sorted(packaged()))
def test_a_commented_recipe_reads_back_as_itself(name):
    recipe = load_recipe(name)
    assert parse_recipe(commented(recipe), "x") == recipe


def models(model: type[BaseModel], seen: set[type[BaseModel]]) -> Iterator[type[BaseModel]]:
    if model in seen:
        return
    seen.add(model)
    yield model
    for field in model.model_fields.values():
        for owner, part in re.findall(r"(schemas\.\w+)\.(\w+)", str(field.annotation)):
            found = getattr(import_module(owner), part, None)
            if isinstance(found, type) and issubclass(found, BaseModel):
                yield from models(found, seen)


def test_every_field_of_a_recipe_is_explained():
    found = list(models(Recipe, set()))
    assert len(found) > 20, found
    bare = [
        f"{model.__name__}.{name}"
        for model in found
        for name, field in model.model_fields.items()
        if not field.description and name not in {"kind"}
    ]
    assert bare == []


@pytest.mark.parametrize("module", [schemas.workload, schemas.capacity])
def test_every_field_of_a_statement_of_rates_and_of_a_plan_is_explained(module):
    found = [m for m in vars(module).values() if isinstance(m, type) and issubclass(m, Record) and m is not Record]
    bare = [
        f"{m.__name__}.{name}" for m in found for name, field in m.model_fields.items() if not field.description
    ]
    assert len(found) > 4
    assert bare == []


def test_a_file_that_is_no_text_is_told_in_a_sentence(tmp_path):
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(RecipeError, match="cannot be read as UTF-8"):
        load_recipe(str(tmp_path / "r.yaml"))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("text: 10", "text: 1e6000000", "no share and no rate"),
        ("size: 64", "size: 384", "siglip tiny sees 64 x 64 pixels: set it to 64"),
        ("heldout_total: 4", "heldout_total: 4\n  weights: {own: -1}", "greater than or equal to 0"),
    ],
)
def test_values_that_cannot_be_are_told_before_anything_runs(text, old, new, words):
    assert old in text
    assert any(words in message for _, _, message in mistakes(text.replace(old, new, 1)))


def test_a_field_in_the_wrong_place_is_told_where_it_belongs(text):
    wrong = text.replace("encoders:\n  siglip:\n", "encoders:\n  siglip:\n    pool: 2\n") + "fps: 4\n"
    told = {path: message for _, path, message in mistakes(wrong)}
    assert told["encoders.siglip.pool"] == "no such field here; it belongs under `store`"
    assert told["fps"] == "no such field here; it belongs under `decode`"


def test_a_wrong_item_is_one_mistake_and_not_two(text):
    stage = "train:\n  stages:\n  - {name: align, modalities: [vid]}\n"
    assert [path for _, path, _ in mistakes(text + stage)] == ["train.stages[0].modalities[0]"]


def test_a_layer_that_the_encoder_has_not_is_told_with_the_recipe(text):
    ((_, _, message),) = mistakes(text.replace("    size: tiny\n", "    size: tiny\n    layer: -9\n", 1))
    assert "siglip tiny: it has 3 blocks" in message
