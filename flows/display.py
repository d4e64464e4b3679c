"""What a person sees while work runs: a Rich bar on a terminal, plain lines in a log."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LOG_EVERY_S = 10.0
"""Seconds between two lines of one step in a log."""

Update = Callable[[int, int], None]
"""Called with (done, in all)."""


class Display:
    """Shows progress. `emit` takes the plain lines where there is no terminal (a log, Prefect)."""

    def __init__(self, console: Console, emit: Callable[[str], None] | None = None) -> None:
        self.console = console
        self._emit = emit or (lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))
        self._bars = console.is_terminal and emit is None

    def say(self, line: str) -> None:
        """One line for the reader."""
        self._emit(line)

    @contextmanager
    def progress(self, label: str, total: int) -> Iterator[Update]:
        """Shows one step from its first update to its end."""
        if self._bars:
            with self._bar(label, total) as update:
                yield update
        else:
            with self._lines(label, total) as update:
                yield update

    @contextmanager
    def training(self) -> Iterator[Callable[[str, int, int, float], None]]:
        """Shows a training: called with stage, steps done, steps in all and the loss of the batch."""
        with ExitStack() as stack:
            updates: dict[str, Update] = {}

            def update(stage: str, step: int, steps: int, loss: float) -> None:
                if stage not in updates:
                    stack.close()  # the stage before is over
                    updates[stage] = stack.enter_context(self.progress(f"train {stage}", steps))
                updates[stage](step, steps)

            yield update

    @contextmanager
    def _bar(self, label: str, total: int) -> Iterator[Update]:
        columns = (
            TextColumn("{task.description:<28}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=self.console) as bar:
            task = bar.add_task(label, total=total)
            yield lambda done, total: bar.update(task, completed=done, total=total)

    @contextmanager
    def _lines(self, label: str, total: int) -> Iterator[Update]:
        began = last = time.monotonic()
        seen = (0, total)

        def update(done: int, total: int) -> None:
            nonlocal last, seen
            seen = (done, total)
            if done < total and time.monotonic() - last >= LOG_EVERY_S:  # of the end the last line tells
                last = time.monotonic()
                self._emit(f"{label}: {done}/{total}")

        yield update
        self._emit(f"{label}: {seen[0]}/{seen[1]} in {time.monotonic() - began:.1f} s")
