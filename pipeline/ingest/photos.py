"""Pictures inside the scikit-image package, with captions, questions and the words that are on them."""

from collections.abc import Iterator

from pydantic import ValidationError

from pipeline.ingest.annotations import Written, fingerprint_of, package_folder, read_packaged, refuse
from pipeline.ingest.source import Entry, Source
from pipeline.storage.places import Place
from schemas.rejection import Rejection
from schemas.sample import MediaRef, Modality, Sample
from schemas.sources import PhotosSource

ANNOTATIONS = "photos.yaml"


class WrittenPhoto(Written):
    """One sample of a picture."""

    file: str


def picture_folder() -> Place:
    """The pictures inside scikit-image's wheel; those it would download are left alone."""
    return package_folder("skimage", "data")


class Photos(Source):
    """The pictures of scikit-image, several samples each, from `data/photos.yaml`."""

    def __init__(self, spec: PhotosSource) -> None:
        self._spec = spec

    def fingerprint(self) -> str:
        """Changes with scikit-image's version and with the annotations."""
        return fingerprint_of("scikit-image", ANNOTATIONS)

    def media_root(self, folder: Place) -> Place:
        """The package's own folder of pictures; `folder` is not used."""
        return picture_folder()

    def entries(self) -> Iterator[Entry]:
        """In the order of the annotation file."""
        written = read_packaged(ANNOTATIONS)
        for picture in written["pictures"]:
            for sample in picture["samples"]:
                payload = {
                    "category": sample["category"],
                    "licence": picture["licence"],
                    "annotator": written["annotator"],
                    "annotations": sample["annotations"],
                    "file": picture["file"],
                }
                place = f"{picture['slug']}-{sample['slug']}"
                yield Entry(f"{self._spec.name}-{place}", payload, f"{ANNOTATIONS}: {place}")

    def sample(self, entry: Entry, folder: Place) -> Sample | Rejection:
        """The entry as a sample; nothing is written to `folder`."""
        try:
            written = WrittenPhoto.model_validate(entry.payload)
            medium = MediaRef(kind="image", path=written.file)
            return written.sample(entry, self._spec.name, Modality.IMAGE, medium)
        except ValidationError as error:
            return refuse(entry, self._spec.name, error)
