"""Laws of what a store refuses of a writer: a clear error, the mend, no secret, and nothing half-visible."""

import os
import pickle
import sys
from types import SimpleNamespace

import pytest
from fault_proxy import running_proxy
from store_server import ACCESS, BUCKET

from pipeline.storage import retries
from pipeline.storage.client import forget
from pipeline.storage.faults import AbsentError, DeniedError, PresentError, StoreError
from pipeline.storage.files import copy, published, remove_tree
from pipeline.storage.places import S3Path
from schemas.base import InputError

PATH = S3Path(BUCKET, "folder/file")
SMALL, LARGE = b"small", os.urandom(9 * 2**20)


@pytest.fixture(autouse=True)
def _few_attempts(monkeypatch):
    monkeypatch.setattr(retries, "ATTEMPTS", 2)


def written(body):
    with published(PATH) as attempt:
        attempt.write_bytes(body)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "in parts"])
@pytest.mark.parametrize(
    ("status", "code", "kind", "words"),
    [
        ("403 Forbidden", "AccessDenied", PermissionError, "no permission .*; allow s3:PutObject"),
        ("400 Bad Request", "ExpiredToken", PermissionError, "or they have expired .*; log in, or set AWS_PROFILE"),
        ("403 Forbidden", "InvalidAccessKeyId", PermissionError, "does not accept the credentials"),
        ("507 Insufficient Storage", "InsufficientStorage", OSError, "no room left .*; make room there"),
        ("400 Bad Request", "BadDigest", OSError, "damaged on their way .*; run the same command again"),
        ("503 Slow Down", "SlowDown", OSError, "failed time and again .*; run the same command again later"),
        ("403 Forbidden", "OddRefusal", OSError, "refused: OddRefusal; ask its keeper"),
    ],
)
def test_a_refused_write_is_told_with_the_mend_and_leaves_nothing(store, body, status, code, kind, words):
    store.refuse(status, code, "PUT POST")
    with pytest.raises(kind, match=f"^{PATH}: .*{words}") as told:
        written(body)
    assert isinstance(told.value, InputError)
    assert not any(secret in str(told.value) for secret in ACCESS.values())
    store.before = lambda _: None
    assert not PATH.exists()


@pytest.mark.parametrize(
    ("needed", "act"),
    [
        ("s3:PutObject on it and s3:GetObject on its source", lambda: copy(PATH, PATH.with_name("other"))),
        ("s3:DeleteObject", lambda: PATH.unlink(missing_ok=True)),
        ("s3:ListBucket", lambda: list(PATH.parent.iterdir())),
        ("s3:GetObject", PATH.read_bytes),
    ],
)
def test_what_is_not_allowed_names_the_permission(store, needed, act):
    store.put(PATH.key, b"x")
    store.refuse("403 Forbidden", "AccessDenied", "PUT DELETE" if "Object on" in needed else "PUT DELETE GET")
    with pytest.raises(PermissionError, match=f"allow .*{needed}"):
        act()


def test_an_object_of_a_batch_that_cannot_be_removed_is_named(store):
    store.put(PATH.key, b"x")
    body = "<DeleteResult><Error><Key>folder/file</Key><Code>AccessDenied</Code></Error></DeleteResult>"
    store.before = lambda environ: ("200 OK", body) if environ["REQUEST_METHOD"] == "POST" else None
    with pytest.raises(StoreError, match=rf"{PATH}: cannot be removed .AccessDenied.; allow s3:DeleteObject"):
        remove_tree(PATH.parent)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "in parts"])
def test_a_bucket_that_is_not_there_is_told_and_is_no_missing_file(proxied, body):
    path = S3Path("nowhere", "file")
    for act in (lambda: path.write_bytes(body), path.exists, path.read_bytes, lambda: path.open("xb")):
        with pytest.raises(
            OSError, match=r"s3://nowhere/file: no such bucket at http://\S+ \(NoSuchBucket\)"
        ) as told:
            act()
        assert not isinstance(told.value, FileNotFoundError)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "in parts"])
def test_a_store_that_does_not_answer_is_told_without_the_name_and_password(reach, body):
    reach(SimpleNamespace(endpoint="http://me:Secret@127.0.0.1:9"))
    with pytest.raises(
        OSError, match=r"cannot be reached at http://127.0.0.1:9 .*; check AWS_ENDPOINT_URL"
    ) as told:
        written(body)
    assert "Secret" not in str(told.value)


def test_missing_credentials_are_told_with_the_mend(store, monkeypatch):
    for name in ACCESS:
        monkeypatch.delenv(name)
    forget()
    with pytest.raises(PermissionError, match=r"no usable credentials .*log in, or set AWS_PROFILE"):
        written(SMALL)


@pytest.mark.parametrize("fault", ["size", "checksum"])
def test_bytes_that_differ_in_the_store_are_no_success(store, monkeypatch, fault):
    """The store's own disk, or a proxy on the way, damages what was completed."""
    from pipeline.storage import writing

    sound = writing.Written.crc32.fget if fault == "checksum" else writing.Written.size.fget
    name = "crc32" if fault == "checksum" else "size"
    other = (lambda _: "AAAAAA==") if fault == "checksum" else (lambda written: sound(written) + 1)
    monkeypatch.setattr(writing.Written, name, property(other))
    with pytest.raises(OSError, match=r"the store (holds|got) .*; run the same command again"):
        PATH.write_bytes(LARGE)


@pytest.mark.parametrize("body", [SMALL, LARGE], ids=["small", "in parts"])
def test_bytes_that_are_damaged_on_their_way_are_refused_and_never_visible(rclone, reach, body):
    path = S3Path(BUCKET, "damaged/file")
    with running_proxy(rclone.endpoint) as proxy:
        reach(proxy)
        proxy.plan = lambda asked: "damage" if asked.operation in {"Put", "Part"} else None
        with pytest.raises(OSError, match=r"bytes were damaged on their way to the store \(BadDigest\)"):
            path.write_bytes(body)
        assert not path.exists()


def test_damage_that_a_store_overlooks_in_a_part_is_found_in_the_whole(server, reach):
    """moto gives the checksum of a part as it was told; of the whole object it computes its own."""
    server.empty()
    with running_proxy(server.endpoint) as proxy:
        reach(proxy)
        proxy.plan = lambda asked: "damage" if asked.operation == "Part" else None
        with pytest.raises(OSError, match=r"the store got bytes of CRC32 .*; run the same command again"):
            PATH.write_bytes(LARGE)


@pytest.mark.parametrize("kind", [StoreError, AbsentError, PresentError, DeniedError])
def test_an_error_of_a_store_is_an_oserror_a_message_and_picklable(kind):
    error = kind("s3://bucket/file: told; mend")
    again = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert (type(again), str(again), again.errno) == (kind, "s3://bucket/file: told; mend", kind.number)
    assert isinstance(error, OSError)
    assert isinstance(error, InputError)


def test_a_program_without_boto3_says_what_to_install(store, monkeypatch):
    monkeypatch.setitem(sys.modules, "boto3", None)
    forget()
    with pytest.raises(StoreError, match=r"pip install 'video-mixture\[build\]'"):
        PATH.exists()
