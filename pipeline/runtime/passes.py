"""A pass: every input through a chain of stages, kept in parts, resumable, with nothing lost.

    <workspace>/<stage>/<fingerprint>/parts/00000.arrow ...   then manifest.json

A part is a run of the inputs, fixed by their number and cost, so its file means the same in every run. A killed
pass leaves whole parts, which the next run keeps, and attempts, which nobody reads. Rows that other passes have
(`pipeline.runtime.carried`), or that a part kept when others were taken out of it, are not made again.
"""

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeVar

from pipeline.runtime.carried import Carried, Identity, write_inputs, write_pass
from pipeline.runtime.contract import BudgetError, ContractError, Keyed, Stage
from pipeline.runtime.cuts import Bound, runs
from pipeline.runtime.local import Done, Job, Runner
from pipeline.runtime.located import PartRow, Reader
from pipeline.runtime.records import keys_of
from pipeline.runtime.rows import ROWS_VERSION, changed, read_records, read_rows, read_types, write_rows
from pipeline.runtime.workspace import Artefact, Work, Workspace
from pipeline.storage.files import attempt_path, commit
from pipeline.storage.places import Place
from schemas.base import Record, digest
from schemas.manifest import Part
from schemas.rejection import Rejection

Kind = TypeVar("Kind")

Progress = Callable[[int, int], None]
"""Called with (inputs done, inputs in all)."""


@dataclass(frozen=True)
class Cost:
    """What a pass takes for an input, so that no part is much more work than the others."""

    of: Callable[[Any], int]
    """From an input to its cost, in units of its own: a pure function."""
    version: int
    """Raise it when `of` gives other costs."""
    part: int
    """Most that the inputs of a part cost together; one that costs more by itself is a part of its own."""


@dataclass(frozen=True)
class Pass:
    """What to run over which inputs."""

    name: str
    stages: tuple[Stage[Any, Any], ...]
    config: Any
    """JSON-like config of the stages, as the fingerprint sees it."""
    inputs: Sequence[Keyed]
    sources: tuple[str, ...]
    """Fingerprints of the artefacts that `inputs` come from."""
    part_size: int
    """Most inputs of a part: the unit of dispatch, commit and resume."""
    identity: Identity | None = None
    """Tells whether an input is the one that another pass had; None where no row is taken over."""
    cost: Cost | None = None
    """None where parts are cut by number alone."""

    @property
    def work(self) -> Work:
        """Identity of this pass: the stages' names and versions, config, inputs, and how they are cut."""
        versions = [[stage.name, stage.version] for stage in self.stages]
        keys = digest(keys_of(self.inputs))
        # What an input costs follows from the input, so where parts are cut is known by its rule.
        rule = {"cost": [self.cost.version, self.cost.part]} if self.cost else {}
        config = {"stages": versions, "config": self.config, "keys": keys, "part_size": self.part_size, **rule}
        return Work(self.name, ROWS_VERSION, config, self.sources)

    def jobs(self, folder: Place) -> list[Job]:
        """One job a part, in order. Where parts are cut by cost, each input is read for it."""
        costs = [self.cost.of(each) for each in self.inputs] if self.cost else [0] * len(self.inputs)
        bound = Bound(self.part_size, self.cost.part if self.cost else 0)
        jobs: list[Job] = []
        start = 0
        for part in runs(costs, int, bound):
            path = folder / "parts" / f"{len(jobs):05d}.arrow"
            jobs.append(Job(self.inputs[start : start + len(part)], path, sum(part)))
            start += len(part)
        return jobs


def run_pass(workspace: Workspace, job_pass: Pass, runner: Runner, progress: Progress) -> Artefact:
    """Runs what is not done yet and returns the whole artefact.

    Raises ContractError if any part does not answer exactly its inputs' keys, in order (law 1).
    """
    work = job_pass.work
    if found := workspace.find(work):
        progress(len(job_pass.inputs), len(job_pass.inputs))
        return found
    folder = workspace.folder(work)
    (folder / "parts").mkdir(parents=True, exist_ok=True)
    write_pass(folder, work)
    jobs = job_pass.jobs(folder)
    # One list, not a question a part: a part that a late list leaves out is done again, to nobody's harm.
    there = {path.name for path in (folder / "parts").iterdir()}
    parts = _Parts(job_pass, there, Carried(workspace, work, job_pass.identity) if job_pass.identity else None)
    todo = [lacking for job in jobs if (lacking := parts.lacking(job))]
    finished = len(job_pass.inputs) - sum(len(job.inputs) for job in todo)
    progress(finished, len(job_pass.inputs))
    for done in runner.run(job_pass.stages, todo):
        parts.commit(done)
        finished += len(done.job.inputs)
        progress(finished, len(job_pass.inputs))
    return workspace.finish(work, [_account(job) for job in jobs])


class _Parts:
    """The parts of a pass at work: of each, the rows that are there already."""

    def __init__(self, job_pass: Pass, there: Container[str], carried: Carried | None) -> None:
        self._there = there
        self._identity = job_pass.identity
        self._carried = carried
        self._begun: dict[Place, tuple[Job, dict[str, Reader]]] = {}
        """Jobs that lack some rows only, and how to read the others."""

    def lacking(self, job: Job) -> Job | None:
        """What is left to do of a job: all of it, some inputs, or nothing, and then its part is there."""
        keys = job.keys
        known: dict[str, Reader] = {}
        if job.path.name in self._there:
            rows = [key for key, _ in read_types(job.path)]
            known = {key: PartRow(job.path, row) for row, key in enumerate(rows)}
            if rows == keys or not known.keys() <= set(keys):
                return None  # whole; or another's, which the account will tell
        if self._carried and any(self._carried.holds(key) for key in keys if key not in known):
            found = {record.key: self._carried.find(record) for record in job.batch if record.key not in known}
            known |= {key: place for key, place in found.items() if place}
        if not known:
            return job
        if len(known) == len(keys):
            self._write(job, known)
            return None
        self._begun[job.path] = job, known
        left = [record for record in job.batch if record.key not in known]
        return Job(left, job.path, job.cost * len(left) // len(keys), is_whole=False)

    def commit(self, done: Done) -> None:
        """Makes the part of what was left to do, and of the rows that were there."""
        if done.job.path not in self._begun:
            self._tell(done.job)
            commit(done.attempt, done.job.path)
            changed(done.job.path)
            return
        job, known = self._begun.pop(done.job.path)
        made = {key: PartRow(done.attempt, row) for row, (key, _) in enumerate(read_types(done.attempt))}
        if list(made) != done.job.keys:
            raise ContractError(f"{done.attempt} answers keys {list(made)}, asked were {done.job.keys}")
        self._write(job, {**known, **made})
        done.attempt.unlink()

    def _write(self, job: Job, rows: Mapping[str, Reader]) -> None:
        attempt = attempt_path(job.path)
        write_rows(attempt, [rows[key]() for key in job.keys])
        self._tell(job)
        commit(attempt, job.path)
        changed(job.path)

    def _tell(self, job: Job) -> None:
        if self._identity:
            write_inputs(job.path, job.batch, self._identity)


def _account(job: Job) -> Part:
    rows = read_types(job.path)
    asked, answered = job.keys, [key for key, _ in rows]
    if asked != answered:
        raise ContractError(f"{job.path} answers keys {answered}, asked were {asked}")
    rejected = sum(kind == Rejection.__name__ for _, kind in rows)
    return Part(name=job.path.name, inputs=len(asked), outputs=len(asked) - rejected, rejected=rejected)


def outcomes(artefact: Artefact, kind: type[Kind]) -> Iterator[Kind]:
    """The outcomes of one type, in the order of the inputs; the others are not read."""
    for part in artefact.manifest.parts:
        yield from read_rows(artefact.folder / "parts" / part.name, kind)


def metas(artefact: Artefact) -> Iterator[Record]:
    """The record of every outcome, in the order of the inputs; of features without their arrays."""
    for part in artefact.manifest.parts:
        yield from read_records(artefact.folder / "parts" / part.name)


def check_budget(
    stage: str,
    artefacts: Sequence[Artefact],
    budget: Fraction,
    redone: Sequence[Artefact] = (),
    passed: int = 0,
    late: int = 0,
) -> None:
    """Raises BudgetError when the artefacts of a stage together refused more than `budget` allows.

    What a second try in `redone` let through was not refused; `passed` more went through in an earlier build, and
    `late` more were refused afterwards.
    """
    parts = [part for artefact in artefacts for part in artefact.manifest.parts]
    inputs, rejected = passed + sum(part.inputs for part in parts), late + sum(part.rejected for part in parts)
    rejected -= sum(part.outputs for artefact in redone for part in artefact.manifest.parts)
    if rejected > budget * inputs:
        raise BudgetError(
            f"{stage} rejected {rejected} of {inputs} ({rejected / inputs:.1%}), more than the budget of "
            f"{float(budget):.1%}. See why with `mixture quarantine list`, then mend the data or raise "
            f"budgets.{stage} in the recipe."
        )
