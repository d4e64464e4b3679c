"""Laws of the stage `Decode`: one outcome a sample, true times, and planted faults rejected with their reason."""

import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from decode_films import NS, PREPROCESSING, SPEC, render, sample
from PIL import Image

from pipeline.decode.film import Film
from pipeline.decode.media import open_plain
from pipeline.decode.stage import Decode
from pipeline.decode.worker import decode_sample
from pipeline.runtime.contract import run_chain
from schemas.arrays import Frames
from schemas.media import DecodeSpec
from schemas.rejection import Reason, Rejection
from schemas.sample import MediaRef


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("media")
    render(folder / "film.mp4", 50)
    whole = render(folder / "whole.mp4", 50, options={"movflags": "faststart"}, frame=noise).read_bytes()
    (folder / "cut.mp4").write_bytes(whole[: len(whole) // 2])
    film = (folder / "film.mp4").read_bytes()
    (folder / "moov_lost.mp4").write_bytes(film[: film.index(b"moov") - 4])
    (folder / "text.mp4").write_text("This is no film.\n" * 100)
    (folder / "empty.mp4").touch()
    os.mkfifo(folder / "pipe.mp4")
    (folder / "link.mp4").symlink_to("/etc/hostname")
    (folder / "list.mp4").write_text("#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nfilm.mp4\n#EXT-X-ENDLIST\n")
    for name, size in (("wide.png", (40, 20)), ("tall.png", (20, 40))):
        Image.fromarray(np.full((*size[::-1], 3), 200, np.uint8)).save(folder / name)
    return folder


def noise(number):
    return np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def stage(root):
    stage = Decode(SPEC, PREPROCESSING, {"s": str(root)})
    stage.setup()
    yield stage
    stage.close()


def test_a_film_gives_the_pixels_and_times_of_its_grid(stage, root):
    (frames,) = stage.process([sample("film.mp4")])
    assert [clip.t_ns for clip in frames.meta.clips] == [
        (0, NS // 2, NS, 3 * NS // 2),
        (2 * NS, 5 * NS // 2, 3 * NS, 7 * NS // 2),
        (4 * NS, 9 * NS // 2, 9 * NS // 2, 9 * NS // 2),
    ]
    assert all(clip.pts_ns == clip.t_ns for clip in frames.meta.clips)  # 10 fps holds every half second
    times = [t for clip in frames.meta.clips for t in clip.t_ns]
    with open_plain(str(root), "film.mp4") as file, Film(file, SPEC) as film:
        squares = [{n: shown.picture.square(p) for n, p in PREPROCESSING.items()} for shown in film.shown_at(times)]
    for name, preprocessing in PREPROCESSING.items():
        pixels = frames.pixels[name]
        assert pixels.shape == (3, 4, preprocessing.size, preprocessing.size, 3)
        assert not pixels.flags.writeable
        expected = [one[name] for one in squares]
        np.testing.assert_array_equal(pixels.reshape(12, *pixels.shape[2:]), expected)


def test_the_child_changes_nothing(stage, root):
    for one in (sample("film.mp4"), sample("wide.png", kind="image"), sample()):
        (frames,) = stage.process([one])
        here = decode_sample(one, str(root), SPEC, PREPROCESSING)
        assert frames.meta == here.meta
        for name in PREPROCESSING:
            np.testing.assert_array_equal(frames.pixels[name], here.pixels[name])


def test_a_span_starts_its_grid_at_its_own_start(stage):
    span = {"start_ns": 1_234_000_000, "exclusive_end_ns": 2_300_000_000}
    (frames,) = stage.process([sample("film.mp4", **span)])
    (clip,) = frames.meta.clips
    assert (clip.start_ns, clip.exclusive_end_ns) == tuple(span.values())
    assert clip.t_ns == (1_234_000_000, 1_734_000_000, 2_234_000_000, 2_234_000_000)
    assert clip.pts_ns == (1_200_000_000, 1_700_000_000, 2_200_000_000, 2_200_000_000)


def test_pictures_are_clips_of_one_frame_that_know_their_medium(stage):
    pair = [MediaRef(kind="image", path=path) for path in ("wide.png", "tall.png")]
    (frames,) = stage.process([sample(*pair)])
    assert [(c.medium, c.start_ns, c.exclusive_end_ns, c.t_ns, c.pts_ns) for c in frames.meta.clips] == [
        (0, 0, 2 * NS, (0,), (0,)),
        (1, 0, 2 * NS, (0,), (0,)),
    ]
    pixels = frames.pixels["siglip"]
    assert pixels.shape == (2, 1, 56, 56, 3)
    assert pixels[0, 0, 28, 2].tolist() == pixels[1, 0, 2, 28].tolist() == [200] * 3
    assert pixels[0, 0, 2, 28].tolist() == pixels[1, 0, 28, 2].tolist() == [127] * 3


def test_a_text_sample_has_no_clip_and_empty_arrays(stage):
    (frames,) = stage.process([sample()])
    assert frames.meta.clips == ()
    assert {name: array.shape for name, array in frames.pixels.items()} == {
        "siglip": (0, 0, 56, 56, 3),
        "internvideo2": (0, 0, 64, 64, 3),
    }


FAULTS = {
    "cut.mp4": Reason.TRUNCATED,
    "moov_lost.mp4": Reason.NOT_MEDIA,
    "text.mp4": Reason.NOT_MEDIA,
    "empty.mp4": Reason.EMPTY_FILE,
    "missing.mp4": Reason.MISSING_FILE,
    "pipe.mp4": Reason.NOT_MEDIA,
    "link.mp4": Reason.UNSAFE_PATH,
    "list.mp4": Reason.NOT_MEDIA,
    "wide.png": Reason.NOT_MEDIA,  # a picture is no film
}


def test_every_planted_fault_leaves_once_with_its_reason_and_place(stage):
    batch = [sample(path, key=f"k{index}") for index, path in enumerate([*FAULTS, "film.mp4"])]
    *refused, last = run_chain([stage], batch)
    for path, one, rejection in zip(FAULTS, batch, refused, strict=False):
        assert isinstance(rejection, Rejection), path
        assert (rejection.key, rejection.stage, rejection.reason) == (one.key, "decode", FAULTS[path])
        assert (rejection.where, rejection.source) == (path, "s")
    assert isinstance(last, Frames)


def test_one_bad_picture_refuses_its_whole_set_and_is_named(stage):
    media = [MediaRef(kind="image", path=path) for path in ("wide.png", "text.mp4")]
    (rejection,) = stage.process([sample(*media)])
    assert (rejection.reason, rejection.where) == (Reason.NOT_MEDIA, "text.mp4")


def test_a_film_longer_than_the_recipe_allows_is_refused_before_its_frames(root):
    outcome = decode_sample(sample("film.mp4"), str(root), DecodeSpec(max_duration_s=4), PREPROCESSING)
    assert outcome.reason is Reason.TOO_LARGE
    outcome = decode_sample(sample("film.mp4", start_ns=6 * NS), str(root), SPEC, PREPROCESSING)
    assert outcome.reason is Reason.TOO_SHORT


def test_a_decoder_past_its_deadline_or_memory_costs_its_sample_alone(root):
    Image.new("RGB", (7000, 7000)).save(root / "large.png")  # 140 MiB, and again as much as a square
    hasty = Decode(SPEC.model_copy(update={"deadline_s": 0.02}), PREPROCESSING, {"s": str(root)})
    small = Decode(SPEC.model_copy(update={"memory_mb": 256}), PREPROCESSING, {"s": str(root)})
    for stage, reason in ((hasty, Reason.DECODE_TIMEOUT), (small, Reason.DECODER_DIED)):
        stage.setup()
        large, text = stage.process([sample("large.png", kind="image"), sample(key="text")])
        stage.close()
        assert large.reason is reason, large
        assert large.where == "large.png"
        assert isinstance(text, Frames) or reason is Reason.DECODE_TIMEOUT  # 20 ms may be short for it too


def test_a_source_without_a_media_root_is_a_bug_not_bad_data(stage):
    with pytest.raises(ValueError, match="'elsewhere' has no media root"):
        stage.process([sample("film.mp4", source="elsewhere")])


def test_the_stage_travels_before_setup(root):
    stage = pickle.loads(pickle.dumps(Decode(SPEC, PREPROCESSING, {"s": str(root)})))  # noqa: S301
    stage.setup()
    assert isinstance(stage.process([sample("film.mp4")])[0], Frames)
    stage.close()
    stage.close()


def test_importing_the_stage_loads_nothing_heavy():
    code = "import sys, pipeline.decode.stage; print({'av', 'PIL', 'torch', 'ray'} & set(sys.modules))"
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
    )
