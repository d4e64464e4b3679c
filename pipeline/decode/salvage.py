"""Salvage: a film of several recordings put end to end, given one clock.

`cat a.ts b.ts`, or a recorder that started anew, leaves a stream whose times jump back where a part begins.
Players take that in their stride; `Film` refuses it (BAD_TIMESTAMPS). The ffmpeg program has libav's
only cure: it moves each part behind the one before, and copies the packets, none decoded, to Matroska.

What was tried of it on damaged films of each container (H.264, HEVC, MPEG-2, MPEG-4, VP9):

| damage | copied by ffmpeg |
|---|---|
| MPEG-TS, MPEG-PS: times jump back | mended: all frames, evenly spaced |
| the same in FLV | not mended: ffmpeg corrects jumps only where the format foresees them |
| MPEG-TS: packets without times | refused: Matroska needs them; `dts2pts` invents wrong ones for B-frames |
| MPEG-TS: lost or broken packets | worse: libav's mark of them is lost, and with it the only sign of some damage |
| Matroska, fragmented MP4, AVI, FLV: cut off, or no index | no gain: libav reads what is left of it itself |
| MP4: broken samples | no gain: they are copied |
| H.264 in AVI | worse: decode times become presentation times |
| MP4 without `moov` | lost: where its frames lie stood there |

So only jumps are mended, and a film with damaged packets elsewhere is refused. Nor is anything encoded anew:
a decoder conceals damage and an encoder would make that a good frame. `+discardcorrupt` is not used: what
follows a dropped frame refers to it, and is decoded wrong without a mark; `+igndts` makes times worse.
"""

import os
import resource
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from io import BufferedReader
from typing import IO, TYPE_CHECKING

from pipeline.decode.container import DEMUXERS, libav_errors, open_container, video_stream
from pipeline.decode.media import BadMedia
from pipeline.decode.packets import TIMES_MAY_JUMP
from pipeline.runtime.isolated import die_with_parent
from schemas.media import DecodeSpec
from schemas.rejection import Reason

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.stream import VideoStream

_JOINT_PACKETS = 2
"""A part's last packet has no end of its own, so libav marks it, or its neighbour, as corrupt."""
_NEVER_S = 10**9
"""A jump forward may be a gap in time, which stays one; ffmpeg would close those above 10 s."""
_SPARE_BYTES = 1 << 20
_TAIL_BYTES = 400


@contextmanager
def repaired(file: BufferedReader, spec: DecodeSpec) -> Iterator[BufferedReader]:
    """A mended copy of the film in `file`, as Matroska in a nameless file that vanishes with its descriptors.

    Raises BadMedia: BAD_TIMESTAMPS where there is nothing that this mends, DAMAGED where a copy would hide
    damage, DECODE_TIMEOUT, DECODE_ERROR, and as `open_container`.
    """
    stream = _mendable_stream(file)
    with tempfile.TemporaryFile() as copy:
        _remux(file, stream, copy, spec)
        with open(f"/proc/self/fd/{copy.fileno()}", "rb") as mended:  # noqa: PTH123 - it has no path
            yield mended


def _mendable_stream(file: BufferedReader) -> int:
    """Index of the video stream. Raises BadMedia where a copy would be no better."""
    with open_container(file) as container:
        if container.format.name not in TIMES_MAY_JUMP:
            raise BadMedia(
                Reason.BAD_TIMESTAMPS,
                f"a repair is known for {' and '.join(TIMES_MAY_JUMP)}, not for {container.format.name}: "
                "transcode it",
            )
        stream = video_stream(container)
        index, (joints, marked) = stream.index, _joints_and_marks(container, stream)
    if not joints:
        raise BadMedia(Reason.BAD_TIMESTAMPS, "its times do not jump back, so no repair is known: transcode it")
    damaged = [n for n in marked if not any(n <= joint <= n + _JOINT_PACKETS for joint in joints)]
    if damaged:
        raise BadMedia(
            Reason.DAMAGED,
            f"a repaired copy would hide {len(damaged)} damaged packets, the first of them packet {damaged[0]}: "
            "fetch the file again",
        )
    return index


def _joints_and_marks(container: "InputContainer", stream: "VideoStream") -> tuple[list[int], list[int]]:
    """Numbers of the packets whose decode time lies before the last one's, and of those marked as corrupt."""
    joints, marked = [], []
    last: int | None = None
    with libav_errors("cannot read the packets"):
        for number, packet in enumerate(container.demux(stream)):
            if packet.is_corrupt:
                marked.append(number)
            if packet.dts is not None:
                if last is not None and packet.dts < last:
                    joints.append(number)
                last = packet.dts
    return joints, marked


def _remux(file: BufferedReader, stream: int, copy: IO[bytes], spec: DecodeSpec) -> None:
    # Opened anew, for a place in the file of its own: `file` is read on by its owner.
    source = os.open(f"/proc/self/fd/{file.fileno()}", os.O_RDONLY | os.O_CLOEXEC)
    limit = os.fstat(source).st_size + _SPARE_BYTES
    try:
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(  # noqa: S603 - the packaged program; nothing of the file is in its arguments
                _command(source, stream, copy.fileno()), check=False, stdin=subprocess.DEVNULL,
                stdout=said, stderr=said, pass_fds=(source, copy.fileno()), timeout=spec.deadline_s,
                preexec_fn=partial(_confine, os.getpid(), limit),
            )  # fmt: skip
            words = _tail(said)
    except subprocess.TimeoutExpired:
        raise BadMedia(Reason.DECODE_TIMEOUT, f"ffmpeg copied for {spec.deadline_s:g} s and was killed") from None
    finally:
        os.close(source)
    if done.returncode:
        raise BadMedia(Reason.DECODE_ERROR, f"ffmpeg ended with {done.returncode}: {words}")


def _command(source: int, stream: int, copy: int) -> list[str]:
    """Both files are descriptors, and `fd` the only protocol: whatever the film names, nothing else is opened."""
    import ffmpeg
    from imageio_ffmpeg import get_ffmpeg_exe

    film = ffmpeg.input(
        "fd:",
        fd=source,
        protocol_whitelist="fd",
        format_whitelist=",".join(DEMUXERS),
        fflags="+genpts",
        err_detect="ignore_err",
        dts_delta_threshold=_NEVER_S,
    )[str(stream)]  # fmt: skip
    mended = film.output("fd:", fd=copy, format="matroska", codec="copy", map_metadata=-1, fflags="+bitexact")
    quiet = mended.global_args("-nostdin", "-loglevel", "error")
    command: list[str] = quiet.compile(cmd=get_ffmpeg_exe(), overwrite_output=True)
    return command


def _confine(parent: int, max_bytes: int) -> None:
    """In the new process, whose memory limit is this one's: it dies with us, and bounds what it writes."""
    die_with_parent(parent)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_bytes, max_bytes))


def _tail(output: IO[bytes]) -> str:
    size = output.seek(0, os.SEEK_END)
    output.seek(max(0, size - _TAIL_BYTES))
    return output.read().decode(errors="replace").strip()
