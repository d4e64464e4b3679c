"""A few samples of every stratum, with pictures, for a person to look at."""

import io
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pipeline.audit.report import GalleryItem, ReportFigures
from pipeline.shards.reader import ShardReader
from pipeline.storage.places import Place
from schemas.arrays import Frames
from schemas.ledger import Ledger
from schemas.media import DecodeSpec, Preprocessing
from schemas.sample import Modality, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

PER_STRATUM = 3
"""Samples shown of each stratum: the first of its order, which is a hash, so a fair draw."""

SIDE = 160
"""Pixels of a thumbnail's side."""

COLUMNS = 4
"""Frames side by side: one row of the contact sheet is one of Apollo's clips."""

_THUMBNAIL = Preprocessing(size=SIDE, pad_colour=(24, 24, 27), mean=(0, 0, 0), std=(1, 1, 1))


def make_gallery(
    folder: Place, ledger: Ledger, samples: Mapping[str, Sample], decode: DecodeSpec, roots: dict[str, str]
) -> list[GalleryItem]:
    """The chosen samples as the tars hold them, with contact sheets decoded anew from their media."""
    from pipeline.decode.stage import Decode

    rows = [row for split in ledger.total for row in _first_of_each_stratum(ShardReader(folder, split))]
    stage = Decode(decode.model_copy(update={"max_clips": 3}), {"thumbnail": _THUMBNAIL}, roots)
    try:
        stage.setup()
        shown = stage.process([samples[row.sample.key] for row in rows])
    finally:
        stage.close()
    return [
        GalleryItem(sample=row.sample, thumbnails=tuple(_sheets(frames)) if isinstance(frames, Frames) else ())
        for row, frames in zip(rows, shown, strict=True)
    ]


def make_figures(folder: Place, ledger: Ledger) -> ReportFigures:
    """Durations of the films' spans, and how much older than asked for each stored frame is."""
    durations, errors = [], []
    for split in ledger.total:
        reader = ShardReader(folder, split)
        for position in range(len(reader)):
            sample = reader.read(position, ()).sample
            if sample.modality is Modality.VIDEO:
                medium = sample.media[0]
                durations.append(((medium.exclusive_end_ns or medium.duration_ns) - medium.start_ns) / 1e9)
                errors += [(t - p) / 1e6 for c in sample.clips for t, p in zip(c.t_ns, c.pts_ns, strict=True)]
    return ReportFigures(durations_s=tuple(durations), pts_error_ms=tuple(errors))


def _first_of_each_stratum(reader: ShardReader) -> Iterator[Any]:
    seen: dict[tuple[str, str], int] = {}
    for position in range(len(reader)):
        row = reader.read(position, ())
        stratum = (row.sample.modality, row.sample.source)
        seen[stratum] = seen.get(stratum, 0) + 1
        if seen[stratum] <= PER_STRATUM:
            yield row


def _sheets(frames: Frames) -> Iterator[bytes]:
    """One JPEG a picture, or one for the film: a row of frames a clip."""
    pixels = frames.pixels["thumbnail"]
    if pixels.shape[0] == 0:
        return
    if pixels.shape[1] == 1:
        yield from (_jpeg([clip]) for clip in pixels)
    else:
        yield _jpeg(list(pixels))


def _jpeg(clips: Sequence["NDArray[Any]"]) -> bytes:
    import numpy as np
    from PIL import Image

    rows = [np.concatenate(list(clip[:COLUMNS]), axis=1) for clip in clips]
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows, axis=0)).save(buffer, format="JPEG", quality=82)
    return buffer.getvalue()
