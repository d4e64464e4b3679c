"""Laws of a film's clips: damaged frames never reach an encoder, whatever is chosen to become of them."""

from unittest.mock import patch

import numpy as np
import pytest
from decode_films import NS, PREPROCESSING, SIGLIP, render, sample

from pipeline.decode import film_clips as clips_module
from pipeline.decode.film_clips import film_clips
from pipeline.decode.media import BadMedia, open_plain
from pipeline.decode.worker import decode_sample
from schemas.media import DecodeSpec
from schemas.rejection import Reason
from schemas.sample import MediaRef


def noise(number):
    return np.random.default_rng(number).integers(0, 255, (48, 64, 3), np.uint8)


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """A whole film of 8 s with a keyframe each second, and one whose fifth second is damaged."""
    folder = tmp_path_factory.mktemp("films")
    data = bytearray(render(folder / "whole.mp4", 80, gop=10, frame=noise).read_bytes())
    begin, end = data.index(b"mdat") + 4, data.index(b"moov")
    for at in np.random.default_rng(0).integers(
        begin + (end - begin) * 52 // 100, begin + (end - begin) * 58 // 100, 60
    ):
        data[at] ^= 0xFF
    (folder / "damaged.mp4").write_bytes(data)
    return folder


def clips_of(folder, name, **spec):
    with open_plain(str(folder), name) as file:
        return film_clips(file, MediaRef(kind="video", path=name), 0, DecodeSpec(**spec), PREPROCESSING)


def test_a_damaged_film_is_refused_unless_the_recipe_says_otherwise(films):
    with pytest.raises(BadMedia) as caught:
        clips_of(films, "damaged.mp4")
    assert caught.value.reason is Reason.DAMAGED
    assert "decode.on_damage" in caught.value.detail


@pytest.mark.parametrize("on_damage", ["drop_frames", "salvage"])
def test_clips_with_a_damaged_frame_are_left_out_and_the_others_are_as_if_nothing_were(films, on_damage):
    whole = clips_of(films, "whole.mp4")
    found = clips_of(films, "damaged.mp4", on_damage=on_damage)
    assert [clip.start_ns // NS for clip in found.times] == [0, 2, 6]
    assert (found.dropped, found.salvaged) == (1, False)  # no repair brings pictures back
    kept = [number for number, clip in enumerate(whole.times) if clip in found.times]
    expected = [whole.frames[4 * number + k] for number in kept for k in range(4)]
    for before, after in zip(expected, found.frames, strict=True):
        np.testing.assert_array_equal(before["siglip"], after["siglip"])


def test_a_film_of_which_no_clip_is_sound_is_refused(films):
    with pytest.raises(BadMedia, match="each of its 1 clips holds a damaged frame"):
        clips_of(films, "damaged.mp4", on_damage="drop_frames", frames_per_clip=16)


def test_a_film_whose_times_jump_back_is_read_after_a_repair_if_the_recipe_wants_that(films):
    part = render(films / "part.ts", 40, frame=noise).read_bytes()
    (films / "joined.ts").write_bytes(part + part)
    with pytest.raises(BadMedia) as caught:
        clips_of(films, "joined.ts", on_damage="drop_frames", fps=5)
    assert caught.value.reason is Reason.BAD_TIMESTAMPS
    found = clips_of(films, "joined.ts", on_damage="salvage", fps=5)
    assert found.salvaged
    assert found.times[-1].exclusive_end_ns > 7 * NS


def test_a_sound_film_is_never_repaired(films):
    with patch.object(clips_module, "repaired", side_effect=AssertionError):
        assert not clips_of(films, "whole.mp4", on_damage="salvage").salvaged


def test_a_frame_shown_at_several_times_is_made_once(films):
    found = clips_of(films, "whole.mp4", fps=30)
    assert len(found.frames) == 25 * 4
    assert len({id(squares) for squares in found.frames}) < 60


@pytest.mark.parametrize("sampling", ["uniform", "released_compat"])
def test_other_samplings_give_whole_clips_of_true_frames(films, sampling):
    found = clips_of(films, "whole.mp4", sampling=sampling, max_clips=3)
    assert len(found.times) == 3
    tick = NS // 10
    for clip in found.times:
        assert clip.pts_ns == tuple(t // tick * tick for t in clip.t_ns)


def test_a_file_that_changed_since_it_was_ingested_is_refused(films):
    size = (films / "whole.mp4").stat().st_size
    for size_bytes, reason in ((size, None), (size + 1, Reason.CHANGED)):
        medium = MediaRef(kind="video", path="whole.mp4", size_bytes=size_bytes)
        outcome = decode_sample(sample(medium), str(films), DecodeSpec(), {"siglip": SIGLIP})
        assert getattr(outcome, "reason", None) is reason
