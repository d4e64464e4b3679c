"""Mixtures to report on: one whose numbers are all different, one with nothing in it."""

import io
from dataclasses import dataclass
from itertools import count

import numpy as np
from PIL import Image

from pipeline.audit.report import GalleryItem, ReportFigures, render_report
from schemas.arrays import ClipTimes, EncoderProvenance
from schemas.conversation import Turn
from schemas.ledger import Asked, Count, Flow, Ledger, Origin, ShardEntry, ShardSample
from schemas.sample import Category, Generator, MediaRef, Modality, Split

EMPTY = Ledger(
    recipe="none", recipe_sha256="a" * 64, fps=2, shares={"text": 100}, asked=(), flows=(), rejected={}, total={},
    by_modality={}, by_source={}, by_category={}, by_licence={}, by_generator={}, origins={}, encoders=(),
    shards=(), root_sha256="b" * 64,
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    code: str
    shard: str
    key: str
    message: str


@dataclass(frozen=True)
class Case:
    ledger: Ledger
    findings: tuple[Finding, ...]
    gallery: tuple[GalleryItem, ...]
    figures: ReportFigures

    def html(self) -> str:
        return render_report(self.ledger, self.findings, self.gallery, self.figures)


def make_ledger(weights: str = "weights/siglip.safetensors") -> Ledger:
    """A ledger of numbers that are all different, so that each must be looked up to be shown."""
    numbers = count(100_003, 1_009)

    def made() -> Count:
        return Count(
            samples=next(numbers), turns=next(numbers), llm_tokens=next(numbers), visual_tokens=next(numbers),
            clips=next(numbers), frames=next(numbers),
            media_ns=next(numbers) * 10**7 + 3, bytes=next(numbers) * 1_000 + 7,
        )  # fmt: skip

    return Ledger(
        recipe="demo",
        recipe_sha256="a" * 64,
        fps="7/3",
        shares={"text": "12.5", "image": "21.5", "multi_image": "9.75", "video": "56.25"},
        asked=tuple(
            Asked(
                stratum=f"train/{modality}/from-{modality.replace('_', '-')}", asked=next(numbers),
                found=next(numbers), candidates=next(numbers), replaced=next(numbers),
            )
            for modality in Modality
        ),
        flows=(
            Flow(stage="ingest", inputs=91_234, outputs=90_001, rejected=711, filtered=522),
            Flow(stage="leaky", inputs=81_120, outputs=80_003, rejected=613, filtered=501),
        ),
        rejected={"ingest/not_media": next(numbers), "features/decode_error": next(numbers)},
        total={"train": made(), "heldout": made()},
        by_modality={f"train/{modality}": made() for modality in Modality},
        by_source={"train/shapes": made(), "heldout/shapes": made()},
        by_category={"train/reasoning": made(), "heldout/captioning": made()},
        by_licence={"train/CC0-1.0": made(), "train/terms/of <their> own": made()},
        by_generator={"train/template": made()},
        by_annotator={"train/renderer": made()},
        by_encoder={"train/siglip": made()},
        frames_for=(Category.TEXT_RECOGNITION,),
        origins={"shapes": Origin(licences=("CC0-1.0",), annotators=("renderer",), generators=("template",))},
        encoders=(
            EncoderProvenance(
                name="siglip", architecture="so400m", weights=weights, weights_sha256="b" * 64,
                preprocessing_sha256="c" * 64, layer=-17, grid=(4, 27, 29), width=1_153,
            ),
        ),
        shards=tuple(
            ShardEntry(
                name=f"shards/{split}-{next(numbers):06}.tar", split=split, sha256=f"{next(numbers):064x}",
                size_bytes=next(numbers), count=made(),
            )
            for split in Split
        ),
        root_sha256="d" * 64,
    )  # fmt: skip


def make_sample(modality: Modality = Modality.VIDEO, content: str = "A cat.") -> ShardSample:
    film = MediaRef(kind="video", path="a.mp4")
    clip = ClipTimes(start_ns=0, exclusive_end_ns=10**9, t_ns=(0, 500_000_000), pts_ns=(0, 480_000_000))
    return ShardSample(
        key=f"key-{modality.replace('_', '-')}",
        source="shapes",
        modality=modality,
        category=Category.CAPTIONING,
        split=Split.TRAIN,
        licence="CC0-1.0",
        annotator=Generator(name="renderer"),
        generator=Generator(name="template", revision="1"),
        binding_sha256="e" * 64,
        text_sha256="f" * 64,
        conversations=tuple(
            Turn(role=role, content=f"{content} {n}") for n in range(4) for role in ("user", "assistant")
        ),
        media=(film,) if modality is Modality.VIDEO else (),
        clips=(clip,) if modality is Modality.VIDEO else (),
        encoders=make_ledger("RANDOM seed=0").encoders,
    )


def make_jpeg() -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((8, 8, 3), 127, np.uint8)).save(file, "JPEG")
    return file.getvalue()


def make_case(content: str = "A cat.", weights: str = "weights/siglip.safetensors") -> Case:
    return Case(
        ledger=make_ledger(weights),
        findings=(Finding("binding", "shards/train-000001.tar", "key-video", content),),
        gallery=(
            GalleryItem(sample=make_sample(content=content), thumbnails=(make_jpeg(), make_jpeg())),
            GalleryItem(sample=make_sample(Modality.TEXT, content)),
        ),
        figures=ReportFigures(durations_s=(1.5, 4.0, 9.5), pts_error_ms=(0.0, 20.0, 33.4)),
    )
