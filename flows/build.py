"""The build: which stage runs on what, in the picture's order. The command and the Prefect flow share it.

    ingest -> plan -> produce (conversations, then decode + features, with reserves) -> shards -> audit -> publish

Each step leaves its results in the workspace under a fingerprint, so a build that is run again takes
up where the last one stopped, however it stopped.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from flows.account import CUTS, make_account, make_flows
from flows.amend import Base, find_base, rearrange
from flows.at_hand import need_data, need_engine, need_terms
from flows.columns import Readers, refuse
from flows.display import Display
from flows.exclusion_files import read_exclusions
from flows.gallery import look
from flows.measuring import SPOKEN, Measuring, WithPasses
from flows.packing import Contents, Packing, Produced
from flows.publish import check_output, check_writable, publish
from flows.quarantine import Replaced, read_rejections, replacements, write_quarantine
from flows.stages import Opened, encoding, request_cache, talking
from flows.written_talks import WrittenTalks
from pipeline.audit.audit import AuditReport, audit
from pipeline.audit.report import REPORT, write_report
from pipeline.audit.talk_page import TALKS, write_talk_page
from pipeline.conversations.cache import RequestCache
from pipeline.conversations.tokens import tokenizer_sha256
from pipeline.features.origins import Stamp, check_unchanged, weights_stamp
from pipeline.plan.choose import Rows, choose, rank_hash, ranked
from pipeline.plan.cost import COST_VERSION, cost_of
from pipeline.plan.exclusions import Exclusions
from pipeline.plan.gates import Sieve
from pipeline.plan.order import place
from pipeline.plan.passes import Passes, check_apart
from pipeline.plan.quotas import quotas
from pipeline.runtime.carried import forget
from pipeline.runtime.contract import ContractError
from pipeline.runtime.local import LocalRunner, Runner
from pipeline.runtime.located import Located, Stored
from pipeline.runtime.passes import Cost, Pass, check_budget, metas, outcomes, run_pass
from pipeline.runtime.records import Records, keys_of
from pipeline.runtime.workspace import Artefact, Work, Workspace
from pipeline.shards.members import check_room_for_names
from pipeline.storage.places import Place
from pipeline.storage.places import place as located
from schemas.base import digest
from schemas.exclusions import ExclusionList
from schemas.ledger import Account, Change, Ledger
from schemas.plan import Barred, Quota, Stratum
from schemas.recipe import Recipe
from schemas.rejection import REJECTIONS, Rejection
from schemas.sample import Sample, Split, key_again

# Inputs a part: the unit of commit and resume. Fixed, because a part must mean the same in every run.
TALK_PART = 256
FEATURES_PART = 16
FEATURES_COST = 120_000_000
"""Of a part that is decoded and encoded, microseconds of `cost_of`: 16 films of a minute, or one of many. The last
part to end keeps no other worker waiting for longer than about that, or than one film takes.
"""


@dataclass(frozen=True)
class Wave:
    """One round of the costly work: the first choices, or the reserves of those that failed."""

    talks: Artefact
    features: Artefact
    redone: Artefact | None = None
    """Features of what failed in `features`, where encoders of columns were at work too: without those."""


class Build:
    """One build of one recipe. Call the steps in order, or `run`.

    With `amend` it changes the mixture in the recipe's output: the same samples are chosen as without, but those
    that are there already stay as they are and, wherever shares allow it, where they are.
    """

    ledger: Ledger
    """The account of the mixture, once `shards` is done."""
    findings: AuditReport
    """What the audit found, once `audit` is done."""

    def __init__(self, recipe: Recipe, runner: Runner, display: Display, amend: bool = False) -> None:
        self.recipe = recipe
        self.quotas: list[Quota] = []
        self.barred: tuple[Barred, ...] = ()
        self.exclusions: tuple[ExclusionList, ...] = ()
        self.rejections: dict[str, Rejection] = {}
        self._workspace = Workspace(located(recipe.workspace))
        self._runner = runner
        self._display = display
        self._stamps: dict[str, Stamp] = {}
        self._begun = False
        self._roots: dict[str, str] = {}
        self._ingested: list[Artefact] = []
        self._samples = Stored(Sample)
        self._excluded = Exclusions()
        self._tokenizer = ""
        self._passes = Passes(self._samples)
        self._chosen: dict[Stratum, Rows] = {}
        self._replaced: dict[str, Replaced] = {}
        self._waves: list[Wave] = []
        self._talks = Located()
        self._written = WrittenTalks(recipe.conversations, recipe.seed)
        self._encoded = Located()
        """How to read the latest outcome of each sample that was worked on."""
        self._amend = amend
        self._base: Base | None = None
        self._kept: frozenset[str] = frozenset()

    def steps(self) -> list[tuple[str, Callable[[], None]]]:
        """Name and action of each step, in order."""
        actions = (self.ingest, self.plan, self.produce, self.shards, self.audit, self.publish)
        return [(action.__name__, action) for action in actions]

    def run(self) -> None:
        """All steps. However they end, the rejections known by then can be listed afterwards."""
        try:
            for _, step in self.steps():
                step()
        finally:
            self.record_rejections()

    def record_rejections(self) -> None:
        """Writes what `mixture quarantine list` reads; a build that was refused at its begin knows nothing new."""
        if self._begun:
            write_quarantine(self.recipe, self.rejections.values(), self._replaced)

    def ingest(self, only_plan: bool = False) -> None:
        """Lists, fetches and probes every source's candidates. Raises BudgetError past a source's budget.

        What is missing is told before the first hour of work. A plan needs the data only.
        """
        need_data(self.recipe)
        self.exclusions = read_exclusions(self.recipe.mixture.exclude, self._excluded.add)
        check_writable(self._workspace.root)
        if not only_plan:
            need_terms(self.recipe)
            check_output(located(self.recipe.output), self.recipe.name)
            self._tokenizer = tokenizer_sha256(self.recipe.conversations.tokenizer)
            self._base = find_base(self.recipe, self._workspace, self._tokenizer) if self._amend else None
            # What weights are found now is what every worker must take.
            self._stamps = {name: weights_stamp(spec.weights) for name, spec in self.recipe.encoders.items()}
            need_engine(self.recipe)
        self._begun = True
        for spec in self.recipe.sources:
            opened = Opened(spec, self._workspace)
            opened.folder.mkdir(parents=True, exist_ok=True)
            artefact = self._pass(opened.ingest(self.recipe.decode), f"ingest {spec.name}")
            self._roots[spec.name] = opened.root
            self._ingested.append(artefact)
            self._samples.add(artefact)
            self._check_keys()
            check_budget("ingest", [artefact], self.recipe.budgets.ingest)

    def _check_keys(self) -> None:
        if key := self._samples.twice():
            sources = [sample.source for sample in self._samples.stream() if sample.key == key]
            raise ContractError(f"key {key!r} comes from {' and '.join(sources)}: one of them would be lost")

    def plan(self) -> None:
        """Bars what the recipe shuts out, then turns shares into exact quotas.

        Raises QuotaError if the candidates cannot fill them.
        """
        spec, seed = self.recipe.mixture, self.recipe.seed
        check_apart(self._samples, spec.last_epochs)
        sieve = Sieve(spec, self._excluded, self._samples.stream)
        self._candidates = ranked(sieve.entered(), seed, spec.categories, spec.repeats)
        self.barred = sieve.barred
        self._measuring = Measuring(self.recipe, self._candidates, self._passes)
        self.quotas = quotas(spec, self._candidates.counts(), self.barred, self._measuring.supply())
        check_room_for_names(self._candidates.longest_key, self.recipe)  # told now, not when all is encoded
        if self._base:
            self._kept = self._base.keepable(self._passes)
            self._measuring.kept(map(self._base.sample, self._kept))

    def first_choice(self) -> Sequence[Sample]:
        """The samples that the plan asks for if none fails, in an order that mixes the sources."""
        keys = self._keys(self._choose())
        return self._samples_of(sorted(keys, key=lambda key: rank_hash(self.recipe.seed, key)))

    def _choose(self) -> dict[Stratum, Rows]:
        """Of those that have not failed."""
        failed = {
            key_again(key, epoch)
            for key in self.rejections
            if key in self._samples
            for epoch in range(self.recipe.mixture.last_epochs.get(self._samples[key].source, 0) + 1)
        }
        return choose(self.quotas, self._candidates, failed, self._measuring.sizes)

    def _keys(self, chosen: Mapping[Stratum, Rows]) -> list[str]:
        return [key for rows in chosen.values() for key in self._candidates.keys_at(rows)]

    @property
    def roots(self) -> Mapping[str, str]:
        """The media folder of each source, once `ingest` is done."""
        return self._roots

    def produce(self) -> None:
        """Talks about, decodes and encodes the chosen, unless kept, then as many reserves as failures call for.

        Nothing of that where the shards are whole: they tell whom they rejected.
        """
        if found := self._packing.shards:
            self.rejections |= {refused.key: refused for refused in read_rejections(found.folder / REJECTIONS)}
            return
        while todo := self._todo():
            label = f" (reserves, round {len(self._waves)})" if self._waves else ""
            self._waves.append(self._wave(todo, label))
            passed = sum(key in self._kept for key in self._keys(self._chosen)) if self._kept else 0
            talks, features = [wave.talks for wave in self._waves], [wave.features for wave in self._waves]
            budget, copies = self.recipe.budgets.conversations, self._written.copies
            check_budget("conversations", talks, budget, passed=passed, late=copies)
            check_budget("features", features, self.recipe.budgets.features, self._redone_passes(), passed)
        self._replaced = replacements(self._candidates, self._chosen, self.rejections.keys())
        if self.recipe.conversations.generator == "model":
            RequestCache(request_cache(self._workspace.root)).compact()  # no worker writes now

    def _todo(self) -> list[str]:
        """Who is chosen now and not worked on yet. A later pass takes what the first one gave."""
        self._chosen = self._choose()
        keys = dict.fromkeys(self._passes.first(k) for k in self._keys(self._chosen) if k not in self._kept)
        return [key for key in keys if key not in self._encoded]

    def _samples_of(self, keys: Sequence[str]) -> Records[Sample]:
        return Records(keys, self._passes.__getitem__)

    def _wave(self, keys: Sequence[str], label: str) -> Wave:
        silent = self._samples_of([key for key in keys if key not in self._talks])
        talks = self._pass(self._talking(silent), f"conversations{label}")
        self._talks.add(talks)
        self._measuring.spoken(talks)
        refused = self._written.add(metas(talks))
        self.rejections |= {each.key: self._placed(each) for each in refused}
        # Talks that proved longer than thought leave some of these in reserve: those are not encoded.
        wanted = self._todo() if self.recipe.mixture.unit in SPOKEN else keys
        alive = [key for key in wanted if key in self._talks and key not in self.rejections]
        encoders = list(self.recipe.encoders)
        features = self._pass(self._encoding(self._samples_of(alive), encoders), f"features{label}")
        wave = Wave(talks, features, self._redone(alive, label))
        for artefact in filter(None, (features, wave.redone)):
            self._encoded.add(artefact)
            self._measuring.encoded(artefact, self._talks, self._encoded)
        return wave

    def _redone(self, keys: Sequence[str], label: str) -> Artefact | None:
        """A column never decides what a mixture holds, so what failed beside its encoder is tried without it."""
        failed = [key for key in keys if key in self.rejections]
        if not failed or not self.recipe.columns:
            return None
        for key in failed:
            del self.rejections[key]
        encoders = list(self.recipe.without_columns().encoders)
        return self._pass(self._encoding(self._samples_of(failed), encoders), f"features, without columns{label}")

    def _redone_passes(self) -> list[Artefact]:
        return [wave.redone for wave in self._waves if wave.redone]

    def _talking(self, samples: Sequence[Sample]) -> Pass:
        recipe = self.recipe
        talk = recipe.conversations.model_dump(mode="json")
        config = {"conversations": talk, "seed": recipe.seed, "tokenizer": self._tokenizer}
        made_of = self._ingest_fingerprints()
        return Pass("conversations", talking(recipe), config, samples, made_of, TALK_PART, digest)

    def _encoding(self, samples: Sequence[Sample], names: Sequence[str], check_digests: bool = False) -> Pass:
        recipe = self.recipe
        encoders = {name: recipe.encoders[name] for name in names}
        stamps = {name: self._stamps[name] for name in encoders}
        for name, spec in encoders.items():
            check_unchanged(spec.weights, stamps[name])
        stages = encoding(recipe, names, self._roots, stamps, check_digests)
        config = {
            "decode": recipe.decode.model_dump(mode="json"),
            "encoders": [[name, spec.model_dump(mode="json")] for name, spec in encoders.items()],
            "weights": stamps,
            "frames": recipe.shards.model_dump(mode="json", exclude=CUTS),
        }
        sources, cost = self._ingest_fingerprints(), self._cost(len(names))
        return Pass("features", stages, config, samples, sources, FEATURES_PART, digest, cost)

    def _cost(self, encoders: int) -> Cost:
        def of(sample: Sample) -> int:
            return cost_of(sample, self.recipe.decode, encoders)

        return Cost(of, COST_VERSION, FEATURES_COST)

    def _ingest_fingerprints(self) -> tuple[str, ...]:
        return tuple(artefact.fingerprint for artefact in self._ingested)

    def _pass(self, job: Pass, label: str) -> Artefact:
        with self._display.progress(label, len(job.inputs)) as progress:
            artefact = run_pass(self._workspace, job, self._runner, progress)
        self.rejections |= {refused.key: self._placed(refused) for refused in outcomes(artefact, Rejection)}
        return artefact

    def _placed(self, refused: Rejection) -> Rejection:
        """With source and place of the bytes, which a stage that never saw the sample cannot know."""
        sample = self._samples.get(refused.key)
        if sample is None or (refused.source and refused.where):
            return refused
        where = refused.where or ", ".join(medium.path for medium in sample.media)
        return refused.model_copy(update={"source": sample.source, "where": where})

    def shards(self) -> None:
        """Orders what survived and packs it; the artefact holds all of the mixture but its report."""
        self._packed = self._packing.pack(None if self._packing.shards else self._produced())
        self.ledger = Ledger.read(self._packed.folder)

    @cached_property
    def _packing(self) -> Packing:
        return Packing(
            self.recipe,
            self._workspace,
            self._display,
            self._passes,
            self._ingest_fingerprints(),
            self.exclusions,
            self._stamps,
            self._tokenizer,
            self._late,
            self._base,
            self._kept,
        )

    def _produced(self) -> Produced:
        features = Located(wave.features for wave in self._waves)
        talks, encoded, of_columns = (
            WithPasses(each, self._passes) for each in (self._talks, self._encoded, features)
        )
        contents = Contents(self.recipe, self._passes, talks, encoded, self._base, self._kept)
        placed, starts, change = self._order(contents)
        order = {split: self._samples_of(self._candidates.keys_at(rows)) for split, rows in placed.items()}
        keys = [key for samples in order.values() for key in keys_of(samples)]
        account = self._account(keys, change)
        return Produced(order, starts, contents, of_columns, account, self.rejections.values())

    def _order(self, contents: Contents) -> tuple[dict[Split, Rows], dict[Split, list[int]], Change | None]:
        wanted = dict.fromkeys(quota.stratum.split for quota in self.quotas if quota.samples or quota.target)
        chosen = {split: {s: rows for s, rows in self._chosen.items() if s.split is split} for split in wanted}
        if self._base:
            return rearrange(self._base, self._candidates, chosen, self._kept, self.recipe, contents.size)
        keys, epochs = self._candidates.keys, self._candidates.epochs
        return {split: place(own, keys, self.recipe.seed, epochs) for split, own in chosen.items()}, {}, None

    def _late(self, samples: Sequence[Sample], lacking: Sequence[str]) -> Readers:
        """Features for columns of shards that are whole; the media must still be those that were ingested."""
        columns = self.recipe.columns
        # A run that was killed between two columns has encoded all that lacked then: the first ones are made first.
        wider = [columns[start:] for start in range(len(columns)) if set(lacking) <= set(columns[start:])]
        firsts = self._samples_of([key for key in keys_of(samples) if self._passes.first(key) == key])
        jobs = [self._encoding(firsts, names, check_digests=True) for names in (*wider, lacking)]
        job = next((job for job in jobs if self._workspace.find(job.work)), jobs[-1])
        artefact = self._pass(job, "features of new columns")
        if refused := list(outcomes(artefact, Rejection)):
            # A film may come back, a worker may live: they are tried again.
            forget(artefact.folder, {each.key for each in refused})
            raise refuse(lacking, refused, len(firsts))
        return WithPasses(Located([artefact]), self._passes)

    def _account(self, keys: Sequence[str], change: Change | None) -> Account:
        refused = Counter(refused.stage for refused in self.rejections.values())
        talks, features = [wave.talks for wave in self._waves], [wave.features for wave in self._waves]
        barred = sum(row.samples for row in self.barred)
        firsts = sum(self._passes.first(key) == key for key in keys)
        packed = sum(key in self._encoded for key in keys)
        kept = firsts - packed
        copies = self._written.copies
        flows = make_flows(
            self._ingested, talks, features, self._redone_passes(), refused, packed, barred, kept, copies
        )
        history = (*self._base.ledger.history, change) if self._base and change else ()
        return make_account(
            self.recipe.without_columns(),
            self.quotas,
            self._candidates,
            self._chosen,
            flows,
            self.rejections.values(),
            self.barred,
            len(keys) - firsts,
            self._tokenizer,
            history,
            self.exclusions,
            self._written.account(),
        )

    def audit(self) -> None:
        """Recounts the mixture from its tars and draws the report."""
        with self._display.progress("audit", 1) as progress:
            self.findings = audit(self._packed.folder)
            told = {"findings": digest(self.findings), "prices": digest(self.recipe.runtime.allowance.prices)}
            work = Work("report", 2, told, (self._packed.fingerprint,))
            self._report = self._workspace.once(work, self._draw)
            progress(1, 1)

    def _draw(self, folder: Place) -> Mapping[str, int]:
        shown = look(self._packed.folder, self.ledger, self._passes, self.recipe.decode, self._roots)
        write_report(folder / REPORT, self.ledger, self.findings.findings, shown.gallery, shown.figures)
        write_talk_page(
            folder / TALKS, self.ledger, shown.talk_figures, shown.talks, self.recipe.runtime.allowance.prices
        )
        return {"findings": sum(self.findings.finding_counts.values())}

    def publish(self) -> None:
        """Puts the mixture where the recipe wants it, unless its audit failed: what lies there may be sound."""
        if self.findings.ok:
            pages = {name: self._report.folder / name for name in (REPORT, TALKS)}
            publish(self.packed, pages, located(self.recipe.output))

    @property
    def packed(self) -> Place:
        """The mixture in the workspace, once `shards` is done."""
        return self._packed.folder

    @property
    def folder(self) -> Place:
        """Where the mixture lies when all is done: not in the output if its audit found something."""
        return located(self.recipe.output) if self.findings.ok else self.packed

    @property
    def report(self) -> Place:
        """The report of the mixture in `folder`."""
        return (self.folder if self.findings.ok else self._report.folder) / REPORT


@contextmanager
def opened_build(recipe: Recipe, display: Display, amend: bool = False) -> Iterator[Build]:
    """A build on the recipe's runner, which is stopped at the end."""
    if recipe.runtime.runner == "local":
        yield Build(recipe, LocalRunner(), display, amend)
        return
    # Only here: importing Ray takes longer than most commands.
    from pipeline.runtime.ray import RayRunner

    # A part may hold nothing but films that each meet their deadline; then there is an hour to encode.
    deadline_s = FEATURES_PART * recipe.decode.deadline_s + 3600
    with RayRunner(recipe.runtime.workers, deadline_s, recipe.runtime.gpu_workers) as runner:
        yield Build(recipe, runner, display, amend)
