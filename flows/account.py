"""What the shards cannot tell about a build: what was asked, and what became of every input."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from pipeline.plan.choose import Candidates, Rows
from pipeline.runtime.workspace import Artefact
from schemas.exclusions import ExclusionList
from schemas.ledger import Account, Asked, Flow
from schemas.manifest import Part
from schemas.plan import Barred, Quota, Stratum
from schemas.recipe import Recipe
from schemas.rejection import Rejection


def make_account(
    recipe: Recipe,
    quotas: Sequence[Quota],
    candidates: Candidates,
    chosen: Mapping[Stratum, Rows],
    flows: Sequence[Flow],
    rejections: Iterable[Rejection],
    barred: Sequence[Barred] = (),
    exclusions: Sequence[ExclusionList] = (),
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
    )


def make_flows(
    ingested: Sequence[Artefact],
    talks: Sequence[Artefact],
    features: Sequence[Artefact],
    redone: Sequence[Artefact],
    refused: Mapping[str, int],
    barred: int = 0,
) -> list[Flow]:
    """Conservation of each stage, in the picture's order; `refused` counts rejections by stage.

    What the plan filters out are candidates that no quota called for, the reserves that stayed reserves, and
    those that the recipe's gates bar. `redone` are second tries of what `features` rejected.
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
        ),
        Flow(stage="conversations", inputs=spoken.inputs, outputs=spoken.outputs, rejected=spoken.rejected),
        Flow(stage="decode", inputs=seen.inputs, outputs=decoded, rejected=refused.get("decode", 0)),
        Flow(stage="features", inputs=decoded, outputs=outputs, rejected=decoded - outputs),
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
        asked=quota.samples,
        candidates=quota.candidates,
        replaced=len(np.setdiff1d(chosen, candidates[: quota.samples])),
    )
