"""Stages small enough to reason about, with planted faults. Importable by Ray's workers."""

import os
import random
import signal
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.runtime.contract import Stage
from schemas.base import InputError
from schemas.rejection import Reason, Rejection
from schemas.sample import Caption, Category, Generator, Modality, Sample


def toy_sample(key: str, text: str = "words") -> Sample:
    return Sample(
        key=key,
        source="toy",
        modality=Modality.TEXT,
        category=Category.CAPTIONING,
        annotations=(Caption(text=text),),
        licence="CC0-1.0",
        annotator=Generator(name="human"),
    )


class Upper(Stage[Sample, Sample]):
    """Upper-cases captions and refuses those that say `refuse`."""

    name, version = "upper", 1

    def process(self, batch: Sequence[Sample]) -> list[Sample | Rejection]:
        return [self._one(sample) for sample in batch]

    def _one(self, sample: Sample) -> Sample | Rejection:
        text = sample.annotations[0].text
        if text == "refuse":
            return Rejection(key=sample.key, stage=self.name, reason=Reason.BAD_ANNOTATION, detail="told to")
        return sample.model_copy(update={"annotations": (Caption(text=text.upper()),)})


class Echo(Stage[Sample, Sample]):
    """Passes everything on; a text of `kill` ends the process, `kill once` only the first time.

    With a folder, it notes the size of each batch that it lived to answer.
    """

    name, version = "echo", 1

    def __init__(self, folder: str = "") -> None:
        self.folder = folder

    def process(self, batch: Sequence[Sample]) -> list[Sample | Rejection]:
        for sample in batch:
            if sample.annotations[0].text == "KILL":
                os.kill(os.getpid(), signal.SIGKILL)
            if sample.annotations[0].text == "KILL ONCE" and not (mark := Path(self.folder) / sample.key).exists():
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        if self.folder:
            with (Path(self.folder) / "sizes").open("a") as log:
                log.write(f"{len(batch)}\n")
        return list(batch)


class Restless(Upper):
    """Takes several batches at once, each for as long as chance will have it; it notes how many there were."""

    def __init__(self, calls_at_once: int, folder: str = "", longest_s: float = 0.01) -> None:
        self.calls_at_once = calls_at_once
        self.folder = folder
        self.longest_s = longest_s
        self._working: list[int] = []

    def process(self, batch: Sequence[Sample]) -> list[Sample | Rejection]:
        self._working.append(1)
        if self.folder:
            with (Path(self.folder) / "working").open("a") as log:
                log.write(f"{len(self._working)}\n")
        time.sleep(random.uniform(0, self.longest_s))
        self._working.pop()
        return super().process(batch)


class Deadly(Echo):
    """As `Echo`, several batches at once; it notes each death, and the size of the batch that died."""

    def __init__(self, folder: str, calls_at_once: int = 1) -> None:
        super().__init__(folder)
        self.calls_at_once = calls_at_once

    def process(self, batch: Sequence[Sample]) -> list[Sample | Rejection]:
        if any(sample.annotations[0].text == "KILL" for sample in batch):
            with (Path(self.folder) / "deaths").open("a") as log:
                log.write(f"{len(batch)}\n")
        time.sleep(0.02)
        return super().process(batch)


class Reloads(Echo):
    """As `Echo`; a worker that follows on a dead one takes 4 s to set up. It notes what happens, in order."""

    def setup(self) -> None:
        self._note("begins")
        time.sleep(4 if any(Path(self.folder).glob("k*")) else 0)
        self._note("ready")

    def process(self, batch: Sequence[Sample]) -> list[Sample | Rejection]:
        answers = super().process(batch)
        time.sleep(0.1)
        self._note("batch")
        return answers

    def _note(self, event: str) -> None:
        with (Path(self.folder) / "events").open("a") as log:
            log.write(f"{event}\n")


class Waits(Upper):
    """Its calls wait for one another, or for `close`; a text of `fail` raises."""

    calls_at_once = 3

    def __init__(self, meet: int = 4) -> None:
        self.meet = meet
        self.closed = 0

    def setup(self) -> None:
        self._barrier = threading.Barrier(self.meet)

    def process(self, batch: Sequence[Sample]) -> list[Sample | Rejection]:
        if any(sample.annotations[0].text == "fail" for sample in batch):
            raise ZeroDivisionError("a bug")
        with suppress(threading.BrokenBarrierError):
            self._barrier.wait(60)
        return super().process(batch)

    def close(self) -> None:
        self.closed += 1
        self._barrier.abort()


class Loses(Upper):
    """Breaks the contract: the last record is never answered."""

    def process(self, batch: Sequence[Sample]) -> list[Sample | Rejection]:
        return super().process(batch)[:-1]


class CannotSetUp(Upper):
    """A bug in setup."""

    def setup(self) -> None:
        raise ValueError("no such model")


class Misconfigured(Upper):
    """A mistake of the user's that only a worker can see, in setup or in process."""

    def __init__(self, where: str) -> None:
        self.where = where

    def setup(self) -> None:
        if self.where == "setup":
            raise InputError("weights 'x': mend them")

    def process(self, batch: Sequence[Sample]) -> list[Sample | Rejection]:
        raise InputError("weights 'x': mend them")


class SetsUpForEver(Upper):
    """A worker that the cluster never gives."""

    def setup(self) -> None:
        time.sleep(600)


class Raises(Upper):
    """A bug in process."""

    def process(self, batch: Sequence[Sample]) -> list[Sample | Rejection]:
        raise ZeroDivisionError("a bug")


class OnGpu(Echo):
    """As `Echo`, on a GPU if there is one; it notes which."""

    name, wants_gpu = "on_gpu", True

    def process(self, batch: Sequence[Sample]) -> list[Sample | Rejection]:
        with (Path(self.folder) / "gpus").open("a") as log:
            log.write(f"{os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n")
        return list(super().process(batch))


class WithGpus(Echo):
    """Each worker has whole GPUs; it notes which."""

    name = "with_gpus"

    def __init__(self, folder: str, gpus: int) -> None:
        super().__init__(folder)
        self.gpus = gpus

    def process(self, batch: Sequence[Sample]) -> list[Sample | Rejection]:
        with (Path(self.folder) / "gpus").open("a") as log:
            log.write(f"{os.environ.get('CUDA_VISIBLE_DEVICES', '')}\n")
        time.sleep(0.3)
        return list(super().process(batch))


class Swells(Upper):
    """Makes a large record of each: a megabyte of text."""

    name = "swells"

    def _one(self, sample: Sample) -> Sample | Rejection:
        captions = tuple(Caption(text=f"{number} {'x' * 19_900}") for number in range(52))
        return sample.model_copy(update={"annotations": captions})


class Slow(Upper):
    """Takes its time, and lets go of what was large."""

    name = "slow"

    def _one(self, sample: Sample) -> Sample | Rejection:
        time.sleep(0.05)
        return sample.model_copy(update={"annotations": (Caption(text="small"),)})
