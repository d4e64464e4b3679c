"""Laws of `Decoder`: damage is told of each frame that it may have reached, and of no other."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.decode.decoder import Decoder

GOP = [(3, "P"), (1, "b"), (2, "b"), (6, "P"), (4, "b"), (5, "b")]
"""(place in the order of presentation, kind) behind a keyframe at 0, in the order of decoding."""


class Context:
    """A decoder with the reordering of one B-pyramid level: a frame comes out when no earlier one can follow."""

    def __init__(self, corrupt=(), refused=(), keys=None):
        self.codec = SimpleNamespace(intra_only=False, name="two layers")
        self.skip_frame, self._inside = "DEFAULT", {}
        self._corrupt, self._refused, self._keys = corrupt, refused, keys

    def decode(self, packet):
        from av.error import InvalidDataError

        if packet is None:
            out, self._inside = sorted(self._inside.values(), key=lambda f: f.pts), {}
            return out
        if packet.pts in self._refused:
            raise InvalidDataError(-1, "refused")
        if self.skip_frame == "NONREF" and packet.kind == "b":
            return []
        key = packet.is_keyframe if self._keys is None else packet.pts in self._keys
        frame = SimpleNamespace(pts=packet.pts, dts=None, is_corrupt=packet.pts in self._corrupt, key_frame=key)
        self._inside[packet.pts] = frame
        ready = [pts for pts in sorted(self._inside) if pts < packet.pts + (packet.kind == "b")]
        return [self._inside.pop(pts) for pts in ready]

    def flush_buffers(self):
        self._inside = {}


def packets(gops, leading=0):
    """Packets in the order of decoding; from the second GOP on, `leading` frames are shown before the keyframe."""
    found = []
    for number in range(gops):
        begins = 10 * number
        found.append(SimpleNamespace(pts=begins, kind="I", is_keyframe=True, is_corrupt=False))
        ahead = [(-1 - k, "b") for k in range(leading)][::-1] if number else []
        found += [
            SimpleNamespace(pts=begins + place, kind=kind, is_keyframe=False, is_corrupt=False)
            for place, kind in (*ahead, *GOP)
        ]
    return found


def reached(film, marked):
    """pts of the frames that damage at the packets `marked` may reach, by the definition."""
    keys = [at for at, packet in enumerate(film) if packet.is_keyframe]
    found = set()
    for at, packet in enumerate(film):
        own = max(key for key in keys if key <= at)
        ahead = packet.pts < film[own].pts  # a leading picture leans on the GOP before as well
        since = max([key for key in keys if key < own], default=own) if ahead else own
        for mark in marked:
            mark_own = max(key for key in keys if key <= mark)
            leads = film[mark].pts < film[mark_own].pts
            if since <= mark <= at and (ahead or not leads):
                found.add(packet.pts)
    return found


def run(context, film, wanted=lambda packet: True):
    decoder = Decoder(SimpleNamespace(codec_context=context), by_dts=False)
    out = [d for packet in film for d in decoder.send(packet, packet.pts, wanted=wanted(packet))]
    return decoder, out + list(decoder.drain())


@given(leading=st.integers(0, 2), marks=st.sets(st.integers(0, 20), max_size=3), how=st.sampled_from("cpr"))
def test_damage_reaches_what_is_decoded_behind_it_up_to_the_next_keyframe(leading, marks, how):
    film = packets(3, leading)
    marks = {mark for mark in marks if mark < len(film)}
    told = {film[mark].pts for mark in marks}
    for mark in marks if how == "p" else ():
        film[mark].is_corrupt = True
    decoder, out = run(Context(told if how == "c" else (), told if how == "r" else ()), film)
    lost = told if how == "r" else set()
    assert [d.pts for d in out] == sorted({packet.pts for packet in film} - lost)
    assert {d.pts for d in out if d.tainted} == reached(film, marks) - lost
    trailing = {mark for mark in marks if film[mark].pts % 10 < 7}
    assert decoder.damaged == bool(trailing)


def test_a_b_frame_is_told_of_damage_in_the_later_frame_that_it_leans_on():
    _, out = run(Context(corrupt={3}), packets(1))
    assert [d.tainted for d in out] == [False, True, True, True, True, True, True]


def test_frames_that_nobody_wants_are_left_to_the_decoder_to_skip():
    decoder, out = run(Context(), packets(1), wanted=lambda packet: packet.pts == 4)
    assert [d.pts for d in out] == [0, 3, 4, 6]
    assert decoder.count == 4


@pytest.mark.parametrize(("keys", "false"), [({0, 10}, False), ({0}, True)])
def test_a_keyframe_in_name_only_is_noticed(keys, false):
    decoder, _ = run(Context(keys=keys), packets(2))
    assert decoder.false_keyframe is false
