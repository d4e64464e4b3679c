"""Laws of a build with columns: an encoder comes, changes and goes without a change to anything else."""

import random
import shutil
from copy import deepcopy
from dataclasses import dataclass, replace

import pytest
import shard_factory as made
from mini import contents, environment, mini_recipe, mixture, write_recipe
from safetensors.torch import save_file
from test_kills import kill_after

from flows.columns import encoded, samples_in
from pipeline.audit.audit import audit
from pipeline.shards.reader import ShardReader
from schemas.arrays import Features
from schemas.base import InputError
from schemas.ledger import Ledger
from schemas.sample import Split

COLUMN = "internvideo2"
TOLD = {"ledger.json", "README.md", "report.html"}
"""Files that tell which columns a mixture has."""


MADE = {}


def recipe(folder, **column):
    """The mini recipe with internvideo2 as a column; frames as pictures in both places. Its media are made once."""
    if folder not in MADE:
        MADE[folder] = mini_recipe(folder)
    data = deepcopy(MADE[folder])
    data["encoders"][COLUMN]["store"]["place"] = "column"
    data["encoders"][COLUMN] |= column
    data["shards"]["frames_codec"] = "mjpeg"
    return data


def without_column(folder):
    data = recipe(folder)
    del data["encoders"][COLUMN]
    return data


def build(path, folder, *options):
    done = mixture(
        "build", path, "--workspace", folder / "ws", "--output", folder / "out", *options, env=environment()
    )
    assert done.returncode == 0, done.stderr
    return done


def marks(out):
    """What tells a file that was left alone from one that was written again with the same bytes."""
    files = (path for path in out.rglob("*") if path.is_file())
    return {p.relative_to(out).as_posix(): (p.stat().st_ino, p.stat().st_mtime_ns) for p in files}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    return tmp_path_factory.mktemp("columns")


@pytest.fixture(scope="module")
def plain(home):
    """A mixture of siglip alone."""
    build(write_recipe(home, without_column(home)), home / "plain")
    return home / "plain"


@pytest.fixture(scope="module")
def late(home, plain):
    """The same mixture with a column that was added when it was whole."""
    folder = shutil.copytree(plain, home / "late")
    before = marks(folder / "out")
    done = build(write_recipe(home, recipe(home)), folder)
    return folder, before, done.stderr


def test_an_added_column_leaves_every_other_file_alone(late):
    folder, before, _ = late
    after = marks(folder / "out")
    assert {name for name in before if after[name] != before[name]} == TOLD
    assert all(f".{COLUMN}." in name for name in after.keys() - before.keys())
    assert (
        len(after.keys() - before.keys()) == 2 * 4 + 1
    )  # tars and their .idx of three train shards and one heldout


def test_an_added_column_costs_no_talk_and_no_other_encoder(late):
    folder, _, told = late
    assert "features of new columns" in told
    assert "conversations" not in told
    encoders = [
        manifest.read_text().count("architecture") for manifest in (folder / "ws/features").glob("*/manifest.json")
    ]
    assert sorted(encoders) == [1, 1]


@pytest.mark.slow
def test_a_column_that_comes_later_is_the_one_that_comes_first(home, late):
    build(write_recipe(home, recipe(home)), home / "fresh")
    assert contents(home / "fresh" / "out") == contents(late[0] / "out")
    found = [
        path.read_text().count("architecture") for path in (home / "fresh/ws/features").glob("*/manifest.json")
    ]
    assert found == [2]  # one pass over the media for both encoders


@pytest.mark.slow
def test_ray_adds_the_same_column(home, plain, late):
    folder = shutil.copytree(plain, home / "on-ray")
    build(write_recipe(home, recipe(home)), folder, "--runner", "ray", "--workers", 2)
    assert contents(folder / "out") == contents(late[0] / "out")


def test_the_audit_passes_and_the_ledger_tells_the_columns_loss(late):
    out = late[0] / "out"
    assert audit(out).ok
    ledger = Ledger.read(out)
    assert [encoder.name for encoder in ledger.encoders] == ["siglip", COLUMN]
    assert ledger.storage_loss.keys() == {COLUMN}
    assert f"column of `{COLUMN}`" in (out / "README.md").read_text()


def test_other_weights_replace_the_column_and_nothing_else_and_it_goes_as_it_came(home, plain, late):
    folder = shutil.copytree(late[0], home / "replaced")
    before, bytes_before = marks(folder / "out"), contents(folder / "out")
    build(write_recipe(home, recipe(home, seed=7)), folder)
    after = marks(folder / "out")
    changed = {name for name in before if after[name] != before[name]}
    assert changed - TOLD == {name for name in before if name.endswith(f".{COLUMN}.tar")} | {
        name for name in changed if name.startswith(f"index.{COLUMN}.") or name.endswith(f".{COLUMN}.tar.idx")
    }
    assert Ledger.read(folder / "out").encoders[1].weights == "RANDOM seed=7"
    assert audit(folder / "out").ok
    build(write_recipe(home, recipe(home)), folder)
    assert contents(folder / "out") == bytes_before
    build(write_recipe(home, without_column(home)), folder)
    assert contents(folder / "out") == contents(plain / "out")


def test_an_encoder_that_fails_on_a_sample_gets_no_column_and_the_old_mixture_stays(home, plain):
    from pipeline.features.encoder import build_encoder
    from schemas.encoders import EncoderSpec

    data = recipe(home)
    spec = EncoderSpec.model_validate(data["encoders"][COLUMN])
    state = build_encoder(COLUMN, spec).tower.model.state_dict()
    state["pos_embed"] = state["pos_embed"] * 1e7
    save_file({name: value.contiguous() for name, value in state.items()}, home / "huge.safetensors")
    path = write_recipe(home, recipe(home, weights=str(home / "huge.safetensors")))
    folder = shutil.copytree(plain, home / "failing")
    before = contents(folder / "out")
    for start in (folder, home / "failing-fresh"):  # added to shards that are whole, and built with them
        done = mixture("build", path, "--workspace", start / "ws", "--output", start / "out", env=environment())
        assert done.returncode == 1, done.stderr
        # all of the train split but its four texts, which have no clip
        assert f"encoder {COLUMN} can have no column: 36 of 40 samples fail" in done.stderr
        assert "values that float16 cannot hold" in done.stderr
    assert contents(folder / "out") == before
    assert not (home / "failing-fresh" / "out").exists()


@dataclass(frozen=True)
class AtHand:
    """A reader of features that are in memory."""

    features: Features

    def __call__(self):
        return self.features

    outline = __call__


def test_features_of_other_media_or_frames_than_the_shards_are_never_given_to_them(tmp_path):
    made.build(tmp_path)
    reader = ShardReader(tmp_path, "train")
    packed = list(made.samples(made.TRAIN, Split.TRAIN))
    samples = [each.sample for each in packed]
    readers = {each.sample.key: AtHand(each.features) for each in packed}
    assert len(list(encoded("siglip", samples, readers, reader))) == len(samples)
    film = next(each for each in packed if each.sample.modality == "video")
    earlier = film.features.meta.clips[0].model_copy(update={"pts_ns": (0, 0, 0, 0)})
    meta = film.features.meta.model_copy(update={"clips": (earlier, *film.features.meta.clips[1:])})
    others = {**readers, film.sample.key: AtHand(replace(film.features, meta=meta))}
    with pytest.raises(InputError, match=f"{film.sample.key} has other media, annotations or frames"):
        list(encoded("siglip", samples, others, reader))
    medium = film.sample.media[0].model_copy(update={"sha256": "0" * 64})
    changed = [s.model_copy(update={"media": (medium,)}) if s is film.sample else s for s in samples]
    with pytest.raises(InputError, match=f"{film.sample.key} has other media, annotations or frames"):
        list(encoded("siglip", changed, readers, reader))


def test_a_sample_of_the_shards_that_is_no_candidate_any_more_is_named(tmp_path):
    made.build(tmp_path)
    samples = {each.sample.key: each.sample for each in made.samples(made.TRAIN, Split.TRAIN)}
    with pytest.raises(InputError, match="heldout-video-0000 is in the shards, but no longer a candidate"):
        samples_in(tmp_path, samples)


@pytest.mark.slow
def test_tuned_encoders_give_new_columns_and_nothing_else(home):
    """After training stage 2 its checkpoints are the encoders' weights."""
    data = recipe(home)
    data["encoders"]["siglip"]["store"] = {"place": "column"}
    stage = {"modalities": ["video"], "categories": ["captioning"], "batch_size": 4, "lr_vision": 1e-3}
    data["train"] = {
        "llm": {"hidden_size": 32, "layers": 1, "vocabulary": 300}, "tokens_per_frame": 1, "connector_heads": 2,
        "connector_kv_heads": 1, "connector_head_dim": 16, "stages": [{"name": "vision", **stage}],
    }  # fmt: skip
    folder = home / "tuned"
    build(write_recipe(home, data), folder)
    before, ledger = marks(folder / "out"), Ledger.read(folder / "out")
    options = ("--workspace", folder / "ws", "--output", folder / "out")
    trained = mixture("train", home / "recipe.yaml", *options, env=environment())
    assert trained.returncode == 0, trained.stderr
    (checkpoint,) = (folder / "ws" / "train").glob("*/1-vision")
    for name in ("siglip", COLUMN):
        data["encoders"][name]["weights"] = str(checkpoint / f"vision-{name}.safetensors")
    build(write_recipe(home, data), folder)
    after, tuned = marks(folder / "out"), Ledger.read(folder / "out")
    changed = {name for name in before if after[name] != before[name]}
    assert {name for name in changed - TOLD if name.endswith(".tar")} == {
        name for name in before if name.endswith((".siglip.tar", f".{COLUMN}.tar"))
    }
    assert not [name for name in changed - TOLD if ".siglip." not in name and f".{COLUMN}." not in name]
    for encoder, untuned in zip(tuned.encoders, ledger.encoders, strict=True):
        assert encoder.weights == f"RANDOM seed=0, tuned: vision-{encoder.name}.safetensors"
        assert encoder.is_random
        assert encoder.weights_sha256 != untuned.weights_sha256
    assert audit(folder / "out").ok


@pytest.mark.slow
def test_kills_while_a_column_is_added_end_with_the_same_bytes(home, plain, late):
    folder = shutil.copytree(plain, home / "killed")
    path = write_recipe(home, recipe(home))
    arguments = [str(path), "--workspace", str(folder / "ws"), "--output", str(folder / "out")]
    rng, hit = random.Random(5), 0
    while hit < 8:
        if kill_after(rng.uniform(0.5, 4.5), arguments):
            hit += 1
        else:  # done already: begin anew
            shutil.rmtree(folder)
            shutil.copytree(plain, folder)
    build(path, folder)
    assert contents(folder / "out") == contents(late[0] / "out")
