"""What the shards cannot tell about a build: what was asked, and what became of every input."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.conversations.stage import Converse
from pipeline.decode.stage import Decode
from pipeline.features.stage import Encode
from pipeline.plan.choose import Candidates, Rows
from pipeline.runtime.workspace import Artefact
from schemas.base import Sha256, digest
from schemas.encoders import EncoderSpec
from schemas.exclusions import ExclusionList
from schemas.ledger import Account, Asked, Change, Flow, Written
from schemas.manifest import Part
from schemas.plan import Barred, Quota, Stratum
from schemas.recipe import Recipe
from schemas.rejection import Rejection

LIMITS = {"max_pixels", "max_duration_s", "deadline_s", "memory_mb"}
"""Fields of `decode` that decide whether a medium is let in, and nothing of what is made of it."""

CUTS = {"max_bytes", "samples_per_shard"}
"""Fields of `shards` that decide where tars begin, and nothing of what a sample is."""

SHARDS_VERSION = 6
"""Raise it when the plan, the order or the writer would make other shards of the same inputs."""


def sample_settings(recipe: Recipe, tokenizer_sha256: str = "") -> dict[str, Sha256]:
    """Digests of all that decides the bytes of a sample of these inputs, by field of the recipe.

    `recipe` is without columns. Weights count by the name that provenance tells, not by the file they lie in: their
    bytes are held against those of the kept samples when a sample is added.
    """
    settings: dict[str, Any] = {
        "seed": recipe.seed,
        "conversations": recipe.conversations.model_dump(mode="json", exclude={"tokenizer"}),
        "conversations.tokenizer": tokenizer_sha256,
        "decode": recipe.decode.model_dump(mode="json", exclude=LIMITS),
        "encoders": list(recipe.encoders),
        **{f"encoders.{name}": _told(spec) for name, spec in recipe.encoders.items()},
        "shards": recipe.shards.model_dump(mode="json", exclude=CUTS),
        **{f"shards.{name}": getattr(recipe.shards, name) for name in sorted(CUTS)},
        "the version of this program": [
            *([stage.name, stage.version] for stage in (Converse, Decode, Encode)),
            ["shards", SHARDS_VERSION],
        ],
    }
    return {name: digest(value) for name, value in settings.items()}


def _told(spec: EncoderSpec) -> list[Any]:
    return [spec.model_dump(mode="json", exclude={"weights"}), spec.labelled_weights]


def make_account(
    recipe: Recipe,
    quotas: Sequence[Quota],
    candidates: Candidates,
    chosen: Mapping[Stratum, Rows],
    flows: Sequence[Flow],
    rejections: Iterable[Rejection],
    barred: Sequence[Barred] = (),
    repeated: int = 0,
    tokenizer_sha256: str = "",
    history: Sequence[Change] = (),
    exclusions: Sequence[ExclusionList] = (),
    written: Written | None = None,
) -> Account:
    """The writer's `Account` of this build."""
    return Account(
        recipe=recipe.name,
        recipe_sha256=recipe.mixture_sha256(),
        fps=recipe.decode.fps,
        sampling=recipe.decode.sampling,
        shares=recipe.mixture.shares,
        asked=tuple(_asked(quota, candidates.of(quota.stratum), chosen[quota.stratum]) for quota in quotas),
        flows=tuple(flows),
        rejected=dict(sorted(Counter(f"{r.stage}/{r.reason}" for r in rejections).items())),
        gates=recipe.mixture.gates,
        exclusions=tuple(exclusions),
        barred=tuple(barred),
        unit=recipe.mixture.unit,
        repeated=repeated,
        tokens_per_frame=recipe.mixture.tokens_per_frame,
        tokenizer_sha256=tokenizer_sha256,
        settings=sample_settings(recipe, tokenizer_sha256),
        history=tuple(history),
        written=written,
    )


def make_flows(
    ingested: Sequence[Artefact],
    talks: Sequence[Artefact],
    features: Sequence[Artefact],
    redone: Sequence[Artefact],
    refused: Mapping[str, int],
    packed: int,
    barred: int = 0,
    kept: int = 0,
    copies: int = 0,
) -> list[Flow]:
    """Conservation of each stage, in the picture's order; `refused` counts rejections by stage.

    What the plan filters out are candidates that no quota called for, the reserves that stayed reserves, those
    that the recipe's gates bar, and those `kept` as an earlier build made them. What later stages filter out was
    worked on and proved more than a target in turns, tokens or bytes calls for: `packed` of the encoded samples go
    into shards.
    `redone` are second tries of what `features` rejected; `copies` are talks that were made and then rejected.
    """
    came, spoken, seen = _through(ingested), _through(talks), _through(features)
    outputs = seen.outputs + _through(redone).outputs
    decoded = seen.inputs - refused.get("decode", 0)
    return [
        Flow(stage="ingest", inputs=came.inputs, outputs=came.outputs, rejected=came.rejected),
        Flow(
            stage="plan",
            inputs=came.outputs,
            outputs=spoken.inputs,
            rejected=0,
            filtered=came.outputs - spoken.inputs,
            barred=barred,
            kept=kept,
        ),
        Flow(
            stage="conversations",
            inputs=spoken.inputs,
            outputs=seen.inputs,
            rejected=spoken.rejected + copies,
            filtered=spoken.outputs - copies - seen.inputs,
        ),
        Flow(stage="decode", inputs=seen.inputs, outputs=decoded, rejected=refused.get("decode", 0)),
        Flow(
            stage="features",
            inputs=decoded,
            outputs=packed,
            rejected=decoded - outputs,
            filtered=outputs - packed,
        ),
    ]


def _through(artefacts: Sequence[Artefact]) -> Part:
    """All parts of all artefacts of a pass, as one."""
    parts = [part for artefact in artefacts for part in artefact.manifest.parts]
    return Part(
        name="all",
        inputs=sum(part.inputs for part in parts),
        outputs=sum(part.outputs for part in parts),
        rejected=sum(part.rejected for part in parts),
    )


def _asked(quota: Quota, candidates: Rows, chosen: Rows) -> Asked:
    return Asked(
        stratum=quota.stratum.label,
        asked=len(chosen),
        candidates=quota.candidates,
        replaced=len(np.setdiff1d(chosen, candidates[: len(chosen)])),
        target=quota.target,
    )
