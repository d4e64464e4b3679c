"""Changing a finished mixture: what of it stays, where, and the account of the change.

The mixture in the recipe's `output` is the base. Its files are taken from the workspace, where nobody touches them:
the shards and columns whose tars have the digests that the output's ledger tells.
"""

import json
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from flows.account import sample_settings
from pipeline.features.origins import Stamp
from pipeline.plan.amend import HOLE, Standing, amend, moved, turnover, worst_prefix
from pipeline.plan.choose import Candidates, Rows
from pipeline.plan.order import place
from pipeline.runtime.workspace import Artefact, Work, Workspace
from pipeline.shards.columns import WrittenColumn
from pipeline.shards.index import candidate_digest, column_index, read_index, starts_in
from pipeline.shards.kept import Kept, OldTars
from pipeline.shards.packing import Cuts, starts_of
from pipeline.storage.files import write_text
from pipeline.storage.places import place as located
from schemas.base import InputError, digest
from schemas.encoders import EncoderSpec
from schemas.ledger import INDEX, KEPT_PREFIX_BOUND, LEDGER, Account, Change, ColumnSample, Ledger, ShardSample
from schemas.plan import Stratum
from schemas.recipe import Recipe
from schemas.sample import Sample, Split

BASE = "base"
"""Field of the config of amended shards: what they were made from."""


@dataclass(frozen=True)
class Base:
    """The finished mixture that a build changes."""

    ledger: Ledger
    """As the output tells it."""
    shards: Artefact
    """Its shards in the workspace."""
    workspace: Workspace

    @property
    def told(self) -> dict[str, Any]:
        """All of it that decides what an amended mixture holds, for a fingerprint."""
        return {
            "recipe": self.ledger.recipe_sha256,
            "root": self.ledger.root_sha256,
            "shards": [entry.sha256 for entry in self.ledger.shards],
            "history": [change.model_dump(mode="json") for change in self.ledger.history],
        }

    def work(self, asked: Work) -> Work:
        """Of the shards of this recipe: those that are there, if they are what is `asked`; else changed ones."""
        manifest = self.shards.manifest
        config = json.loads(manifest.config)
        there = Work(
            manifest.stage, manifest.version, {k: v for k, v in config.items() if k != BASE}, manifest.inputs
        )
        is_asked = self.shards.is_current and there.fingerprint == asked.fingerprint
        if is_asked and _same_account(Ledger.read(self.shards.folder), self.ledger):
            return Work(manifest.stage, manifest.version, config, manifest.inputs)
        return Work(asked.stage, asked.version, {**asked.config, BASE: self.told}, asked.inputs)

    @cached_property
    def _tars(self) -> OldTars[ShardSample]:
        return OldTars(self.shards.folder, INDEX, self.ledger.shards, ShardSample.model_validate_json)

    def sample(self, key: str) -> Kept[ShardSample]:
        """A sample as the shards hold it."""
        return self._tars.row(key)

    def keepable(self, samples: Mapping[str, Sample]) -> frozenset[str]:
        """Keys of the samples whose candidates are still those that they were made of."""
        tables = [read_index(self.shards.folder, split, ["key", "candidate_digest"]) for split in self.ledger.total]
        rows = pa.concat_tables(tables)
        pairs = zip(rows["key"].to_pylist(), rows["candidate_digest"].to_pylist(), strict=True)
        return frozenset(key for key, told in pairs if key in samples and _digest(samples[key]) == told)

    def standing(self, split: Split, candidates: Candidates) -> Standing:
        """The order of a split, its samples numbered as candidates."""
        rows = read_index(self.shards.folder, split, ["key", "modality", "source", "category"])
        found = pc.index_in(rows["key"].cast(pa.large_string()), value_set=candidates.keys)
        labels = pc.binary_join_element_wise(rows["modality"], rows["source"], rows["category"], "/")
        names = labels.unique().to_pylist()
        of_name = [_stratum(f"{split}/{name}", candidates) for name in names]
        strata = list(dict.fromkeys(of_name))  # several categories may be of one
        code = np.array([strata.index(stratum) for stratum in of_name], np.uint16)
        at = pc.index_in(labels, value_set=pa.array(names, pa.string())).to_numpy()
        return Standing(found.fill_null(HOLE).to_numpy(), code[at] if names else code, strata)

    def starts(self, split: Split) -> list[int]:
        """Positions at which its tars begin."""
        return starts_in(self.shards.folder, split)

    def column(
        self, name: str, spec: EncoderSpec, stamp: Stamp, stages: Sequence[Sequence[Any]]
    ) -> OldTars[ColumnSample] | None:
        """The features of the column `name` that are kept; None where it was not there, or was another encoder's.

        Raises InputError where the workspace has lost it.
        """
        told = next((column for column in self.ledger.columns if column.encoder == name), None)
        if told is None:
            return None
        found = [each for each in self.workspace.artefacts("columns") if _column_of(each) == told]
        if not found:
            raise InputError(
                f"the column {name} of the mixture is not in {self.workspace.root} any more, and --amend keeps its "
                "features from there: build without --amend"
            )
        asked = {"encoder": [name, spec.model_dump(mode="json")], "weights": stamp, "stages": stages}
        for artefact in found:
            config = json.loads(artefact.manifest.config)
            if digest({field: config[field] for field in asked}) == digest(asked):
                parse = ColumnSample.model_validate_json
                return OldTars(artefact.folder, column_index(name), told.shards, parse, self._tars.clips)
        return None


def find_base(recipe: Recipe, workspace: Workspace, tokenizer_sha256: str = "") -> Base:
    """The mixture in the recipe's output, to be changed.

    Raises InputError where there is none, its shards have left the workspace, or the recipe would give samples that
    stay other bytes.
    """
    ledger = _standing_ledger(recipe, workspace)
    check_settings(ledger, recipe, tokenizer_sha256)
    wanted = [entry.sha256 for entry in ledger.shards]
    matches = []
    for artefact in workspace.artefacts("shards"):
        told = Ledger.read(artefact.folder)
        if [entry.sha256 for entry in told.shards] == wanted:
            matches.append((not _same_account(told, ledger), artefact.folder.name, artefact))
    if not matches:
        raise InputError(
            f"the shards of {recipe.output} are not in {workspace.root}, and --amend keeps samples from there: "
            "name the workspace that it was built in, or build without --amend"
        )
    return Base(ledger, min(matches, key=lambda match: match[:2])[2], workspace)


def check_settings(ledger: Ledger, recipe: Recipe, tokenizer_sha256: str = "") -> None:
    """Raises InputError, which names the fields, where the recipe would give samples of the ledger other bytes."""
    asked, told = sample_settings(recipe.without_columns(), tokenizer_sha256), ledger.settings
    if not told:
        raise InputError(f"{recipe.output} was built before mixtures could be changed: build without --amend")
    if changed := sorted(name for name in asked.keys() | told.keys() if asked.get(name) != told.get(name)):
        raise InputError(
            f"--amend keeps samples as they are, but {', '.join(changed)} changed since {recipe.output} was built: "
            "put the old values back, or build without --amend"
        )


def rearrange(
    base: Base,
    candidates: Candidates,
    chosen: Mapping[Split, Mapping[Stratum, Rows]],
    kept: Set[str],
    recipe: Recipe,
    size_of: Callable[[str], int],
) -> tuple[dict[Split, Rows], dict[Split, list[int]], Change]:
    """The new order of each split, which is the old one wherever that is fair enough, its cuts, and what changes.

    `kept` are keys whose bytes are taken over if they are chosen; `size_of` tells what a key's sample takes in its
    tar. In an old order tars begin where they began, and behind the start of the last one wherever one is full:
    so one sample that is taken down changes one tar, and a raised total adds some.
    """
    orders: dict[Split, Rows] = {}
    starts: dict[Split, list[int]] = {}
    reordered, counts, tars = [], np.zeros(3, np.int64), []
    for split in Split:
        standing, own = base.standing(split, candidates), chosen.get(split, {})
        order = amend(standing, own, candidates.keys, recipe.seed, candidates.epochs)
        old_starts = base.starts(split)
        stay = [start for start in old_starts if start < len(order)]
        if worst_prefix(order, own) >= KEPT_PREFIX_BOUND:
            order = place(own, candidates.keys, recipe.seed, candidates.epochs)
            reordered.append(split)
            stay = []
        starts[split] = starts_of(candidates.keys_at(order), size_of, Cuts.full(recipe.shards, stay))
        before = _copied(standing.rows, candidates, kept)
        counts += (len(order), int(np.isin(before[before != HOLE], order).sum()), moved(before, order))
        tars.append(turnover(before, order, old_starts, starts[split]))
        if split in chosen:
            orders[split] = order
    total, there, elsewhere = counts.tolist()
    return (
        orders,
        starts,
        Change(
            recipe_sha256=base.ledger.recipe_sha256,
            root_sha256=base.ledger.root_sha256,
            kept=there,
            added=total - there,
            removed=sum(count.samples for count in base.ledger.total.values()) - there,
            moved=elsewhere,
            reordered=tuple(reordered),
            shards_kept=sum(each.kept for each in tars),
            shards_rewritten=sum(each.rewritten for each in tars),
            shards_new=sum(each.new for each in tars),
            shards_gone=sum(each.gone for each in tars),
        ),
    )


def _standing_ledger(recipe: Recipe, workspace: Workspace) -> Ledger:
    """Of the output. A build that is killed while it swaps the output leaves none for the next one to see, so it is
    noted in the workspace what stood there.
    """
    output, note = located(recipe.output), workspace.root / "amend" / recipe.mixture_sha256()
    if not (output / LEDGER).is_file():
        if (note / LEDGER).is_file():
            return Ledger.read(note)
        raise InputError(f"{output} holds no mixture that could be changed: build without --amend")
    try:
        ledger = Ledger.read(output)
    except ValueError as error:
        raise InputError(f"the ledger of {output} cannot be read: build without --amend ({error})") from None
    write_text(note / LEDGER, (output / LEDGER).read_text(encoding="utf-8"))
    return ledger


def _column_of(artefact: Artefact) -> Any:
    return WrittenColumn.read(artefact.folder).column


def _same_account(one: Ledger, other: Ledger) -> bool:
    """Of shards and their mixture with columns: all but the recipe's digest, which tells the columns too."""
    return all(
        getattr(one, name) == getattr(other, name) for name in Account.model_fields if name != "recipe_sha256"
    )


def _digest(sample: Sample) -> bytes:
    return candidate_digest(sample, sample.binding_sha256())


def _stratum(label: str, candidates: Candidates) -> Stratum:
    """Of `split/modality/source/category`: the finest that candidates compete in."""
    fine = Stratum.labelled(label)
    return fine if fine in candidates.rows else fine.model_copy(update={"category": None})


def _copied(rows: Rows, candidates: Candidates, kept: Set[str]) -> Rows:
    """The rows of an order, with holes for those whose bytes are not taken over."""
    may_stay = np.asarray(pc.is_in(candidates.keys, pa.array(kept, pa.large_string())))
    return np.where((rows != HOLE) & may_stay[rows], rows, HOLE)
