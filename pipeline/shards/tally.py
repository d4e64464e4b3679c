"""The writer's count of what it wrote: the other half of the proof is the audit's own count."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from math import fsum

from schemas.arrays import StorageLoss
from schemas.ledger import Count, Origin, ShardSample


def counted(sample: ShardSample, size_bytes: int, tokens_per_frame: int) -> Counter[str]:
    """One sample as a line of an account; `size_bytes` is of all its members."""
    frames = sum(len(clip.t_ns) for clip in sample.clips)
    return Counter(
        samples=1,
        turns=len(sample.conversations),
        llm_tokens=sample.llm_tokens,
        visual_tokens=frames * tokens_per_frame,
        clips=len(sample.clips),
        frames=frames,
        media_ns=sum(medium.span_ns for medium in sample.media),
        bytes=size_bytes,
    )


def encoder_bytes(sizes: Mapping[str, int]) -> Counter[str]:
    """By encoder, of its members: those whose suffix begins with its name; `sizes` are bytes by suffix."""
    found: Counter[str] = Counter()
    for suffix, size in sizes.items():
        encoder, dot, _ = suffix.partition(".")
        found.update({encoder: size} if dot else {})
    return found


def mean_loss(losses: Sequence[tuple[int, StorageLoss]]) -> StorageLoss:
    """Of (clips, loss) the mean over clips, to six digits."""
    clips = sum(weight for weight, _ in losses)
    fields = {
        field: round(fsum(weight * getattr(loss, field) for weight, loss in losses) / clips, 6)
        for field in StorageLoss.model_fields
    }
    return StorageLoss(**fields)


class Tally:
    """Accounts by split, by six traits of a sample and by encoder, and whose work each source is."""

    def __init__(self) -> None:
        self._tables: dict[str, defaultdict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
        self._strata: defaultdict[str, Counter[str]] = defaultdict(Counter)
        self._member_bytes: Counter[str] = Counter()
        self._losses: dict[str, list[tuple[int, StorageLoss]]] = {}
        self._origins: dict[str, tuple[set[str], set[str], set[str]]] = {}

    def add(self, sample: ShardSample, line: Counter[str], sizes: Mapping[str, int]) -> None:
        """Counts one sample under all its labels; `sizes` are bytes by suffix of its members."""
        self._member_bytes.update(sizes)
        labels = {
            "by_modality": sample.modality,
            "by_source": sample.source,
            "by_category": sample.category,
            "by_licence": sample.licence,
            "by_generator": sample.generator.name,
            "by_annotator": sample.annotator.name,
        }
        self._tables["total"][sample.split].update(line)
        for table, label in labels.items():
            self._tables[table][f"{sample.split}/{label}"].update(line)
        for encoder, size_bytes in encoder_bytes(sizes).items():
            shown = line if sample.clips else {}
            self._tables["by_encoder"][f"{sample.split}/{encoder}"].update({**shown, "bytes": size_bytes})
        stratum = f"{sample.split}/{sample.modality}/{sample.source}"
        for label in (stratum, f"{stratum}/{sample.category}"):
            self._strata[label].update(line)
        for name, loss in sample.storage_loss.items():
            self._losses.setdefault(name, []).append((len(sample.clips), loss))
        whose = (sample.licence, sample.annotator.name, sample.generator.name)
        for names, name in zip(self._origins.setdefault(sample.source, (set(), set(), set())), whose, strict=True):
            names.add(name)

    def found(self, stratum: str) -> Count:
        """What a stratum holds, by its label, with a category or without."""
        return Count(**self._strata[stratum])

    def tables(self) -> dict[str, dict[str, Count]]:
        """The ledger's tables, by field name; labels sorted."""
        return {
            table: {label: Count(**lines[label]) for label in sorted(lines)}
            for table, lines in self._tables.items()
        }

    def member_bytes(self) -> dict[str, int]:
        """By suffix, in the members' order."""
        return dict(self._member_bytes)

    def storage_loss(self) -> dict[str, StorageLoss]:
        """By encoder, the mean over clips, to six digits."""
        return {name: mean_loss(losses) for name, losses in self._losses.items()}

    def origins(self) -> dict[str, Origin]:
        """By source."""
        return {
            source: Origin(
                licences=tuple(sorted(licences)),
                annotators=tuple(sorted(annotators)),
                generators=tuple(sorted(generators)),
            )
            for source, (licences, annotators, generators) in sorted(self._origins.items())
        }
