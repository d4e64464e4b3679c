"""`README.md` of a mixture: a dataset card that Hugging Face `datasets` obeys and a person can read."""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import yaml

from pipeline.storage.files import write_text
from pipeline.storage.places import Place
from schemas.arrays import EncoderProvenance
from schemas.ledger import CARD, Ledger
from schemas.sample import Split

_TEMPLATE = "card.md.jinja"
_TOKENS = (("llm_tokens", "LLM tokens"), ("visual_tokens", "visual tokens"))
"""Counts that are told where there are any."""


def write_card(folder: Place, ledger: Ledger) -> None:
    """Writes the card from the ledger alone."""
    write_text(folder / CARD, card(ledger))


def card(ledger: Ledger) -> str:
    """YAML front matter, then what the mixture holds, whose work it is and how to read it."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # noqa: S701 (Markdown, not HTML)
    )
    return environment.get_template(_TEMPLATE).render(
        front=yaml.safe_dump(front_matter(ledger), sort_keys=False, allow_unicode=True),
        ledger=ledger,
        splits=[split for split in Split if split in ledger.total],
        shares=_shares(ledger),
        tokens=[(name, head) for name, head in _TOKENS if any(getattr(c, name) for c in ledger.total.values())],
        random=[encoder.name for encoder in ledger.encoders if encoder.is_random],
        apart=[encoder for encoder in ledger.encoders if encoder not in ledger.in_shards],
        first=ledger.shards[0],
        one_line=_one_line,
    )


def front_matter(ledger: Ledger) -> dict[str, Any]:
    """`configs` names the tars, so that no sidecar is taken for data; `dataset_info` names their columns.

    Declared, because `datasets` would infer columns from the first five samples and then drop or
    recast what differs later. Feature arrays differ in their first two axes, which no ArrayND
    feature allows: they are nested lists there. An encoder in tars of its own is a config of its name.
    """
    splits = [split for split in Split if split in ledger.total]
    apart = [encoder for encoder in ledger.encoders if encoder not in ledger.in_shards]
    configs = {"default": (".tar", _features(ledger, ["json"], ledger.in_shards))}
    configs |= {e.name: (f".{e.name}.tar", _features(ledger, [f"{e.name}.json"], [e])) for e in apart}
    # Six places, not `*`: a column's tar is named after its shard.
    files = [
        {
            "config_name": name,
            "data_files": [{"split": split.value, "path": f"shards/{split}-??????{end}"} for split in splits],
        }
        for name, (end, _) in configs.items()
    ]
    infos: list[dict[str, Any]] = [
        {"config_name": name, "features": features} for name, (_, features) in configs.items()
    ]
    return {
        "pretty_name": ledger.recipe,
        "license": "other",
        "license_name": "per-source",
        "tags": ["webdataset", "video", "precomputed-features"],
        "configs": files,
        "dataset_info": infos if apart else {"features": infos[0]["features"]},
    }


def _features(ledger: Ledger, records: list[str], encoders: Sequence[EncoderProvenance]) -> list[dict[str, Any]]:
    """Of tars that hold these records and the arrays, and frames, of these encoders; as the members come."""
    arrays = [(name, encoder) for encoder in encoders for name in encoder.arrays]
    frames = [f"{e.name}.frames.{ledger.frames_suffix}" for e in encoders] if ledger.frames_for else []
    kind = _nested("uint8") if ledger.frames_codec == "rawvideo" else {"dtype": "binary"}
    features: list[dict[str, Any]] = [{"name": name, "dtype": "json"} for name in records]
    features += [{"name": f"{c}.npy", **_nested(e.stored if c == e.name else "float16")} for c, e in arrays]
    features += [{"name": name, **kind} for name in frames]
    return features + [{"name": name, "dtype": "string"} for name in ("__key__", "__url__")]


def _nested(dtype: str) -> dict[str, Any]:
    feature: dict[str, Any] = {"list": dtype}
    for _ in range(4):
        feature = {"list": feature}
    return feature


def _shares(ledger: Ledger) -> list[tuple[str, int, float]]:
    whole = {split: count.samples for split, count in ledger.total.items()}
    return [
        (label, count.samples, float(Fraction(100 * count.samples, whole[label.split("/")[0]])))
        for label, count in ledger.by_modality.items()
    ]


def _one_line(names: tuple[str, ...]) -> str:
    """Names of strangers in a table cell: no line break, no column break."""
    return ", ".join(" ".join(name.split()).replace("|", r"\|") for name in names)
