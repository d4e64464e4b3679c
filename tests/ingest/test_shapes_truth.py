"""The films of `shapes`, seen by an oracle that knows nothing but decoded pixels."""

import io
import itertools
import re
from collections import Counter

import av
import numpy as np
import pytest

from pipeline.ingest.shapes.questions import ANSWERS, ask, caption, events
from pipeline.ingest.shapes.render import coverage, render
from pipeline.ingest.shapes.scene import COLOURS, KINDS, draw_film, stream
from schemas.sample import Split

SECOND = 1_000_000_000
HUES = {"red": (-20, 20), "yellow": (35, 70), "green": (100, 155), "cyan": (165, 205), "blue": (212, 255)}
HUES["purple"] = (265, 310)
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
FILMS = range(28)


class Track:
    """One colour through a film: in which frames it is seen, and its box there."""

    def __init__(self, masks, pts_ns):
        self.seen = [i for i, mask in enumerate(masks) if mask.sum() > 80]
        self.first_ns = pts_ns[self.seen[0]] if self.seen else None
        self.boxes = [_box(masks[i]) for i in self.seen]
        self.masks = [masks[i] for i in self.seen]

    @property
    def kind(self):
        y0, y1, x0, x1 = self.boxes[len(self.boxes) // 2]
        shape = self.masks[len(self.masks) // 2][y0:y1, x0:x1]
        top, bottom = shape[: len(shape) // 6].mean(), shape[-(len(shape) // 6) :].mean()
        if shape.mean() > 0.9:
            return "square"
        if bottom > 2 * top:
            return "triangle"
        corner = shape[len(shape) // 6 : len(shape) // 4, len(shape) // 6 : len(shape) // 4]
        return "circle" if corner.mean() > 0.5 else "cross"

    @property
    def direction(self):
        centres = [((x0 + x1) / 2, (y0 + y1) / 2) for y0, y1, x0, x1 in self.boxes]
        dx, dy = np.subtract(centres[-1], centres[0])
        if max(abs(dx), abs(dy)) < 3:
            return "still"
        if abs(dx) > abs(dy):
            return "right" if dx > 0 else "left"
        return "down" if dy > 0 else "up"


def _box(mask):
    ys, xs = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return ys[0], ys[-1] + 1, xs[0], xs[-1] + 1


def watch(data):
    """Frames [frames, height, width, 3] uint8, their times in ns, and a track for each colour seen."""
    with av.open(io.BytesIO(data)) as container:
        frames = list(container.decode(video=0))
    pixels = np.stack([frame.to_ndarray(format="rgb24") for frame in frames])
    pts_ns = [int(frame.pts * frame.time_base * SECOND) for frame in frames]
    vivid = pixels.max(-1) - pixels.min(-1) > 80
    red, green, blue = pixels[vivid].astype(np.float32).T
    hue = np.degrees(np.arctan2(np.sqrt(3) * (green - blue), 2 * red - green - blue))
    tracks = {}
    for colour, (low, high) in HUES.items():
        masks = np.zeros(vivid.shape, bool)
        masks[vivid] = (hue - low) % 360 < high - low
        track = Track(masks, pts_ns)
        if track.seen:
            tracks[colour] = track
    return pixels, pts_ns, tracks


def find(tracks, thing):
    """The track a question speaks of: `object`, `red object` or `circle`."""
    if thing == "object":
        (track,) = tracks.values()
        return track
    colour, _, noun = thing.partition(" ")
    return tracks[colour] if noun else next(t for t in tracks.values() if t.kind == thing)


def answer(tracks, qa):
    """What a viewer would answer, read from the question's words."""
    if qa.topic in ("count", "total"):
        return NUMBERS[len(tracks)]
    if qa.topic == "order":
        ranked = sorted(tracks, key=lambda colour: tracks[colour].first_ns)
        colour = ranked[0 if "first" in qa.question else -1]
        return tracks[colour].kind if "shape" in qa.question else colour
    track = find(tracks, re.search(r"the ((?:\w+ )?object|circle|square|triangle|cross)", qa.question)[1])
    if qa.topic == "when":
        return f"00:{track.first_ns // SECOND:02}"
    if qa.topic == "colour":
        return next(colour for colour in tracks if tracks[colour] is track)
    return track.kind if qa.topic == "shape" else track.direction


@pytest.fixture(scope="module")
def films():
    drawn = [draw_film(stream(7, Split.TRAIN, index, "film")) for index in FILMS]
    return [(film, *watch(render(film))) for film in drawn]


def test_a_viewer_of_the_pixels_gives_every_answer(films):
    topics = Counter()
    for index, (film, _, _, tracks) in zip(FILMS, films, strict=True):
        for qa in ask(film, stream(7, Split.TRAIN, index, "annotations")):
            assert answer(tracks, qa) == qa.answer, (index, qa)
            topics[qa.topic] += 1
    assert set(topics) == set(ANSWERS)  # the oracle was put to each topic


def test_a_shape_appears_within_one_frame_of_its_time_and_goes_as_told(films):
    for film, _, pts_ns, tracks in films:
        assert set(tracks) == {mover.colour for mover in film.movers}
        for mover in film.movers:
            track = tracks[mover.colour]
            assert 0 <= track.first_ns - mover.start_ns < SECOND // film.fps
            assert track.first_ns % SECOND == 0  # a whole second: 0.5 s from where rounding would change it
            after = [t for t in pts_ns if t >= mover.exclusive_end_ns]
            assert len(track.seen) == sum(mover.start_ns <= t < mover.exclusive_end_ns for t in pts_ns)
            assert track.seen[-1] == len(pts_ns) - len(after) - 1


def test_a_film_has_the_rate_and_the_length_it_was_given(films):
    for film, pixels, pts_ns, _ in films:
        assert pixels.shape == (film.fps * film.seconds, 128, 128, 3)
        assert pts_ns == [i * SECOND // film.fps for i in range(film.fps * film.seconds)]
        assert 4 <= film.seconds <= 6
        assert 8 <= film.fps <= 12


def test_a_film_in_turn_never_shows_two_shapes_and_a_film_together_always_shows_all(films):
    for film, pixels, _, tracks in films:
        shown = Counter(itertools.chain.from_iterable(track.seen for track in tracks.values()))
        if film.in_turn:
            assert max(shown.values()) == 1
        else:
            assert {shown[i] for i in range(len(pixels))} == {len(film.movers)}


def test_caption_and_events_name_what_is_seen(films):
    for film, _, _, tracks in films:
        words, told = caption(film).text, events(film)
        assert len(told) == len(tracks)
        for event, (colour, track) in zip(
            told, sorted(tracks.items(), key=lambda kv: _order(kv, told)), strict=True
        ):
            doing = "stands still" if track.direction == "still" else f"moves {track.direction}"
            assert event.text == f"a {colour} {track.kind} {doing}"
            assert event.text in words.lower()
            assert event.start_ns == track.first_ns
            if film.in_turn:
                assert f"At 00:{track.first_ns // SECOND:02} {event.text}." in words


def _order(item, told):
    return next(i for i, event in enumerate(told) if item[0] in event.text.split())


def test_the_background_is_dark_and_grey_as_the_script_says(films):
    for film, pixels, _, _ in films:
        corner = np.median(pixels[:, :2, :2].reshape(-1, 3), axis=0)
        assert np.abs(corner - film.background).max() <= 3
        assert corner.max() < 60


def test_shapes_are_large_and_never_touch():
    for index in range(400):
        film = draw_film(stream(0, Split.TRAIN, index, "film"))
        for second in range(film.seconds * 4):
            t_ns = second * SECOND // 4
            boxes = [(*m.centre(t_ns), m.radius) for m in film.movers if m.shown(t_ns)]
            assert all(r <= x <= 128 - r and r <= y <= 128 - r and r >= 19 for x, y, r in boxes)
            for (x, y, r), (other_x, other_y, other_r) in itertools.combinations(boxes, 2):
                assert max(abs(x - other_x), abs(y - other_y)) >= r + other_r


@pytest.mark.parametrize("kind", KINDS)
def test_a_shape_covers_the_area_that_geometry_gives_it(kind):
    areas = {"circle": np.pi / 4, "square": 0.81, "triangle": 1 / 2, "cross": 2 * 3 / 8 - (3 / 8) ** 2}
    assert coverage(kind, 30).mean() == pytest.approx(areas[kind], abs=0.01)
    assert set(COLOURS) == set(HUES)
