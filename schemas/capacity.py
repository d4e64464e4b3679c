"""What a mixture will take, before anything is spent: the work, and the seconds and money at given rates."""

from pydantic import Field

from schemas.base import Name, Record


class UnitSeconds(Record):
    """Seconds of one core, or of one device, for a unit of work."""

    clip: float = Field(default=0.0, ge=0, description="A film's clip of `decode.frames_per_clip` frames.")
    image: float = Field(default=0.0, ge=0, description="An image: one frame.")


class TokenSeconds(Record):
    """Seconds of one device for a token, where many talks are generated at once."""

    prompt_token: float = Field(ge=0, description="A token that is read.")
    reply_token: float = Field(ge=0, description="A token that is written.")


class Prices(Record):
    """In one currency, which is yours to choose."""

    currency: str = Field(default="", max_length=10, description="Its name, such as EUR.")
    core_hour: float = Field(default=0.0, ge=0, description="One CPU core for an hour.")
    device_hour: float = Field(default=0.0, ge=0, description="One GPU for an hour.")
    terabyte_month: float = Field(default=0.0, ge=0, description="10^12 stored bytes for a month.")


class Rates(Record):
    """How fast a cluster works; `mixture calibrate` measures all but the prices, and what an endpoint generates."""

    machine: str = Field(
        min_length=1,
        description="What was measured: processor and device, in words; STATED and why, where nothing was.",
    )
    decode_core_s: UnitSeconds = Field(description="Core seconds to decode, resize and pad for all encoders.")
    encode_device_s: dict[Name, UnitSeconds] = Field(description="Device seconds of each encoder.")
    encoders: dict[Name, str] = Field(
        default_factory=dict,
        description="What these encoders are, such as `siglip full bfloat16`; a recipe with others is refused.",
    )
    generate_device_s: TokenSeconds | None = Field(
        default=None,
        description="GPU seconds of the language model a token: seconds x GPUs it is spread over / tokens.",
    )
    generator: str = Field(
        default="",
        description="What this language model is, such as `meta-llama/Llama-3.1-70B-Instruct fp8`; a recipe with "
        "another is refused.",
    )
    prices: Prices = Field(default=Prices(), description="Fill these in for a sum of money.")


class Capacity(Record):
    """What a workload takes.

    Reserves that failures may call for are not counted, nor is what a template writes, which costs nothing.
    """

    samples: int = Field(description="All of them.")
    clips: int = Field(description="Of films.")
    images: int = Field(description="Of image and multi-image samples.")
    film_s: int = Field(description="Of the spans that clips are taken from, rounded.")
    feature_bytes: dict[Name, int] = Field(description="Of each encoder's column.")
    frame_bytes: int = Field(description="Of the frames that the shards hold.")
    is_frame_bytes_estimated: bool = Field(
        default=False, description="JPEG's bytes depend on the pictures; those of raw pixels are exact."
    )
    talks: int = Field(description="Talks that a language model writes.")
    prompt_tokens: int = Field(description="Of these talks, read.")
    reply_tokens: int = Field(description="Of these talks, written.")
    rates: str | None = Field(default=None, description="What the rates were measured on, or that they are stated.")
    decode_core_h: float | None = Field(default=None, description="None where no rates were given.")
    encode_device_h: dict[Name, float] | None = Field(default=None, description="Of each encoder.")
    generate_device_h: float | None = Field(
        default=None,
        description="None also where the rates tell nothing of generation, and something is generated.",
    )
    currency: str = Field(default="", description="Of the prices.")
    cost: float | None = Field(
        default=None, description="Of all hours told: without generation where that is None."
    )
    cost_a_month: float | None = Field(default=None, description="Of keeping the bytes.")

    @property
    def stored_bytes(self) -> int:
        """Features and frames."""
        return sum(self.feature_bytes.values()) + self.frame_bytes
