"""The audit's own count, made from nothing but what the tars hold."""

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from pipeline.audit.repeats import row
from schemas.arrays import StorageLoss
from schemas.base import Sha256, digest
from schemas.ledger import Count, Origin, ShardSample
from schemas.sample import Modality, Split
from schemas.units import Unit

TRAITS = ("total", "by_modality", "by_source", "by_category", "by_licence", "by_generator", "by_annotator")
"""Tables in which a sample counts under one label."""
TABLES = (*TRAITS, "by_encoder")
"""Fields of the ledger that are counts by label."""
MILLION = 1_000_000
_INDEX = {modality: index for index, modality in enumerate(Modality)}


@dataclass
class TarFound:
    """One tar as found on disk."""

    name: str
    sha256: Sha256
    size_bytes: int


@dataclass
class ShardFound(TarFound):
    """One tar of the samples themselves."""

    count: Counter[str]
    modalities: Counter[Modality]


@dataclass
class Recount:
    """Sums over all samples that could be read, and what is needed to compare them with each other."""

    tokens_per_frame: int = 16
    """Visual tokens that a frame is counted as."""
    unit: Unit = Unit.SAMPLES
    """What `measures` count."""
    tables: dict[str, dict[str, Counter[str]]] = field(default_factory=lambda: {t: {} for t in TABLES})
    strata: Counter[str] = field(default_factory=Counter)
    """Samples by `split/modality/source/category`."""
    measures: Counter[str] = field(default_factory=Counter)
    """What the samples of a stratum come to in `unit` (seconds in ns), by the same labels."""
    largest: dict[str, int] = field(default_factory=dict)
    """What its largest sample comes to, likewise."""
    shards: list[ShardFound] = field(default_factory=list)
    columns: dict[str, list[TarFound]] = field(default_factory=dict)
    """Tars by encoder."""
    losses: dict[str, Counter[str]] = field(default_factory=dict)
    """By encoder: `clips`, and `cosine` and `relative_error` times clips, in whole millionths, as samples tell."""
    member_bytes: Counter[str] = field(default_factory=Counter)
    """By suffix, columns included."""
    order: dict[Split, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    """One byte a sample, in the order of the tars: the place of its modality in `Modality`."""
    contents: dict[Split, bytearray] = field(default_factory=lambda: defaultdict(bytearray))
    """A row of `repeats.ROW` a sample, in the order of the tars: what tells equal samples."""
    keys: dict[str, str] = field(default_factory=dict)
    """First shard by key, as member names have it."""
    media: dict[Split, dict[Sha256, str]] = field(default_factory=lambda: defaultdict(dict))
    """Key of a sample by the digest of its medium."""
    unnamed: dict[str, str] = field(default_factory=dict)
    """A medium's path by the key of the sample that names no digest of it."""
    _origins: dict[str, list[set[str]]] = field(default_factory=dict)

    def add(self, sample: ShardSample, sizes: Mapping[str, int]) -> dict[str, int]:
        """Takes in one sample, of members of these bytes by suffix; returns its line of the account."""
        line = _line(sample, sum(sizes.values()), self.tokens_per_frame)
        split = sample.split
        for table, label in zip(TRAITS, _labels(sample), strict=True):
            self._count(table, label, line)
        self.add_encoded(sample, sizes)
        stratum, measure = f"{split}/{sample.modality}/{sample.source}/{sample.category}", line[self.unit.field]
        self.strata[stratum] += 1
        self.measures[stratum] += measure
        self.largest[stratum] = max(measure, self.largest.get(stratum, 0))
        self.order[split].append(_INDEX[sample.modality])
        self.contents[split].extend(row(sample))
        for medium in sample.media:
            if medium.sha256:
                self.media[split].setdefault(medium.sha256, sample.key)
            else:
                self.unnamed[sample.key] = medium.path
        self.add_losses(len(sample.clips), sample.storage_loss)
        names = self._origins.setdefault(sample.source, [set(), set(), set()])
        for known, name in zip(names, (sample.licence, sample.annotator.name, sample.generator.name), strict=True):
            known.add(name)
        return line

    def add_encoded(self, sample: ShardSample, sizes: Mapping[str, int]) -> None:
        """Counts the members of encoders, which are named after these: in the sample's own tar, or a column's."""
        by_encoder: dict[str, int] = {}
        for suffix, size in sizes.items():
            encoder, dot, _ = suffix.partition(".")
            if dot:
                by_encoder[encoder] = by_encoder.get(encoder, 0) + size
        line = _line(sample, 0, self.tokens_per_frame) if sample.clips else {}
        for encoder, size_bytes in by_encoder.items():
            self._count("by_encoder", f"{sample.split}/{encoder}", {**line, "bytes": size_bytes})

    def _count(self, table: str, label: str, line: Mapping[str, int]) -> None:
        """A `Counter.update` a table would take longer than to parse the sample."""
        counted = self.tables[table].setdefault(label, Counter())
        for field_, number in line.items():
            counted[field_] += number

    def add_losses(self, clips: int, losses: Mapping[str, StorageLoss]) -> None:
        """Takes in what storing the features of one sample lost, by encoder."""
        for encoder, loss in losses.items():
            told = {name: clips * round(value * MILLION) for name, value in loss.model_dump().items()}
            self.losses.setdefault(encoder, Counter()).update(clips=clips, **told)

    def storage_loss(self) -> dict[str, dict[str, float]]:
        """By encoder, the mean over clips."""
        return {
            encoder: {name: sums[name] / (MILLION * sums["clips"]) for name in StorageLoss.model_fields}
            for encoder, sums in self.losses.items()
        }

    def merge(self, later: "Recount") -> None:
        """Takes in the count of tars that come behind this one's, as if they had been counted here."""
        for table, lines in later.tables.items():
            for label, line in lines.items():
                self.tables[table].setdefault(label, Counter()).update(line)
        self.strata.update(later.strata)
        self.measures.update(later.measures)
        for stratum, measure in later.largest.items():
            self.largest[stratum] = max(measure, self.largest.get(stratum, 0))
        self.shards.extend(later.shards)
        for encoder, tars in later.columns.items():
            self.columns.setdefault(encoder, []).extend(tars)
        self.member_bytes.update(later.member_bytes)
        for encoder, losses in later.losses.items():
            self.losses.setdefault(encoder, Counter()).update(losses)
        for split, order in later.order.items():
            self.order[split].extend(order)
        for split, contents in later.contents.items():
            self.contents[split].extend(contents)
        _fill(self.keys, later.keys)
        for split, media in later.media.items():
            _fill(self.media[split], media)
        self.unnamed.update(later.unnamed)
        for source, names in later._origins.items():
            known = self._origins.setdefault(source, [set(), set(), set()])
            for mine, theirs in zip(known, names, strict=True):
                mine |= theirs

    def counts(self, table: str) -> dict[str, Count]:
        """One table in the ledger's form."""
        return {label: Count(**line) for label, line in sorted(self.tables[table].items())}

    def origins(self) -> dict[str, Origin]:
        """Whose work each source is, in the ledger's form."""
        return {
            source: Origin(
                licences=tuple(sorted(names[0])),
                annotators=tuple(sorted(names[1])),
                generators=tuple(sorted(names[2])),
            )
            for source, names in self._origins.items()
        }

    def modalities(self, split: Split) -> Counter[Modality]:
        """Samples of the split by modality."""
        return Counter({m: self.order.get(split, b"").count(index) for index, m in enumerate(Modality)})

    def root_sha256(self) -> Sha256:
        """Of the shards found, in the order of splits and numbers, then of the columns."""
        columns = [tar.sha256 for tars in self.columns.values() for tar in tars]
        return digest([shard.sha256 for shard in self.shards] + columns)


def _fill(first: dict[str, str], later: dict[str, str]) -> None:
    for key, value in later.items():
        first.setdefault(key, value)


def _line(sample: ShardSample, size_bytes: int, tokens_per_frame: int) -> dict[str, int]:
    frames = sum(len(clip.pts_ns) for clip in sample.clips)
    spans = [(m.exclusive_end_ns if m.exclusive_end_ns else m.duration_ns) - m.start_ns for m in sample.media]
    media_ns = sum(span for span in spans if span > 0)
    turns, clips = len(sample.conversations), len(sample.clips)
    return {
        "samples": 1,
        "turns": turns,
        "llm_tokens": sample.llm_tokens,
        "visual_tokens": tokens_per_frame * frames,
        "clips": clips,
        "frames": frames,
        "media_ns": media_ns,
        "bytes": size_bytes,
    }


def _labels(sample: ShardSample) -> tuple[str, ...]:
    """In the order of TRAITS."""
    traits = (
        sample.modality,
        sample.source,
        sample.category,
        sample.licence,
        sample.generator.name,
        sample.annotator.name,
    )
    return (sample.split.value, *(f"{sample.split}/{trait}" for trait in traits))
