"""What the report's pages show of a mixture: distributions, and a few samples with pictures, for a person."""

import io
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice, zip_longest
from typing import TYPE_CHECKING, Any

from pipeline.audit.report import GalleryItem, ReportFigures
from pipeline.audit.talk_figures import TalkCounter, TalkFigures
from pipeline.shards.reader import ShardReader
from pipeline.storage.places import Place
from schemas.arrays import Frames
from schemas.ledger import Ledger, ShardSample
from schemas.media import DecodeSpec, Preprocessing
from schemas.sample import Modality, Sample

if TYPE_CHECKING:
    from numpy.typing import NDArray

PER_STRATUM = 3
"""Samples shown of each modality and source: the first of the order, which is a hash, so a fair draw."""

MOST_TALKS = 50
"""Talks shown whole: of each kind, modality and source in turn."""
LEAST_TALKS, TALKS_OF = 10, 20
"""A small mixture shows fewer: one in twenty, but ten."""

SIDE = 160
"""Pixels of a thumbnail's side."""

COLUMNS = 4
"""Frames side by side: one row of the contact sheet is one of Apollo's clips."""

_THUMBNAIL = Preprocessing(size=SIDE, pad_colour=(24, 24, 27), mean=(0, 0, 0), std=(1, 1, 1))


@dataclass(frozen=True)
class Shown:
    """What the pages show."""

    gallery: list[GalleryItem]
    talks: list[GalleryItem]
    figures: ReportFigures
    talk_figures: TalkFigures


def look(
    folder: Place, ledger: Ledger, samples: Mapping[str, Sample], decode: DecodeSpec, roots: Mapping[str, str]
) -> Shown:
    """Reads each sample's words once; contact sheets of those that are shown are decoded anew from their media."""
    durations: list[float] = []
    errors: list[float] = []
    counter = TalkCounter()
    by_source: dict[object, list[ShardSample]] = defaultdict(list)
    by_kind: dict[object, list[ShardSample]] = defaultdict(list)
    for sample in _samples(folder, ledger):
        counter.add(sample)
        if sample.modality is Modality.VIDEO:
            durations.append(sample.media[0].span_ns / 1e9)
            errors += [(t - p) / 1e6 for c in sample.clips for t, p in zip(c.t_ns, c.pts_ns, strict=True)]
        _keep(by_source[sample.split, sample.modality, sample.source], sample, PER_STRATUM)
        _keep(by_kind[sample.modality, sample.category, sample.source], sample, MOST_TALKS)
    gallery = list(chain.from_iterable(by_source.values()))
    wanted = min(MOST_TALKS, max(LEAST_TALKS, counter.rounds.total() // TALKS_OF))
    talks = list(islice(_in_turn(by_kind.values()), wanted))
    sheets = _contact_sheets({each.key: each for each in (*gallery, *talks)}, samples, decode, roots)
    return Shown(
        [GalleryItem(sample=each, thumbnails=sheets[each.key]) for each in gallery],
        [GalleryItem(sample=each, thumbnails=sheets[each.key]) for each in talks],
        ReportFigures(durations_s=tuple(durations), pts_error_ms=tuple(errors)),
        counter.figures(),
    )


def _samples(folder: Place, ledger: Ledger) -> Iterator[ShardSample]:
    for split in ledger.total:
        reader = ShardReader(folder, split)
        for position in range(len(reader)):
            yield reader.read(position, ()).sample


def _keep(kept: list[ShardSample], sample: ShardSample, most: int) -> None:
    if len(kept) < most:
        kept.append(sample)


def _in_turn(groups: Iterable[Sequence[ShardSample]]) -> Iterator[ShardSample]:
    """The first of each group, then the second of each, ..."""
    return (each for row in zip_longest(*groups) for each in row if each is not None)


def _contact_sheets(
    shown: Mapping[str, ShardSample], samples: Mapping[str, Sample], decode: DecodeSpec, roots: Mapping[str, str]
) -> dict[str, tuple[bytes, ...]]:
    from pipeline.decode.stage import Decode

    stage = Decode(decode.model_copy(update={"max_clips": 3}), {"thumbnail": _THUMBNAIL}, roots)
    try:
        stage.setup()
        found = stage.process([samples[key] for key in shown])
    finally:
        stage.close()
    return {
        key: tuple(_sheets(frames)) if isinstance(frames, Frames) else ()
        for key, frames in zip(shown, found, strict=True)
    }


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
