"""The real Decode and Encode on Ray: the same bits for any workers and batches, whatever dies on the way."""

import os
from pathlib import Path

import pytest
import ray
from encoder_specs import ARCHITECTURES, spec
from fatal_encode import CYAN, MAGENTA, FatalEncode
from PIL import Image

from pipeline.decode.stage import Decode
from pipeline.features.stage import Encode
from pipeline.ingest.shapes.render import render
from pipeline.ingest.shapes.scene import draw_film, stream
from pipeline.runtime.local import LocalRunner
from pipeline.runtime.passes import Pass, outcomes, run_pass
from pipeline.runtime.ray import RayRunner
from pipeline.runtime.workspace import Workspace
from schemas.arrays import Features
from schemas.media import DecodeSpec
from schemas.rejection import Reason, Rejection
from schemas.sample import Caption, Generator, MediaRef, Sample, Split

pytestmark = pytest.mark.slow

PLAIN = {name: spec(name) for name in ARCHITECTURES}
COMPILED = {name: spec(name, compiled=True) for name in ARCHITECTURES}
COLOURS = {"magenta": MAGENTA, "cyan": CYAN, "red": (255, 0, 0), "green": (0, 255, 0)}


@pytest.fixture(scope="module", autouse=True)
def cluster():
    # Ray's workers are other processes: they find the fatal stage by the path.
    os.environ["PYTHONPATH"] = os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    os.environ.setdefault("RAY_AUTH_MODE", "disabled")
    ray.init(num_cpus=8, object_store_memory=2**28, include_dashboard=False, log_to_driver=False)
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    for index in range(4):
        (folder / f"film{index}.mp4").write_bytes(render(draw_film(stream(1, Split.TRAIN, index, "scene"))))
    for name, colour in COLOURS.items():
        Image.new("RGB", (48, 48), colour).save(folder / f"{name}.png")
    return folder


def sample(key: str, kind: str = "", path: str = "") -> Sample:
    return Sample(
        key=key,
        source="s",
        modality=kind or "text",
        category="captioning",
        media=(MediaRef(kind=kind, path=path),) if kind else (),
        licence="CC0-1.0",
        annotations=(Caption(text="A thing."),),
        annotator=Generator(name="human"),
    )


SAMPLES = [
    sample("film0", "video", "film0.mp4"),
    sample("cyan", "image", "cyan.png"),
    sample("words"),
    sample("film1", "video", "film1.mp4"),
    sample("magenta", "image", "magenta.png"),
    sample("film2", "video", "film2.mp4"),
    sample("red", "image", "red.png"),
    sample("missing", "image", "missing.png"),
    sample("film3", "video", "film3.mp4"),
    sample("green", "image", "green.png"),
]


def run(folder: Path, root: Path, runner: object, encode: Encode, part_size: int = 3) -> dict[str, object]:
    """By key, in order: the record and the bytes of its arrays, or the rejection."""
    decode = Decode(DecodeSpec(), {name: each.preprocessing for name, each in PLAIN.items()}, {"s": str(root)})
    job = Pass("features", (decode, encode), None, SAMPLES, (), part_size)
    done = run_pass(Workspace(folder), job, runner, lambda *_: None)
    found: dict[str, object] = {refused.key: refused for refused in outcomes(done, Rejection)}
    for each in outcomes(done, Features):
        found[each.key] = each.meta, {name: (array.shape, array.tobytes()) for name, array in each.arrays.items()}
    return {each.key: found[each.key] for each in SAMPLES}


@pytest.fixture(scope="module")
def undisturbed(root, tmp_path_factory):
    """By the local runner, one sample at a time."""
    return {
        compiled: run(
            tmp_path_factory.mktemp("local"),
            root,
            LocalRunner(),
            Encode(COMPILED if compiled else PLAIN),
            part_size=1,
        )
        for compiled in (False, True)
    }


@pytest.mark.parametrize(
    ("workers", "part_size", "clips_at_once", "compiled"),
    [(1, 4, 1, False), (2, 1, 7, False), (3, 10, 32, False), (2, 3, 32, True)],
)
def test_features_are_the_same_bits_for_any_number_of_actors_and_any_batch(
    tmp_path, root, undisturbed, workers, part_size, clips_at_once, compiled
):
    encode = Encode(COMPILED if compiled else PLAIN, clips_at_once=clips_at_once)
    with RayRunner(workers=workers, call_deadline_s=120) as runner:
        found = run(tmp_path, root, runner, encode, part_size)
    assert found == undisturbed[compiled]
    assert [key for key, each in found.items() if isinstance(each, Rejection)] == ["missing"]


def test_a_dead_encoder_is_replaced_and_a_clip_that_kills_each_is_quarantined_alone(tmp_path, root, undisturbed):
    with RayRunner(workers=2, call_deadline_s=120) as runner:
        found = run(tmp_path, root, runner, FatalEncode(PLAIN, tmp_path))
    assert (tmp_path / "cyan-was-seen").exists(), "an encoder did die at the cyan picture"
    poison = found.pop("magenta")
    assert isinstance(poison, Rejection)
    assert (poison.stage, poison.reason) == ("features", Reason.POISON)
    assert found == {key: each for key, each in undisturbed[False].items() if key != "magenta"}
