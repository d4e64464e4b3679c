"""`Llava`: a LLaVA annotation file as a source."""

import hashlib
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from itertools import chain, repeat
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pipeline.ingest.llava.reading import read_items
from pipeline.ingest.llava.talk import RefusedError, bad, pair_turns
from pipeline.ingest.source import Entry, Source
from pipeline.storage.files import sha256_of
from pipeline.storage.nearby import Stamps
from pipeline.storage.places import Place, S3Path, place
from schemas.base import InputError, canonical_json, digest
from schemas.rejection import Reason, Rejection
from schemas.sample import Generator, MediaRef, Modality, Sample
from schemas.sources import LlavaSource


class Llava(Source):
    """Entries of one `.json` or `.jsonl` file. The spec's relative paths start at the working directory."""

    def __init__(self, spec: LlavaSource) -> None:
        self.spec = spec
        self._stamps: list[str] = []
        """By place in the file, of the media of each entry: as the fingerprint saw them."""

    def fingerprint(self) -> str:
        """Of the annotation file's bytes, the spec, and size and time of change of every medium named.

        So a medium that was missing and is there now, or was replaced, is looked at again.
        Raises InputError when the annotation file cannot be read.
        """
        path, root = place(self.spec.annotations), place(self.spec.media_root)
        if not path.is_file():
            raise InputError(f"source {self.spec.name}: no annotation file {str(path)!r}: mend `annotations`")
        annotations, stamps = sha256_of(path)[0], Stamps(root)
        self._stamps = [
            digest([[name, stamps.of(name)] for name in _named(item.payload.get("value"))])
            for item in read_items(path)
        ]
        parts = {"annotations_sha256": annotations, "media_sha256": digest(self._stamps)}
        return canonical_json({**parts, "spec": self.spec.model_dump(mode="json")})

    def media_root(self, folder: Place) -> Place:
        """The user's folder; nothing is written there, nor into `folder`."""
        return place(self.spec.media_root)

    def entries(self) -> Iterator[Entry]:
        """One entry a list item or line, broken ones too, stamped once `fingerprint` was asked for.

        Raises ValueError as `read_items` does.
        """
        seen: Counter[str] = Counter()
        items = read_items(place(self.spec.annotations))
        for item, stamped in zip(items, chain(self._stamps, repeat("")), strict=False):
            key = make_key(self.spec.name, item.identity, seen[item.identity])
            seen[item.identity] += 1
            yield Entry(key, item.payload, item.where, stamped)

    def sample(self, entry: Entry, folder: Place) -> Sample | Rejection:
        """The entry as a sample with one `QuestionAnswer` a round; whether its media exist is probed later."""
        try:
            return self._sample(entry.key, entry.payload)
        except RefusedError as refused:
            return Rejection(
                key=entry.key,
                stage="ingest",
                reason=refused.reason,
                detail=str(refused)[:2_000],
                where=entry.where,
                source=self.spec.name,
            )

    def _sample(self, key: str, payload: dict[str, Any]) -> Sample:
        value = _checked_object(payload)
        media = (*self._media(value, "image"), *self._media(value, "video"))
        return Sample(
            key=key,
            source=self.spec.name,
            modality=_modality(media),
            category=self.spec.category,
            split=self.spec.split,
            media=media,
            annotations=pair_turns(value.get("conversations"), has_media=bool(media)),
            licence=self.spec.licence,
            annotator=Generator(name=self.spec.annotator),
        )

    def _media(self, value: dict[str, Any], kind: Literal["image", "video"]) -> tuple[MediaRef, ...]:
        given = value.get(kind)
        if given is None:
            return ()
        paths = given if kind == "image" and isinstance(given, list) else [given]
        if not paths or not all(isinstance(path, str) and path.strip() for path in paths):
            many = " or a list of such" if kind == "image" else ""
            raise bad(kind, given, f"give a relative path{many}; leave the field out where there is no {kind}")
        return tuple(MediaRef(kind=kind, path=self._safe_path(kind, path)) for path in paths)

    def _safe_path(self, kind: str, path: str) -> str:
        """The path in its plain POSIX form; refused where it, or a link on its way, leaves the media root."""
        plain = PurePosixPath(path)
        if plain.is_absolute() or ".." in plain.parts or "\0" in path:
            mend = "give a path relative to media_root, without '..'"
            raise RefusedError(Reason.UNSAFE_PATH, kind, path, mend)
        if isinstance(place(self.spec.media_root), S3Path):
            return plain.as_posix()
        # os.path.realpath, unlike Path.resolve, does not raise on links that form a loop.
        root = os.path.realpath(self.spec.media_root)
        if not Path(os.path.realpath(Path(root, plain))).is_relative_to(root):
            mend = "a link on its way leads out of media_root; put the file itself there"
            raise RefusedError(Reason.UNSAFE_PATH, kind, path, mend)
        return plain.as_posix()


def make_key(source: str, identity: str, occurrence: int) -> str:
    """`source-slug-digest`, a valid key for any identity; `occurrence` (from 0) tells equal ids apart.

    As nothing else goes into a key, it stays when other entries are added, moved or taken away.
    The digest has 64 bits: among a million entries two keys meet with probability 3e-8.
    """
    plain = unicodedata.normalize("NFKD", identity).encode("ascii", "ignore").decode().lower()
    slug = re.sub(r"[^a-z0-9]+", "-", plain)[:30].strip("-")
    short = hashlib.sha256(f"{occurrence}/{identity}".encode()).hexdigest()[:16]
    return "-".join(filter(None, (source, slug, short)))


def _checked_object(payload: dict[str, Any]) -> dict[str, Any]:
    if "fault" in payload:
        raise bad("the entry", payload["fault"], "write it as one JSON object, on one line of a .jsonl, in UTF-8")
    value = payload["value"]
    if not isinstance(value, dict):
        raise bad("the entry", value, "give an object with id, image or video, and conversations")
    identity = value.get("id")
    if isinstance(identity, bool) or not isinstance(identity, str | int | None):
        raise bad("id", identity, "give a string or a whole number, or leave it out")
    if value.get("image") is not None and value.get("video") is not None:
        raise bad("video", value["video"], "the entry has an image already; give one or the other")
    return value


def _modality(media: tuple[MediaRef, ...]) -> Modality:
    if not media:
        return Modality.TEXT
    if media[0].kind == "video":
        return Modality.VIDEO
    return Modality.IMAGE if len(media) == 1 else Modality.MULTI_IMAGE


def _named(value: Any) -> list[str]:
    """Names of media in a raw entry, as far as they are names; what is wrong with the rest is told later."""
    given = [value.get("image"), value.get("video")] if isinstance(value, dict) else []
    names = [name for media in given for name in (media if isinstance(media, list) else [media])]
    return [name for name in names if isinstance(name, str) and name and "\0" not in name and len(name) < 4096]
