"""What the command prints: tables for a person, JSON for a program."""

import json
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any, get_args

import typer
from rich.console import Console
from rich.table import Table

from flows import plan_rows
from flows.change_rows import CHANGE_COLUMNS, change_rows
from flows.planning import Plan
from pipeline.plan.quotas import told
from pipeline.storage.places import Place, place
from pipeline.train import METRICS
from schemas.arrays import EncoderProvenance
from schemas.ledger import LEDGER, Count, Ledger
from schemas.plan import Quota
from schemas.recipe import Recipe
from schemas.sample import Modality
from schemas.sources import SourceSpec
from schemas.units import Unit

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from pipeline.shards.reader import StoredSample

Row = Sequence[object]

SCORE_COLUMNS = ["questions on", "#asked", "#model", "#best blind", "#p"]

TOPIC = "topic: "

FIRST_SAMPLES = 3
"""Samples that `mixture inspect` shows where no key is given."""


def _console() -> Console:
    return Console(highlight=False, soft_wrap=True, emoji=False)


def print_json(value: Any) -> None:
    """For a program."""
    # Not through Rich, which would wrap lines and read emoji codes into them.
    typer.echo(json.dumps(value, ensure_ascii=False, indent=1))


def print_table(title: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
    """Prints a table; columns whose name begins with `#` hold numbers."""
    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    for column in columns:
        number = column.startswith("#")
        table.add_column(column.removeprefix("#"), justify="right" if number else "left", overflow="fold")
    for row in rows:
        table.add_row(*(_plain(cell) for cell in row))
    console = _console()
    console.print(table)
    console.print()


def print_lines(lines: Iterable[str]) -> None:
    """Lines as they are, but for what a terminal would obey."""
    for line in lines:
        _console().print(_printable(line), markup=False)


def _plain(cell: object) -> str:
    text = f"{cell:,}" if isinstance(cell, int) else _printable(str(cell))
    return text.replace("[", r"\[")


def _printable(text: str) -> str:
    """Strangers' text without control characters, which a terminal would obey."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


def print_source_kinds() -> None:
    """The kinds of source, with what each is."""
    kinds = get_args(get_args(SourceSpec)[0])
    rows = [(get_args(kind.model_fields["kind"].annotation)[0], (kind.__doc__ or "").strip()) for kind in kinds]
    print_table("Sources a recipe can name", ["kind", "what it is"], rows)


def print_plan(plan: Plan, as_json: bool) -> None:
    """The quotas where samples were counted, the workload part by part, and what it takes."""
    if as_json:
        print_json(_plan_json(plan))
        return
    for note in plan.notes:
        _console().print(f"note: {_printable(note)}", markup=False)
    if plan.quotas:
        print_table("Plan", plan_rows.QUOTA_COLUMNS, plan_rows.quota_rows(plan))
    if plan.barred:
        print_table("Barred by the recipe's gates", plan_rows.BARRED_COLUMNS, plan_rows.barred_rows(plan))
    origin = "counted" if plan.workload.origin == "counted" else "stated, not counted"
    print_table(f"Workload, {origin}", plan_rows.PART_COLUMNS, plan_rows.part_rows(plan))
    print_table("What it takes", plan_rows.TAKES_COLUMNS, plan_rows.takes_rows(plan))
    if plan.total.rates:
        _console().print(f"rates: {_printable(plan.total.rates)}\n", markup=False)
    if plan.statement:
        _console().print("[bold]What the stated numbers rest on[/]")
        for basis, names in plan_rows.basis_rows(plan.statement):
            _console().print(f"  {_printable(basis)} <- {names}", markup=False)


def _plan_json(plan: Plan) -> dict[str, Any]:
    parts = zip(plan.workload.parts, plan.parts, strict=True)
    return {
        "origin": plan.workload.origin,
        "notes": list(plan.notes),
        "quotas": [_quota_json(quota) for quota in plan.quotas],
        "barred": [row.model_dump(mode="json") for row in plan.barred],
        "parts": [
            {**work.model_dump(mode="json"), "capacity": needed.model_dump(mode="json")} for work, needed in parts
        ],
        "capacity": plan.total.model_dump(mode="json"),
        "statement": plan.statement.model_dump(mode="json") if plan.statement else None,
    }


def _quota_json(quota: Quota) -> dict[str, Any]:
    """The quota in its unit, seconds in nanoseconds; reserves are known of samples only."""
    by_samples = quota.unit is Unit.SAMPLES
    return {
        "stratum": quota.stratum.label,
        "unit": quota.unit.field,
        "quota": quota.samples if by_samples else quota.target,
        "candidates": quota.candidates,
        "reserves": quota.candidates - quota.samples if by_samples else None,
    }


def print_samples(folder: Place, split: str, key: str) -> None:
    """One sample, or the first few. Raises LookupError for a key that is not there."""
    from pipeline.shards.reader import ShardReader

    reader = ShardReader(folder, split)
    ledger = Ledger.read(folder)
    encoders = [encoder.name for encoder in ledger.encoders]
    positions = [reader.position(key)] if key else range(min(FIRST_SAMPLES, len(reader)))
    for position in positions:
        _print_sample(reader.read(position, encoders, bool(ledger.frames_for)), ledger.encoders)


def _print_sample(stored: "StoredSample", encoders: Sequence[EncoderProvenance]) -> None:
    sample, console = stored.sample, _console()
    console.print(f"[bold]{sample.key}[/]  {sample.modality}, {sample.category}, {sample.licence}")
    for medium in sample.media:
        console.print(f"  {medium.kind} {medium.path} {medium.width}x{medium.height}", markup=False)
    for clip in sample.clips:
        shown = " ".join(f"{pts / 1e9:.3f}" for pts in clip.pts_ns)
        console.print(f"  clip {clip.start_ns / 1e9:g}-{clip.exclusive_end_ns / 1e9:g} s, shown at {shown} s")
    arrays: dict[str, NDArray[Any]] = {**stored.features, **{f"{n} frames": a for n, a in stored.frames.items()}}
    for name, array in arrays.items():
        console.print(f"  {name}: {list(array.shape)} {array.dtype}", markup=False)
    for encoder in encoders:
        console.print(f"  {encoder.name}: {encoder.architecture}, weights {encoder.weights}", markup=False)
    for turn in sample.conversations:
        console.print(f"  {turn.role}: {_printable(turn.content)}", markup=False)
    console.print(f"  generator {sample.generator.name}, annotated by {sample.annotator.name}\n", markup=False)


def print_scores(scores: Mapping[str, Any], as_json: bool) -> None:
    """Accuracy beside the best blind baseline, overall, by evidence and by topic; `scores` as dumped."""
    if as_json:
        print_json(scores)
        return
    print_table("Held-out questions", SCORE_COLUMNS, _score_rows(scores))


def _score_rows(scores: Mapping[str, Any]) -> list[tuple[str, int, str, str, str]]:
    rows = [("all", scores["overall"])]
    rows += [(f"evidence: {name}", score) for name, score in scores["by_evidence"].items()]
    rows += [(f"{TOPIC}{name}", score) for name, score in scores["by_topic"].items()]
    return [
        (label, s["questions"], _percent(s["accuracy"]), _percent(s["best_blind"]), f"{s['p_value']:.1e}")
        for label, s in rows
    ]


def print_status(recipe: Recipe, as_json: bool) -> None:
    """What stands: the mixture's shares and conservation, the training's losses, the scores."""
    state = _state(recipe)
    if as_json:
        print_json(state)
        return
    if not state["built"]:
        _console().print(f"{recipe.output}: not built yet; run `mixture build`")
        return
    print_table("Samples", ["split/modality", "#asked", "#found", "#share"], state["samples"])
    _print_flows(state["flows"])
    if state["history"]:
        print_history(Ledger.read(place(recipe.output)))
    if state["training"]:
        print_table("Loss", ["stage", "#steps", "#start", "#end"], state["training"])
    if state["scores"]:
        print_table("Held-out questions", SCORE_COLUMNS, state["scores"])
    for encoder in state["encoders"]:
        _console().print(f"encoder {encoder}", markup=False)
    _console().print(f"text share: {state['text']}\nreport: {state['report']}")


def _state(recipe: Recipe) -> dict[str, Any]:
    folder = place(recipe.output)
    if not (folder / LEDGER).is_file():
        return {"built": False}
    ledger = Ledger.read(folder)
    from flows.learning import find_scores, find_training

    trained, scored = find_training(recipe), find_scores(recipe)
    metrics = json.loads((trained.folder / METRICS).read_bytes())["stages"] if trained else []
    rows = _score_rows(json.loads(scored.read_bytes())) if scored else []
    return {
        "built": True,
        "samples": _sample_rows(ledger),
        "text": _text_share(ledger),
        "flows": _flow_rows(ledger),
        "history": [change.model_dump(mode="json") for change in ledger.history],
        "training": [(s["name"], s["steps"], f"{s['loss_start']:.3f}", f"{s['loss_end']:.3f}") for s in metrics],
        "scores": [row for row in rows if not row[0].startswith(TOPIC)],
        "encoders": [f"{encoder.name}: weights {encoder.weights}" for encoder in ledger.encoders],
        "report": str(folder / "report.html"),
    }


def _flow_rows(ledger: Ledger) -> list[tuple[object, ...]]:
    """With what the gates bar, and what is kept of the mixture before, where there is any."""
    is_gated, is_amended = any(f.barred for f in ledger.flows), any(f.kept for f in ledger.flows)
    return [
        (
            f.stage, f.inputs, f.outputs, f.rejected, f.reserve,
            *([f.barred] if is_gated or is_amended else []), *([f.kept] if is_amended else []),
        )
        for f in ledger.flows
    ]  # fmt: skip


def _print_flows(rows: Sequence[Row]) -> None:
    columns = ["stage", "#in", "#out", "#rejected", "#reserve", "#barred", "#kept"]
    columns = columns[: max(map(len, rows), default=5)]
    more = "".join(f" + {column[1:]}" for column in columns[5:])
    print_table(f"In = out + rejected + left in reserve{more}", columns, rows)


def print_history(ledger: Ledger) -> None:
    """What the mixture was before, where it was changed."""
    if ledger.history:
        print_table("Changes, the last one last", CHANGE_COLUMNS, change_rows(ledger.history))


def _sample_rows(ledger: Ledger) -> list[tuple[str, int, int, str]]:
    asked: dict[str, int] = {}
    for row in ledger.asked:
        label = "/".join(row.stratum.split("/")[:2])
        asked[label] = asked.get(label, 0) + row.asked
    return [
        (label, asked.get(label, 0), count.samples, _percent(_share(ledger, label)))
        for label, count in ledger.by_modality.items()
    ]


def _share(ledger: Ledger, label: str) -> Fraction:
    """In the unit of the mixture."""
    found, total = ledger.by_modality.get(label, Count()), ledger.total[label.partition("/")[0]]
    return Fraction(found.of(ledger.unit), total.of(ledger.unit) or 1)


def _text_share(ledger: Ledger) -> str:
    share, asked = _share(ledger, "train/text"), ledger.shares.get(Modality.TEXT, Fraction(0))
    unit, train = ledger.unit, ledger.total["train"]
    if unit is not Unit.SAMPLES:
        return f"{float(100 * share):.4g} % of {told(train.of(unit), unit)}, asked {float(asked):g} %"
    count = ledger.by_modality.get("train/text", Count()).samples
    return f"{count} of {train.samples} = {float(100 * share):g} %, asked {float(asked):g} %"


def _percent(share: float | Fraction) -> str:
    return f"{float(100 * share):.1f} %"
