"""Where weights come from: local files, the Hugging Face hub, an object store. No other module tells them apart."""

from fnmatch import fnmatch
from pathlib import Path

from pipeline.features.hub import from_hub
from pipeline.storage.files import stamp
from schemas.base import InputError
from schemas.encoders import HubWeights
from schemas.stores import S3Url

Stamp = list[list[str | int]]
"""Plain JSON that tells weights from others under the same name: a row a file."""

WANTED = ("config.json", "*.safetensors", "*.safetensors.index.json")
"""Files of a model that are fetched where none is named; never code, and no pickles."""


def weights_stamp(weights: str) -> Stamp:
    """The stamp of `EncoderSpec.weights` as they are now, fetching no file of an object store.

    Raises InputError when there are none, or they cannot be reached.
    """
    if weights == "random":
        return []
    if hub := HubWeights.parse(weights):
        from_hub(hub, WANTED, weights)
        return []  # the commit says all
    if url := S3Url.parse(weights):
        return _stored_stamp(url)
    if not (found := stamp(Path(weights))):
        raise InputError(f"weights {weights!r}: no such file or folder; mend `weights`, or take `random`")
    return found


def weights_path(weights: str, stamped: Stamp | None = None) -> Path:
    """The local file or folder with `EncoderSpec.weights`, fetched if need be.

    Args:
        weights: Anything but `random`.
        stamped: What `weights_stamp` gave, here or on another machine: of an object store, just these bytes are
            taken. None takes what is there now.

    Raises:
        InputError: They cannot be fetched, or those that were stamped are gone.
    """
    if hub := HubWeights.parse(weights):
        return from_hub(hub, WANTED, weights)
    if url := S3Url.parse(weights):
        return _from_store(url, _stored_stamp(url) if stamped is None else stamped)
    return Path(weights)


def check_unchanged(weights: str, stamped: Stamp) -> None:
    """Raises InputError when local weights are no longer those of `stamped`.

    The others need no look: workers ask for them by commit or by stamp.
    """
    if not (HubWeights.parse(weights) or S3Url.parse(weights)) and weights_stamp(weights) != stamped:
        raise InputError(
            f"weights {weights!r} were changed while this run was going on: run the same command again"
        )


def _stored_stamp(url: S3Url) -> Stamp:
    """A row of name, bytes, ETag and version for each object."""
    from pipeline.storage.objects import ObjectStore

    store = ObjectStore()
    found = [store.stat(each) for each in (_model_files(url, store.list_folder(url)) if url.is_folder else [url])]
    return [[stored.url.name, stored.size, stored.etag, stored.version] for stored in found]


def _model_files(folder: S3Url, listed: list[S3Url]) -> list[S3Url]:
    found = [url for url in listed if any(fnmatch(url.name, pattern) for pattern in WANTED)]
    names = [url.name for url in found]
    if "config.json" not in names or not any(name.endswith(".safetensors") for name in names):
        raise InputError(
            f"{folder}: found {names or 'nothing of a model'} right under it, expected config.json and at least "
            "one .safetensors file; check the path"
        )
    return found


def _from_store(url: S3Url, stamped: Stamp) -> Path:
    from pipeline.storage.cache import fetched
    from pipeline.storage.objects import Stored

    rows = [
        Stored(
            S3Url(url.bucket, f"{url.key.rpartition('/')[0]}/{name}".lstrip("/")),
            int(size),
            str(etag),
            str(version),
        )
        for name, size, etag, version in stamped
    ]
    folder = fetched("weights", rows)
    return folder if url.is_folder else folder / url.name
