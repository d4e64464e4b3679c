"""Laws of `AnimationFilm`: an animated WebP's frames and times are what a browser shows."""

from contextlib import suppress
from io import BytesIO

import numpy as np
import pytest
from decode_films import NS, SIGLIP, SPEC
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.decode.animation import AnimationFilm, is_animation
from pipeline.decode.media import BadMedia
from schemas.media import DecodeSpec
from schemas.rejection import Reason

MS = 10**6
DURATIONS_MS = [100, 0, 10, 11, 50, 250]


def colour(number):
    return (20 * number, 100, 50)


def webp(durations_ms=DURATIONS_MS, alpha=255, **options):
    pictures = [Image.new("RGBA", (40, 30), (*colour(k), alpha)) for k in range(len(durations_ms))]
    file = BytesIO()
    pictures[0].save(
        file, "WEBP", save_all=True, append_images=pictures[1:], duration=durations_ms, lossless=True, **options
    )
    return file.getvalue()


def opened(data, spec=SPEC):
    return AnimationFilm(BytesIO(data), spec)


def shown_colours(film, times_ns):
    return [shown.picture.image.convert("RGB").getpixel((5, 5)) for shown in film.shown_at(times_ns)]


def test_each_frame_starts_where_the_one_before_it_ends():
    with opened(webp()) as film:
        starts = [0, 100, 200, 300, 311, 361]  # 0 and 10 ms are shown for 100
        assert film.frame_times_ns() == tuple(ms * MS for ms in starts)
        assert film.duration_ns() == 611 * MS
        times_ns = [t for ms in starts[1:] for t in (ms * MS - 1, ms * MS)]
        assert shown_colours(film, times_ns) == [colour(k) for k in (0, 1, 1, 2, 2, 3, 3, 4, 4, 5)]
        assert [shown.duration_ns for shown in film.shown_at([0, 305 * MS, 611 * MS])] == [
            100 * MS,
            11 * MS,
            250 * MS,
        ]


def test_a_frame_shown_twice_is_one_object_and_the_film_can_be_asked_again():
    with opened(webp()) as film:
        first, second, third = film.shown_at([0, 1, 100 * MS])
        assert first is second is not third
        assert first.picture.image.getpixel((5, 5))[:3] == colour(0)  # still, with later frames decoded
        assert shown_colours(film, [0, 400 * MS]) == [colour(0), colour(5)]


def test_alpha_shows_the_pad_colour():
    with opened(webp(alpha=0, exact=True)) as film:
        square = next(film.shown_at([100 * MS])).picture.square(SIGLIP)
    assert (square == SIGLIP.pad_colour).all()


def test_size_is_the_canvas_and_is_bounded_before_it_is_allocated():
    data = bytearray(webp())
    with opened(data) as film:
        assert film.displayed_size() == (40, 30)
    data[24:30] = b"\xff" * 6  # 16,777,216 squared
    with pytest.raises(BadMedia) as caught:
        opened(data)
    assert caught.value.reason is Reason.TOO_LARGE


def test_a_time_behind_its_end_is_refused():
    with opened(webp(), DecodeSpec(fps=10)) as film, pytest.raises(BadMedia) as caught:
        list(film.shown_at([711 * MS, 711 * MS + 1]))
    assert caught.value.reason is Reason.TRUNCATED


def test_only_an_animated_webp_is_one():
    still, png = BytesIO(), BytesIO()
    picture = Image.fromarray(np.zeros((30, 40, 4), np.uint8))
    picture.save(still, "WEBP")
    picture.save(png, "PNG", save_all=True, append_images=[picture])
    files = {b"": False, b"RIFF": False, still.getvalue(): False, png.getvalue(): False, webp(): True}
    for data, expected in files.items():
        file = BytesIO(data)
        file.read(3)
        assert is_animation(file) is expected
        assert file.tell() == 0


@given(cut=st.integers(30, len(webp()) - 1))
@settings(max_examples=40)
def test_one_that_is_cut_off_is_refused(cut):
    with pytest.raises(BadMedia) as caught:
        opened(webp()[:cut])
    assert caught.value.reason is Reason.DECODE_ERROR


@given(place=st.integers(30, len(webp()) - 1), value=st.integers(0, 255))
@settings(max_examples=100)
def test_a_changed_byte_brings_frames_or_a_refusal(place, value):
    data = bytearray(webp())
    data[place] = value
    with suppress(BadMedia), opened(data) as film:  # any other error fails
        times_ns = film.frame_times_ns()
        assert len(list(film.shown_at(times_ns))) == len(times_ns)


def test_chunks_of_odd_size_are_stepped_over():
    with opened(webp(icc_profile=b"odd")) as film:
        assert len(film.frame_times_ns()) == len(DURATIONS_MS)


def test_a_lost_frame_is_missed():
    data = webp()
    place = data.index(b"ANMF", data.index(b"ANMF") + 4)
    with pytest.raises(BadMedia) as caught:
        opened(data[:place] + b"ANMX" + data[place + 4 :] + b"ANMF" + bytes([16, 0, 0, 0]) + bytes(16))
    assert caught.value.reason is Reason.DECODE_ERROR


def test_a_frame_that_lasts_long_lasts_as_long():
    with opened(webp([100, 16_000_000, 100])) as film:
        assert film.duration_ns() == 16_000_200 * MS > 4 * 3600 * NS
