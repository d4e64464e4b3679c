"""`mixture plan`: from a recipe, and samples or a statement in their place, to what is printed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from flows.at_hand import absent_data
from flows.yaml_file import load, packaged
from pipeline.conversations.forecast import CHARACTERS_A_TOKEN, TOKENS_A_ROUND, forecast
from pipeline.decode.grid import plan_clips
from pipeline.plan.apportion import apportion
from pipeline.plan.capacity import capacity
from pipeline.plan.workload import counted, stated
from schemas.base import InputError
from schemas.capacity import Capacity, Rates
from schemas.exclusions import ExclusionList
from schemas.media import DecodeSpec
from schemas.plan import Barred, Quota
from schemas.recipe import Recipe
from schemas.sample import Modality, Sample
from schemas.workload import StatedCount, StatedWorkload, Workload

ESTIMATED = (
    f"tokens of talks are estimated: {CHARACTERS_A_TOKEN} characters of a prompt are one, a round is written with "
    f"{TOKENS_A_ROUND}, and what the rules will refuse is not counted"
)
WORKLOADS = "workloads"
"""The folder of this package with ready statements, each named as the recipe that it is for."""


@dataclass(frozen=True)
class Plan:
    """All that `mixture plan` prints."""

    recipe: Recipe
    workload: Workload
    parts: tuple[Capacity, ...]
    """Of each part of the workload, in its order."""
    total: Capacity
    quotas: tuple[Quota, ...] = ()
    """None where nothing was counted."""
    barred: tuple[Barred, ...] = ()
    """What the recipe's gates shut out."""
    statement: StatedWorkload | None = None
    """What stands in for the samples."""
    notes: tuple[str, ...] = ()
    """What a reader must know before the numbers."""


def clips_of_span(span_ns: int, spec: DecodeSpec, max_clips: int | None = None) -> int:
    """Clips of a film's span. For `released_compat`, which goes by frames, those that the same fps gives."""
    if span_ns <= 0:
        return 0
    changes = {"sampling": "fps"} if spec.sampling == "released_compat" else {}
    by_time = spec.model_copy(update={**changes, "max_clips": max_clips or spec.max_clips})
    return len(plan_clips(0, span_ns, by_time))


def choose_statement(name: str, recipe: Recipe, workload: str | None) -> tuple[StatedWorkload | None, str]:
    """The statement that stands in for the samples, and why it does; None to count them.

    Args:
        name: Of the recipe, as the user gave it.
        recipe: What was read under that name.
        workload: The statement's file or packaged name, if the user gave one.

    A packaged recipe falls back on the packaged statement of its name. A user's file never does: a
    mistyped path there is a mistake, and raises InputError. Raises FileError for a bad statement.
    """
    if workload is not None:
        return load_workload(workload), "asked for with --workload"
    if not (absent := absent_data(recipe)):
        return None, ""
    why = absent[0] + (f", nor the data of {len(absent) - 1} more" if absent[1:] else "")
    if not Path(name).is_file() and name in packaged(WORKLOADS):
        return load_workload(name), why
    raise InputError(f"{why}: put the data there, or state their workload: mixture plan {name} --workload FILE")


def load_workload(name: str) -> StatedWorkload:
    """The statement in the file `name`, or the packaged one of that name. Raises FileError."""
    return load(name, StatedWorkload, WORKLOADS, "workload")


def with_shares(statement: StatedWorkload, shares: Mapping[Modality, Fraction]) -> StatedWorkload:
    """The statement with as many samples, in other shares; parts of a modality keep their proportions.

    Raises InputError where there is no part to take a share.
    """
    total = sum(part.samples.value for part in statement.parts)
    asked = apportion(total, {modality.value: share for modality, share in shares.items()})
    numbers: dict[str, int] = {}
    for modality in Modality:
        weights = {p.part: Fraction(p.samples.value) for p in statement.parts if p.modality is modality}
        if asked.get(modality, 0) and not any(weights.values()):
            raise InputError(
                f"workload {statement.name} has no {modality} samples to take {asked[modality]}: add a part"
            )
        numbers |= apportion(asked.get(modality, 0), weights)
    basis = "of as many in all, in the shares asked for with --shares"
    parts = [
        part.model_copy(update={"samples": StatedCount(value=numbers[part.part], basis=basis)})
        for part in statement.parts
    ]
    return statement.model_copy(update={"parts": tuple(parts)})


def plan_counted(
    recipe: Recipe,
    chosen: Sequence[Sample],
    quotas: Sequence[Quota],
    rates: Rates | None,
    barred: Sequence[Barred] = (),
    exclusions: Sequence[ExclusionList] = (),
) -> Plan:
    """The plan of samples that were ingested. Raises InputError for rates that do not fit."""
    workload = counted(
        chosen,
        recipe,
        lambda ns, cap: clips_of_span(ns, recipe.decode, cap),
        lambda sample: forecast(sample, recipe.conversations, recipe.seed),
    )
    notes = [_told(each, barred) for each in exclusions]
    if workload.total.talks:
        notes.append(ESTIMATED)
    return _plan(recipe, workload, rates, quotas=tuple(quotas), barred=tuple(barred), notes=tuple(notes))


def _told(exclusions: ExclusionList, barred: Sequence[Barred]) -> str:
    """A list that bars nobody is most often one of another data set's names."""
    number = sum(row.samples for row in barred if row.gate == "excluded" and exclusions.has_barred(row.value))
    return f"exclusion list {exclusions.name}: its {exclusions.records:,} records bar {number:,} candidates"


def plan_stated(recipe: Recipe, statement: StatedWorkload, why: str, rates: Rates | None) -> Plan:
    """The plan of a statement. Raises InputError for rates that do not fit."""
    workload = stated(statement, lambda ns, cap: clips_of_span(ns, recipe.decode, cap))
    notes = tuple(_notes(recipe, statement, workload, why))
    return _plan(recipe, workload, rates, statement=statement, notes=notes)


def _plan(
    recipe: Recipe,
    workload: Workload,
    rates: Rates | None,
    *,
    quotas: tuple[Quota, ...] = (),
    barred: tuple[Barred, ...] = (),
    statement: StatedWorkload | None = None,
    notes: tuple[str, ...] = (),
) -> Plan:
    parts = tuple(capacity(part, recipe, rates) for part in workload.parts)
    total = capacity(workload.total, recipe, rates)
    return Plan(recipe, workload, parts, total, quotas, barred, statement, notes)


def _notes(recipe: Recipe, statement: StatedWorkload, workload: Workload, why: str) -> list[str]:
    """Where the plan is not what building this recipe would come to."""
    notes = [f"stated, not counted ({why})", *([statement.note.strip()] if statement.note.strip() else [])]
    total, asked = workload.total, recipe.mixture.total + recipe.mixture.heldout_total
    if total.samples != asked:
        notes.append(f"the statement has {total.samples:,} samples, recipe {recipe.name} asks for {asked:,}")
    if recipe.mixture.exclude:
        notes.append("the recipe's exclusion lists are not applied: a statement names no sample")
    if not recipe.mixture.gates.is_open:
        notes.append("the recipe's gates are not applied: a statement names no licence and no annotator")
    caps = sorted({p.max_clips.value for p in statement.parts if p.max_clips} - {recipe.decode.max_clips})
    if caps:
        stated_caps = ", ".join(map(str, caps))
        notes.append(
            f"max_clips is {stated_caps} in some parts, {recipe.decode.max_clips} in the recipe: "
            "as told, they are builds of their own"
        )
    if total.clips_with_frames and not recipe.shards.frames_for:
        notes.append("the statement has frames in the shards, but shards.frames_for is empty: none are counted")
    if total.talks and recipe.conversations.generator == "template":
        notes.append("the statement has talks written by a model, but the recipe's generator is still template")
    return notes
