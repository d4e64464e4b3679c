"""AV1: the frames that those asked for refer to, read from the headers. Pure.

libdav1d cannot leave out frames packet by packet as libavcodec's own decoders do. Here the packets of
a GOP are cut down before they are sent, to the closure of the references of the frames asked for.

Section numbers are those of the AV1 Bitstream & Decoding Process Specification.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

_SEQUENCE_HEADER, _FRAME_HEADER, _TILE_GROUP, _FRAME, _REDUNDANT_FRAME_HEADER, _TILE_LIST = 1, 3, 4, 6, 7, 8
"""Types of OBUs (6.2.2)."""

_KEY, _INTER, _INTRA_ONLY, _SWITCH = range(4)
"""Types of frames (6.8.2)."""

_SLOTS = 8
_ALL_SLOTS = 0xFF
_REFERENCES = 7
_CHOSEN_BY_FRAME = 2
"""Value of a sequence's flag that each frame may set for itself."""

_HEADER_BYTES = 64
"""A frame header needs at most 48 bytes up to its references."""


class _CannotTell(Exception):  # noqa: N818 - no fault: such a GOP is sent whole
    """The headers are damaged, or of a rare kind that is not followed here."""


def prune(
    packets: Sequence[memoryview], targets: Collection[int], sequence_header: bytes
) -> list[memoryview | bytes | None] | None:
    """What to send of one GOP, so that the frames that `targets` show come out as from the whole GOP.

    Args:
        packets: Temporal units from the keyframe's up to the last target's, in order.
        targets: Indices of the packets whose shown frame is asked for.
        sequence_header: The OBUs in the container's header; empty where it holds none.

    Returns for each packet: itself where all of its frames are needed, what is left of it where some are,
    None where none is; the keyframe is always sent. None for all where the headers do not tell.
    """
    try:
        units = _temporal_units(packets, sequence_header)
        needed = _closure([unit.frames for unit in units], targets)
    except _CannotTell:
        return None
    return [
        unit.cut(packet, frames) if frames else None
        for unit, packet, frames in zip(units, packets, needed, strict=True)
    ]


# Which frames are needed.


@dataclass(frozen=True, slots=True)
class _Frame:
    """What a frame's header says.

    Attributes:
        kind: `_KEY` and so on; of a frame shown again, unknown: None.
        shown: It is put out.
        refresh: Bit i is set where the frame is kept in slot i; 0 for a frame shown again.
        references: The slots that it refers to; of a frame shown again, its own.
    """

    kind: int | None
    shown: bool
    refresh: int
    references: tuple[int, ...]


def _closure(units: Sequence[Sequence[_Frame]], targets: Collection[int]) -> list[set[int]]:
    """For each temporal unit the places of the frames in it that the shown frames of `targets` need."""
    places = [(number, place) for number, frames in enumerate(units) for place in range(len(frames))]
    needed: list[set[int]] = [set() for _ in units]
    for (number, place), references in reversed(list(zip(places, _references(units), strict=True))):
        # The frame shown is a unit's last.
        if (number in targets and place == len(units[number]) - 1) or number == 0:
            needed[number].add(place)
        if place in needed[number]:
            for other in references:
                needed[places[other][0]].add(places[other][1])
    return needed


def _references(units: Sequence[Sequence[_Frame]]) -> Iterator[set[int]]:
    """For each frame, counted through all units, the frames that it refers to: what its slots hold then (7.20)."""
    frames = [frame for unit in units for frame in unit]
    if not frames or frames[0].kind != _KEY or not frames[0].shown:
        raise _CannotTell
    slots, kinds = [0] * _SLOTS, [frame.kind for frame in frames]
    for number, frame in enumerate(frames):
        references = {slots[slot] for slot in frame.references}
        yield references if number else set()
        refresh = frame.refresh
        if frame.kind is None:  # shown again; a key frame then takes all slots (7.21)
            kinds[number] = kinds[slots[frame.references[0]]]
            refresh = _ALL_SLOTS if kinds[number] == _KEY else 0
        slots = [number if refresh >> slot & 1 else held for slot, held in enumerate(slots)]


# Packets.


@dataclass(frozen=True, slots=True)
class _Obu:
    """An open bitstream unit: its bytes lie at [start, end) of its packet, and its payload from `payload` on."""

    kind: int
    start: int
    payload: int
    end: int


@dataclass(frozen=True, slots=True)
class _Unit:
    """One temporal unit.

    Attributes:
        frames: In the order of decoding.
        pieces: (start, exclusive end, place of the frame) of each OBU; -1 where it belongs to no frame.
    """

    frames: tuple[_Frame, ...]
    pieces: tuple[tuple[int, int, int], ...]

    def cut(self, packet: memoryview, frames: Collection[int]) -> memoryview | bytes:
        """The packet without the OBUs of frames other than these."""
        if len(frames) == len(self.frames):
            return packet
        return b"".join(packet[start:end] for start, end, frame in self.pieces if frame < 0 or frame in frames)


def _temporal_units(packets: Sequence[memoryview], sequence_header: bytes) -> list[_Unit]:
    header = memoryview(sequence_header)
    told = next((header[obu.payload : obu.end] for obu in _obus(header) if obu.kind == _SEQUENCE_HEADER), None)
    # One in the stream itself counts more than the container's.
    own = [
        packet[obu.payload : obu.end]
        for packet in packets[:1]
        for obu in _obus(packet)
        if obu.kind == _SEQUENCE_HEADER
    ]
    told = own[0] if own else told
    if told is None:
        raise _CannotTell
    sequence = _sequence(_Bits(told))
    return [_temporal_unit(packet, told, sequence) for packet in packets]


def _temporal_unit(packet: memoryview, told: memoryview, sequence: "_Sequence") -> _Unit:
    frames: list[_Frame] = []
    pieces = []
    for obu in _obus(packet):
        frame = -1
        if obu.kind in (_FRAME, _FRAME_HEADER):
            frames.append(_frame(_Bits(packet[obu.payload : min(obu.end, obu.payload + _HEADER_BYTES)]), sequence))
        if obu.kind in (_FRAME, _FRAME_HEADER, _TILE_GROUP, _REDUNDANT_FRAME_HEADER):
            frame = len(frames) - 1
        changed = obu.kind == _SEQUENCE_HEADER and packet[obu.payload : obu.end] != told
        if changed or obu.kind == _TILE_LIST or (frame < 0 and obu.kind in (_TILE_GROUP, _REDUNDANT_FRAME_HEADER)):
            raise _CannotTell
        pieces.append((obu.start, obu.end, frame))
    if [frame.shown for frame in frames].count(True) != 1 or not frames[-1].shown:
        raise _CannotTell
    return _Unit(tuple(frames), tuple(pieces))


def _obus(data: memoryview) -> Iterator[_Obu]:
    """The OBUs (5.3); only the last may come without its size. Raises _CannotTell."""
    start = 0
    while start < len(data):
        first = data[start]
        extended, sized = first >> 2 & 1, first >> 1 & 1
        payload, end = start + 1 + extended, len(data)
        # Bit 7 must be 0. Bits 3 and 4 of the extension number the spatial layer.
        if first & 0x80 or payload > end or (extended and data[start + 1] & 0x18):
            raise _CannotTell
        if sized:
            size, payload = _leb128(data, payload)
            end = payload + size
        if end > len(data):
            raise _CannotTell
        yield _Obu(first >> 3 & 0xF, start, payload, end)
        start = end


def _leb128(data: memoryview, at: int) -> tuple[int, int]:
    """The number at `at` (4.10.5), and where it ends."""
    value = 0
    for place in range(8):
        if at + place == len(data):
            raise _CannotTell
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    raise _CannotTell


# Headers.


class _Bits:
    """Reads bits, the highest first. Raises _CannotTell at the end."""

    __slots__ = ("_left", "_value")

    def __init__(self, data: memoryview) -> None:
        self._value = int.from_bytes(data, "big")
        self._left = 8 * len(data)

    def read(self, bits: int) -> int:
        self._left -= bits
        if self._left < 0:
            raise _CannotTell
        return self._value >> self._left & (1 << bits) - 1

    def read_uvlc(self) -> int:
        zeros = 0
        while not self.read(1):
            zeros += 1
        if zeros > 31:
            raise _CannotTell
        return self.read(zeros) + (1 << zeros) - 1


@dataclass(frozen=True, slots=True)
class _Sequence:
    """What frame headers need of their sequence's; lengths in bits, 0 for a field that is absent.

    Attributes:
        model: Frames may tell when they leave the decoder's buffer.
        presentation_time: Length of the time at which a frame is shown.
        removal_time: Length of the time at which a frame leaves the buffer.
        frame_id: Length of a frame's number.
        delta_frame_id: Length of the difference to a reference's number.
        order_hint: Length of a frame's place in the order of presentation.
        screen_content, integer_mv: 0 or 1 for all frames, or `_CHOSEN_BY_FRAME`.
    """

    model: bool
    presentation_time: int
    removal_time: int
    frame_id: int
    delta_frame_id: int
    order_hint: int
    screen_content: int
    integer_mv: int


def _sequence(bits: _Bits) -> _Sequence:
    """Reads a sequence header (5.5.1). Raises _CannotTell for a still picture, or one of several layers."""
    read = bits.read
    read(4)  # seq_profile, still_picture
    if read(1):  # reduced_still_picture_header
        raise _CannotTell
    model, delay, removal_time, presentation_time = _timing(bits)
    has_display_delay = read(1)
    if read(5) or read(12):  # operating_points_cnt_minus_1, operating_point_idc
        raise _CannotTell
    if read(5) > 7:  # seq_level_idx
        read(1)
    has_removal_time = model and read(1)  # decoder_model_present_for_this_op
    if has_removal_time:
        read(2 * delay + 1)
    if has_display_delay and read(1):
        read(4)
    width, height = read(4) + 1, read(4) + 1
    read(width + height)
    frame_id = delta_frame_id = 0
    if read(1):  # frame_id_numbers_present_flag
        delta_frame_id = read(4) + 2
        frame_id = delta_frame_id + read(3) + 1
    read(7)  # from use_128x128_superblock to enable_dual_filter
    has_order_hint = read(1)
    if has_order_hint:
        read(2)
    screen_content = _CHOSEN_BY_FRAME if read(1) else read(1)
    integer_mv = _CHOSEN_BY_FRAME if not screen_content or read(1) else read(1)
    return _Sequence(
        model=bool(model),
        presentation_time=presentation_time,
        removal_time=removal_time if has_removal_time else 0,
        frame_id=frame_id,
        delta_frame_id=delta_frame_id,
        order_hint=read(3) + 1 if has_order_hint else 0,
        screen_content=screen_content,
        integer_mv=integer_mv,
    )


def _timing(bits: _Bits) -> tuple[bool, int, int, int]:
    """Whether there is a decoder model (5.5.3, 5.5.4); lengths of buffer delay, removal and presentation time."""
    read = bits.read
    if not read(1):
        return False, 0, 0, 0
    read(64)
    equal_picture_interval = read(1)
    if equal_picture_interval:
        bits.read_uvlc()
    if not read(1):
        return False, 0, 0, 0
    delay = read(5) + 1
    read(32)
    removal_time, presentation_time = read(5) + 1, read(5) + 1
    return True, delay, removal_time, 0 if equal_picture_interval else presentation_time


def _frame(bits: _Bits, sequence: _Sequence) -> _Frame:
    """Reads a frame header up to its references (5.9.2)."""
    read = bits.read
    if read(1):  # show_existing_frame
        return _Frame(None, shown=True, refresh=0, references=(read(3),))
    kind, shown = read(2), bool(read(1))
    if shown:
        read(sequence.presentation_time)
    else:
        read(1)  # showable_frame
    intra = kind in (_KEY, _INTRA_ONLY)
    clean = kind == _SWITCH or (kind == _KEY and shown)
    error_resilient = clean or read(1)
    read(1)  # disable_cdf_update
    screen_content = read(1) if sequence.screen_content == _CHOSEN_BY_FRAME else sequence.screen_content
    if screen_content and sequence.integer_mv == _CHOSEN_BY_FRAME:
        read(1)
    read(sequence.frame_id)
    if kind != _SWITCH:
        read(1)  # frame_size_override_flag
    read(sequence.order_hint)
    if not (intra or error_resilient):
        read(3)  # primary_ref_frame: one of the references
    if sequence.model and read(1):
        read(sequence.removal_time)
    refresh = _ALL_SLOTS if clean else read(8)
    if error_resilient and not (intra and refresh == _ALL_SLOTS):
        read(_SLOTS * sequence.order_hint)
    return _Frame(kind, shown, refresh, () if intra else _inter_references(bits, sequence))


def _inter_references(bits: _Bits, sequence: _Sequence) -> tuple[int, ...]:
    if sequence.order_hint and bits.read(1):  # frame_refs_short_signaling: all slots count
        raise _CannotTell
    return tuple(bits.read(3 + sequence.delta_frame_id) >> sequence.delta_frame_id for _ in range(_REFERENCES))
