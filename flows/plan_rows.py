"""The tables of `mixture plan` as plain rows, in units that a person reads: 38.0 TB, 1,234 h."""

from collections.abc import Iterator

from flows.planning import Plan
from pipeline.plan.quotas import told
from schemas.capacity import Capacity
from schemas.units import Unit
from schemas.workload import StatedWorkload

UNKNOWN = "unknown: mixture calibrate, then --rates"
UNKNOWN_FULL = "unknown: mixture calibrate; or --rates stated-h100"
"""For the encoders that the packaged rates are stated for."""

Row = tuple[object, ...]

QUOTA_COLUMNS = ("stratum", "#quota", "#candidates", "#reserves")
BARRED_COLUMNS = ("stratum", "gate", "what it shuts out", "#samples")
PART_COLUMNS = ("part", "#samples", "#clips", "#images", "#film", "#stored")
TAKES_COLUMNS = ("what", "#amount")


def quota_rows(plan: Plan) -> list[Row]:
    """Of every stratum: quota, candidates, and what is left of them."""
    return [
        (q.stratum.label, q.samples, q.candidates, q.candidates - q.samples)
        if q.unit is Unit.SAMPLES
        else (q.stratum.label, told(q.target, q.unit), q.candidates, "as many as are left")
        for q in plan.quotas
    ]


def barred_rows(plan: Plan) -> list[Row]:
    """What the gates shut out, by stratum and reason."""
    return [(row.stratum, row.gate, row.value, row.samples) for row in plan.barred]


def part_rows(plan: Plan) -> list[Row]:
    """Totals of every part, and of all: samples, clips of films, images, hours of film, stored bytes."""
    named = [(part.part, part, needed) for part, needed in zip(plan.workload.parts, plan.parts, strict=True)]
    return [
        (name, work.samples, work.clips, work.images, hours(work.film_ns / 3.6e12), size(needed.stored_bytes))
        for name, work, needed in [*named, ("total", plan.workload.total, plan.total)]
    ]


def takes_rows(plan: Plan) -> list[Row]:
    """What the whole takes: bytes, hours, tokens, money."""
    needed = plan.total
    rows: list[Row] = [(f"features of {name}", size(number)) for name, number in needed.feature_bytes.items()]
    rows += [
        (f"frames in the shards, of {plan.workload.total.clips_with_frames:,} clips", _frames(needed)),
        ("stored in all", size(needed.stored_bytes)),
        *_tokens(needed),
    ]
    if needed.decode_core_h is None or needed.encode_device_h is None:
        is_full = all(encoder.size == "full" for encoder in plan.recipe.encoders.values())
        return [*rows, ("hours and money", UNKNOWN_FULL if is_full else UNKNOWN)]
    rows += [("core hours of decoding", hours(needed.decode_core_h))]
    rows += [(f"device hours of {name}", hours(spent)) for name, spent in needed.encode_device_h.items()]
    if needed.talks:
        known = needed.generate_device_h
        rows += [("device hours of generation", "unknown to these rates" if known is None else hours(known))]
    return [*rows, *_money(needed)]


def _frames(needed: Capacity) -> str:
    return ("about " if needed.is_frame_bytes_estimated else "") + size(needed.frame_bytes)


def _tokens(needed: Capacity) -> list[Row]:
    if not needed.talks:
        return [("tokens generated", "0: no chat model is asked")]
    return [
        ("talks generated", needed.talks),
        ("prompt tokens", needed.prompt_tokens),
        ("tokens generated", needed.reply_tokens),
    ]


def _money(needed: Capacity) -> list[Row]:
    no_prices = "unknown: put prices into the rates"
    of = "cost, without generation" if needed.generate_device_h is None else "cost"
    rows = [(of, needed.cost), ("cost a month, to keep it", needed.cost_a_month)]
    return [(what, f"{sum_:,.2f} {needed.currency}".strip() if sum_ else no_prices) for what, sum_ in rows]


def basis_rows(statement: StatedWorkload) -> list[tuple[str, str]]:
    """What the stated numbers rest on, each basis once, and the numbers."""
    found: dict[str, list[str]] = {}
    for name, basis in _bases(statement):
        found.setdefault(basis, []).append(name)
    return [(basis, ", ".join(names)) for basis, names in found.items()]


def _bases(statement: StatedWorkload) -> Iterator[tuple[str, str]]:
    for part in statement.parts:
        numbers = {
            "samples": part.samples, "films": part.films, "max_clips": part.max_clips, "images": part.images,
            "frames": part.frames,
        }  # fmt: skip
        if part.talks:
            numbers |= {f"talks.{name}": getattr(part.talks, name) for name in type(part.talks).model_fields}
        yield from ((f"{part.part} {name}", each.basis) for name, each in numbers.items() if each)


def hours(number: float) -> str:
    """`1,234 h`, and two digits below ten."""
    return f"{number:,.0f} h" if number >= 1000 else f"{number:,.1f} h" if number >= 10 else f"{number:.2g} h"


def size(number: int) -> str:
    """`38.0 TB`: a thousand at a step, as disks are sold."""
    value, units = float(number), ["B", "kB", "MB", "GB", "TB", "PB"]
    while value >= 999.95 and len(units) > 1:
        value, units = value / 1000, units[1:]
    return f"{number} B" if units[0] == "B" else f"{value:,.1f} {units[0]}"
