"""What a mixture will take, before anything is spent: the work, and the seconds and money at given rates."""

from pydantic import Field

from schemas.base import Name, Record


class UnitSeconds(Record):
    """Seconds of one core, or of one device, for a unit of work."""

    clip: float = Field(default=0.0, ge=0, description="A film's clip of `decode.frames_per_clip` frames.")
    image: float = Field(default=0.0, ge=0, description="An image: one frame.")


class Prices(Record):
    """In one currency, which is yours to choose."""

    core_hour: float = Field(default=0.0, ge=0, description="One CPU core for an hour.")
    device_hour: float = Field(default=0.0, ge=0, description="One GPU for an hour.")
    terabyte_month: float = Field(default=0.0, ge=0, description="10^12 stored bytes for a month.")


class Rates(Record):
    """How fast this cluster works; `mixture calibrate` measures all but the prices."""

    machine: str = Field(description="What was measured: processor and device, in words.")
    decode_core_s: UnitSeconds = Field(description="Core seconds to decode, resize and pad for all encoders.")
    encode_device_s: dict[Name, UnitSeconds] = Field(description="Device seconds of each encoder.")
    prices: Prices = Field(default=Prices(), description="Fill these in for a sum of money.")


class Capacity(Record):
    """What the chosen samples take.

    Reserves that failures may call for are not counted, nor is generation by a template, which costs nothing.
    """

    samples: int
    clips: int
    """Of films."""
    images: int
    film_s: int
    """Of the spans that clips are taken from, rounded."""
    feature_bytes: dict[Name, int]
    """Of each encoder's column."""
    frame_bytes: int
    """Of the frames that `shards.frames_for` puts into the shards."""
    decode_core_h: float | None = None
    """None where no rates were given."""
    encode_device_h: dict[Name, float] | None = None
    cost: float | None = None
    """Of decoding and encoding, in the currency of the prices."""
    cost_a_month: float | None = None
    """Of keeping the bytes."""
