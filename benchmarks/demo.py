"""Headline: from nothing built to an audited mixture and a model that sees, on this machine.

Runs the steps of `make demo` in an empty folder and times each. The ceiling is the sum of what the
work itself costs (rendering, decoding, encoding, training); this measures how far start-up, transport
and bookkeeping push the whole above it, and whether the trained model beats the best blind baseline.

    python benchmarks/demo.py [recipe]        table, then one line of JSON
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

STEPS = ("build", "audit", "train", "evaluate")


def main(recipe: str = "demo") -> None:
    """Runs and times the steps; the last line printed is JSON."""
    with tempfile.TemporaryDirectory() as folder:
        options = ["--workspace", f"{folder}/workspace", "--output", f"{folder}/out"]
        seconds = {}
        for step in STEPS:
            target = [f"{folder}/out"] if step == "audit" else [recipe, *options]
            began = time.monotonic()
            mixture(step, *target)
            seconds[step] = round(time.monotonic() - began, 1)
            print(f"{step:<10}{seconds[step]:>8} s")
        scores = json.loads(mixture("evaluate", recipe, *options, "--json"))["overall"]
        ledger = json.loads((Path(folder) / "out" / "ledger.json").read_text())
    samples = {label: count["samples"] for label, count in ledger["by_modality"].items()}
    total = ledger["total"]["train"]["samples"]
    print(f"text: {samples['train/text']} of {total}; asked {ledger['shares']['text']} %")
    result = {
        "seconds": round(sum(seconds.values()), 1),
        "steps": seconds,
        "cores": os.cpu_count(),
        "text_share": samples["train/text"] / total,
        "accuracy": scores["accuracy"],
        "best_blind": scores["best_blind"],
        "p_value": scores["p_value"],
        "questions": scores["questions"],
    }
    print(json.dumps(result))


def mixture(*arguments: str) -> str:
    """Runs the command and returns its stdout; its failure is ours."""
    command = [sys.executable, "-m", "flows.cli", *arguments]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout  # noqa: S603


if __name__ == "__main__":
    main(*sys.argv[1:])
