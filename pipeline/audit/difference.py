"""What a comparison of two mixtures tells; `before` is the one compared against."""

from typing import Literal

from schemas.base import Key, Name, Rational, Record

Kind = Literal["added", "removed", "text", "media", "labels", "split"]
"""`text`, `media`, `labels` and `split` are of samples that both mixtures hold."""

KEPT_A_KIND = 10
"""Keys of a kind that are named; beyond it they are counted only."""


class Pair(Record):
    """A count on both sides."""

    before: int
    after: int


class Turnover(Pair):
    """A stratum's samples, by key."""

    added: int
    removed: int


class Shares(Record):
    """Percent of a split's samples, exact, on both sides."""

    before: Rational
    after: Rational


class Setting(Record):
    """One field that the ledgers tell differently, as they tell it."""

    before: str
    after: str


class EncoderChange(Record):
    """What became of one encoder's features."""

    encoder: Name
    change: Literal["added", "removed", "changed", "moved"]
    """`moved`: the same features, in tars of their own now, or no longer."""
    fields: tuple[str, ...] = ()
    """Of its provenance, where that differs."""


class Tars(Record):
    """Tars of one kind by digest: a tar whose bytes both mixtures hold is unchanged, whatever its name."""

    unchanged: int
    rewritten: tuple[str, ...]
    """Other bytes under the same name."""
    new: tuple[str, ...]
    gone: tuple[str, ...]


class ComeAndGone(Record):
    """Names in one list of origins only."""

    came: tuple[str, ...]
    went: tuple[str, ...]


class Difference(Record):
    """Told from ledgers and indexes, which are trusted: no tar is read for it."""

    identical: bool
    """Equal root digests: the same tars in the same order."""
    root_sha256: Setting
    settings: dict[str, Setting]
    """Fields of the ledger that say how the mixture was made."""
    added: int
    removed: int
    kept: int
    """Samples of keys that both hold; the next fields are of these."""
    text: int | None
    """With another conversation. None where an index does not tell."""
    media: int | None
    """With other media, spans or frames."""
    features: int | None
    """Whose features cannot be the same: of other frames, or by an encoder of both with other provenance."""
    labels: int
    """With another source, modality, category, licence or generator."""
    split: int
    """In another split."""
    keys: dict[Kind, tuple[Key, ...]]
    """The first of each kind."""
    strata: dict[str, Turnover]
    """By `split/modality/source`."""
    counts: dict[str, dict[str, Pair]]
    """Samples: table of the ledger, then label."""
    shares: dict[str, Shares]
    """By `split/modality`."""
    encoders: tuple[EncoderChange, ...]
    origins: dict[str, ComeAndGone]
    """`licences`, `annotators`, `generators`."""
    shards: Tars
    columns: Tars
    notes: tuple[str, ...]
    """What could not be told, and why."""
