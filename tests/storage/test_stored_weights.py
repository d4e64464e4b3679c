"""Laws of weights that lie in an object store, from the recipe to the encoder."""

import io
import subprocess
import sys
from pathlib import Path

import pytest
from pydantic import ValidationError
from rich.console import Console
from safetensors.torch import save_file
from store_server import BUCKET

sys.path += [str(Path(__file__).parents[1] / folder) for folder in ("features", "flows")]
from encoder_specs import spec
from mini import environment, mini_recipe, mixture, write_recipe

from flows.build import Build
from flows.display import Display
from pipeline.features.encoder import build_encoder
from pipeline.features.internvideo2 import TINY, InternVideo2
from pipeline.features.origins import weights_path, weights_stamp
from pipeline.features.siglip import GEOMETRY
from pipeline.features.stage import Encode
from pipeline.features.weights import fill_at_random, state_sha256
from pipeline.runtime.local import LocalRunner
from schemas.base import InputError
from schemas.recipe import Recipe

VIDEO, FOLDER = f"s3://{BUCKET}/video/tiny.safetensors", f"s3://{BUCKET}/siglip/tiny/"
URLS = {"internvideo2": VIDEO, "siglip": FOLDER}


def video_file(folder: Path, seed: int) -> tuple[bytes, str]:
    model = InternVideo2(TINY)
    fill_at_random(model, seed)
    save_file(model.state_dict(), folder / "saved.safetensors")
    return (folder / "saved.safetensors").read_bytes(), state_sha256(model)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Files by key, and the digests of both models."""
    from transformers import SiglipVisionConfig, SiglipVisionModel

    folder = tmp_path_factory.mktemp("models")
    body, video_sha256 = video_file(folder, seed=7)
    siglip = SiglipVisionModel(SiglipVisionConfig(**GEOMETRY["tiny"]))
    fill_at_random(siglip, seed=8)
    siglip.save_pretrained(folder / "siglip")
    files = {f"siglip/tiny/{path.name}": path.read_bytes() for path in (folder / "siglip").iterdir()}
    return {"video/tiny.safetensors": body, **files}, {"internvideo2": video_sha256, "siglip": state_sha256(siglip)}


@pytest.fixture
def filled(store, models):
    """The store with both models, code and a pickle beside one."""
    for key, body in models[0].items():
        store.put(key, body)
    for name in ("modeling_evil.py", "pytorch_model.bin", "old/model.safetensors"):
        store.put(f"siglip/tiny/{name}", b"raise SystemExit('ran')")
    return store


@pytest.mark.parametrize("architecture", list(URLS))
def test_weights_come_from_the_store_once_and_neither_code_nor_pickles_do(filled, models, architecture):
    wanted = spec(architecture, weights=URLS[architecture])
    stamp = weights_stamp(wanted.weights)
    assert not filled.gets(".safetensors"), "a stamp reads no weights"
    for _ in range(2):
        encoder = build_encoder(architecture, wanted, stamped=stamp)
        assert encoder.provenance.weights_sha256 == models[1][architecture]
        assert encoder.provenance.weights == URLS[architecture]
    assert len(filled.gets(".safetensors")) == 1
    assert not filled.gets(".py") + filled.gets(".bin") + filled.gets("old/model.safetensors")


@pytest.mark.parametrize(
    ("architecture", "key"), [("internvideo2", "video/tiny.safetensors"), ("siglip", "siglip/tiny/config.json")]
)
def test_other_bytes_under_the_same_url_are_other_weights(filled, models, architecture, key):
    before = weights_stamp(URLS[architecture])
    assert weights_stamp(URLS[architecture]) == before
    filled.put(key, models[0][key][::-1])  # of the same size
    assert weights_stamp(URLS[architecture]) != before


def test_what_is_no_part_of_a_model_does_not_change_its_stamp(filled):
    before = weights_stamp(FOLDER)
    filled.put("siglip/tiny/README.md", b"words")
    assert weights_stamp(FOLDER) == before


def test_a_worker_takes_the_stamped_weights_or_none(filled, tmp_path):
    stamps = {"video": weights_stamp(VIDEO)}
    filled.put("video/tiny.safetensors", video_file(tmp_path, seed=9)[0])
    worker = Encode({"video": spec("internvideo2", weights=VIDEO)}, stamps=stamps)
    with pytest.raises(InputError, match=f"{VIDEO}: changed, or went away, .*run the same command again"):
        worker.setup()
    worker.close()


def test_a_worker_that_has_the_stamped_weights_does_not_care_what_came_later(filled, tmp_path, models):
    stamp = weights_stamp(VIDEO)
    weights_path(VIDEO, stamp)
    filled.put("video/tiny.safetensors", video_file(tmp_path, seed=9)[0])
    encoder = build_encoder("video", spec("internvideo2", weights=VIDEO), stamped=stamp)
    assert encoder.provenance.weights_sha256 == models[1]["internvideo2"]


def test_of_a_bucket_with_versions_every_worker_gets_the_stamped_one(store, models, tmp_path):
    store.client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    store.put("video/tiny.safetensors", models[0]["video/tiny.safetensors"])
    stamp = weights_stamp(VIDEO)
    store.put("video/tiny.safetensors", video_file(tmp_path, seed=9)[0])
    encoder = build_encoder("video", spec("internvideo2", weights=VIDEO), stamped=stamp)
    assert encoder.provenance.weights_sha256 == models[1]["internvideo2"]


@pytest.mark.parametrize("lacking", ["config.json", "model.safetensors"])
def test_a_folder_without_a_model_is_told_before_anything_is_fetched(filled, lacking):
    filled.client.delete_object(Bucket=BUCKET, Key=f"siglip/tiny/{lacking}")
    filled.asked.clear()
    with pytest.raises(InputError, match=f"^{FOLDER}: found .* expected config.json and at least one .safetensors"):
        weights_stamp(FOLDER)
    assert not filled.gets(".safetensors")


@pytest.mark.parametrize(
    ("architecture", "weights", "mend"),
    [
        (
            "siglip",
            f"s3://{BUCKET}/model.bin",
            "a folder with config.json and safetensors, or a file, whose URL ends in /",
        ),
        ("internvideo2", FOLDER, "a file, whose URL ends in .safetensors or .pt or .pth"),
        ("internvideo2", f"s3://{BUCKET}/model.bin", "a file, whose URL ends in"),
        ("siglip", f"s3://key:secret@{BUCKET}/m/", r"s3://\*\*\*@models/m/': expected s3://BUCKET"),
    ],
)
def test_a_url_that_cannot_be_meant_is_refused_with_the_recipe(architecture, weights, mend):
    with pytest.raises(ValidationError, match=mend) as told:
        spec(architecture, weights=weights)
    (mistake,) = told.value.errors()
    assert "secret" not in mistake["msg"]
    assert mistake["loc"] == (("weights",) if "@" in weights else ()), "a recipe's line is found by it"


def recipe_with(folder: Path, **weights: str) -> dict:
    data = mini_recipe(folder)
    for name, url in weights.items():
        data["encoders"][name]["weights"] = url
    return data


def test_missing_weights_are_told_before_any_work_as_bad_input(store, tmp_path):
    recipe = write_recipe(tmp_path, recipe_with(tmp_path, siglip=FOLDER))
    done = mixture("build", recipe, env=environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert f"{FOLDER}: no objects right under it; check its path" in " ".join(done.stderr.split())
    assert not (tmp_path / "workspace" / "ingest").exists()


@pytest.mark.slow
def test_a_build_ends_when_weights_change_on_the_way_and_the_next_one_takes_what_is_there(filled, tmp_path):
    recipe = Recipe.model_validate(recipe_with(tmp_path, internvideo2=VIDEO, siglip=FOLDER))
    build, again = (Build(recipe, LocalRunner(), Display(Console(file=io.StringIO()))) for _ in range(2))
    build.ingest()
    build.plan()
    body, sha256 = video_file(tmp_path, seed=9)
    filled.put("video/tiny.safetensors", body)
    with pytest.raises(InputError, match=f"{VIDEO}: changed, or went away"):
        build.produce()
    again.run()
    found = {encoder.name: (encoder.weights, encoder.weights_sha256) for encoder in again.ledger.encoders}
    assert found["internvideo2"] == (VIDEO, sha256)
    assert found["siglip"][0] == FOLDER


def test_random_weights_are_labelled_as_ever():
    assert spec("siglip", seed=3).labelled_weights == "RANDOM seed=3"


def test_nothing_imports_boto3_before_a_store_is_asked():
    code = (
        "import sys, flows.cli, flows.build, pipeline.features.origins, pipeline.features.encoder\n"
        "import pipeline.storage.objects, pipeline.storage.cache\n"
        "from pipeline.features.origins import weights_stamp, weights_path\n"
        "weights_stamp('random'), weights_path('/a/file.pt')\n"
        "print(sorted({'boto3', 'botocore', 's3transfer', 'awscrt'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "[]"
