"""Stages small enough to reason about, with planted faults. Importable by Ray's workers."""

import os
import signal
import time
from collections.abc import Sequence
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
