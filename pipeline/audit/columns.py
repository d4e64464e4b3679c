"""A column's tar, held against the shard whose samples it must have: same keys, same order, same frames."""

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import zip_longest

from pydantic import ValidationError

from pipeline.audit.findings import Code, FindingLog
from pipeline.audit.recount import TarFound
from pipeline.audit.sample_checks import COLUMN_CHECKS, open_members
from pipeline.audit.scan import ShardScan, TarSample
from pipeline.storage.places import Place
from schemas.arrays import EncoderProvenance, StorageLoss
from schemas.base import digest
from schemas.ledger import ColumnSample, Ledger, ShardSample


class ColumnAudit:
    """The audit of one column, tar by tar."""

    def __init__(self, folder: Place, ledger: Ledger, encoder: str, log: FindingLog, quick: bool = False) -> None:
        self._folder, self._ledger, self._log, self._quick = folder, ledger, log, quick
        self._name = encoder
        self._provenance = next((e for e in ledger.encoders if e.name == encoder), None)
        self.member_bytes: Counter[str] = Counter()
        """By suffix."""
        self.samples: list[tuple[ShardSample, dict[str, int], dict[str, StorageLoss]]] = []
        """What the shard tells of each sample, and what its members here do: bytes by suffix, and loss."""

    def tar(self, shard: str, keys: Sequence[str], records: dict[str, ShardSample]) -> TarFound | None:
        """Reads the tar beside `shard`, which has samples of `keys`; `records` are the sound ones. None if away."""
        name = f"{shard.removesuffix('.tar')}.{self._name}.tar"
        if not (self._folder / name).is_file():
            self._log.add(Code.COLUMN_MISALIGNED, f"the column has no tar beside {shard}", name)
            return None
        scan = ShardScan(self._folder, name, self._log, self._quick)
        try:
            for number, (key, found) in enumerate(zip_longest(keys, scan)):
                if found is None or found.key != key:
                    held = found.key if found else "nothing"
                    self._log.add(
                        Code.COLUMN_MISALIGNED,
                        f"sample {number} is {held}, in {shard} it is {key}",
                        name,
                        key or "",
                    )
                if found is not None:
                    self._sample(found, records.get(found.key))
        except OSError as error:
            self._log.add(Code.TAR_DAMAGED, f"cannot be read: {error}", name)
        return TarFound(name, scan.sha256, scan.size_bytes)

    def _sample(self, found: TarSample, record: ShardSample | None) -> None:
        self.member_bytes.update(found.sizes)
        for code, message in self._defects(found, record):
            self._log.add(code, message, found.shard, found.key)

    def _defects(self, found: TarSample, record: ShardSample | None) -> Iterator[tuple[Code, str]]:
        expected, suffixes = (
            promised_suffixes(self._ledger, self._provenance),
            found.suffixes,
        )
        if suffixes != expected:
            yield Code.MEMBERS_DIFFER, f"members are {suffixes}, must be {expected} in this order"
        try:
            told = ColumnSample.model_validate_json(found.json(f"{self._name}.json"))
        except ValidationError as error:
            yield Code.JSON_INVALID, f"its json is no column's: {error}"
            return
        if told.key != found.key:
            yield Code.JSON_MISPLACED, f"json is of {told.key}, its members of {found.key}"
        if told.encoder != self._provenance:
            yield Code.ENCODERS_DIFFER, f"names {told.encoder}, the ledger {self._provenance}"
        if record is None:
            return
        self.samples.append((record, found.sizes, told.storage_loss))
        clips = digest([clip.model_dump(mode="json") for clip in record.clips])
        if (told.binding_sha256, told.clips_sha256) != (record.binding_sha256, clips):
            yield (
                Code.COLUMN_UNBOUND,
                f"features of media and annotations {told.binding_sha256} and frames {told.clips_sha256}, the "
                f"sample's are {record.binding_sha256} and {clips}",
            )
        opened, defects = open_members(found, record.model_copy(update={"encoders": (told.encoder,)}))
        yield from defects
        for check in COLUMN_CHECKS:
            yield from check(opened, self._ledger)


def promised_suffixes(ledger: Ledger, encoder: EncoderProvenance | None) -> list[str]:
    """The members of a column's sample."""
    if encoder is None:
        return []
    frames = [f"{encoder.name}.frames.{ledger.frames_suffix}"] if ledger.frames_for else []
    return [f"{encoder.name}.json", *(f"{name}.npy" for name in encoder.arrays), *frames]
