"""Laws of the build that a whole run rarely meets."""

import io

import pytest
import shard_factory as made
from mini import mini_recipe
from rich.console import Console

from flows.build import Build
from flows.display import Display
from flows.publish import OutputError, check_output, check_writable
from pipeline.features.origins import check_unchanged, weights_stamp
from pipeline.runtime.contract import ContractError
from pipeline.runtime.local import LocalRunner
from pipeline.runtime.passes import Pass, run_pass
from pipeline.shards.members import check_room_for_names
from schemas.base import InputError
from schemas.encoders import StoreSpec
from schemas.recipe import Recipe, ShardsSpec
from schemas.rejection import Reason, Rejection
from schemas.sample import Caption, Category, Generator, MediaRef, Modality, Sample


@pytest.fixture
def build(tmp_path):
    recipe = Recipe.model_validate(mini_recipe(tmp_path))
    return Build(recipe, LocalRunner(), Display(Console(file=io.StringIO())))


def picture(key: str, source: str) -> Sample:
    return Sample(
        key=key,
        source=source,
        modality=Modality.IMAGE,
        category=Category.CAPTIONING,
        media=(MediaRef(kind="image", path=f"{source}.png"),),
        annotations=(Caption(text="words"),),
        licence="CC0-1.0",
        annotator=Generator(name="human"),
    )


def remember(build: Build, *samples: Sample) -> None:
    """As if ingest had found them, each in a source of its own."""
    for sample in samples:
        found = Pass("ingest", (), sample.source, [sample], (), 1)
        build._samples.add(run_pass(build._workspace, found, LocalRunner(), lambda *_: None))
    build._check_keys()


def test_a_key_of_two_sources_stops_the_build(build):
    with pytest.raises(ContractError, match="'twin' comes from one and other"):
        remember(build, picture("twin", "one"), picture("twin", "other"))


def test_a_rejection_always_says_where_the_bytes_are(build):
    remember(build, picture("dead", "one"))
    bare = Rejection(key="dead", stage="features", reason=Reason.POISON, detail="ended its worker")
    placed = build._placed(bare)
    assert (placed.source, placed.where) == ("one", "one.png")


def test_weights_under_an_old_name_are_other_weights(build, tmp_path):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"old")
    spec = build.recipe.encoders["siglip"].model_copy(update={"weights": str(path)})
    before = weights_stamp(spec.weights)
    path.write_bytes(b"newer")
    assert weights_stamp(spec.weights) != before
    with pytest.raises(InputError, match="were changed while this run was going on"):
        check_unchanged(spec.weights, before)
    assert spec.labelled_weights == "weights.safetensors"  # not the folder's name
    path.unlink()
    with pytest.raises(InputError, match="no such file or folder"):
        weights_stamp(spec.weights)


def test_the_order_of_encoders_is_part_of_the_recipes_digest(build):
    recipe = build.recipe
    turned = recipe.model_copy(update={"encoders": dict(reversed(recipe.encoders.items()))})
    assert turned.mixture_sha256() != recipe.mixture_sha256()


@pytest.mark.parametrize("field", ["workspace", "output"])
def test_where_a_mixture_is_put_is_no_part_of_its_digest(build, field):
    recipe = build.recipe
    assert recipe.model_copy(update={field: "elsewhere"}).mixture_sha256() == recipe.mixture_sha256()


def test_a_name_that_readers_would_cut_is_told_before_anything_is_encoded(build):
    build.ingest()
    build.plan()
    remember(build, picture("k" * 80, "own"))
    with pytest.raises(InputError, match="shorten the key or the encoder's name"):
        build.plan()


def test_a_name_that_just_fits_is_let_in(build):
    plain = {name: spec.model_copy(update={"store": StoreSpec()}) for name, spec in build.recipe.encoders.items()}
    bare = build.recipe.model_copy(update={"encoders": plain, "shards": ShardsSpec()})
    check_room_for_names("k" * 80, bare)  # with .internvideo2.npy 97 bytes; .internvideo2.scale.npy would be 103
    with pytest.raises(InputError, match=r"internvideo2\.scale\.npy' has 103 bytes"):
        check_room_for_names("k" * 80, build.recipe.model_copy(update={"shards": ShardsSpec()}))


def test_a_mixture_of_another_name_is_not_replaced(tmp_path, build):
    output = tmp_path / "out"
    made.build(output)
    with pytest.raises(OutputError, match="holds the mixture 'small', this is 'mini': choose another"):
        build.ingest()
    check_output(output, "small")
    (output / "ledger.json").write_text("{}")
    check_output(output, "mini")  # a ledger that cannot be read is one to be made anew


def test_a_place_that_cannot_be_written_is_told_before_the_work(tmp_path):
    (tmp_path / "file").touch()
    for place in (tmp_path / "file", tmp_path / "file" / "deeper", tmp_path / "file" / "far" / "deeper"):
        with pytest.raises(OutputError, match="cannot be written"):
            check_writable(place)
    check_writable(tmp_path / "yet" / "to" / "be")
