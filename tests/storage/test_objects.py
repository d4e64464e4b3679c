"""Laws of what is taken from an object store, against a real server."""

import os
import time

import pytest
from store_server import ACCESS, BUCKET

from pipeline.storage import client, objects, retries
from pipeline.storage.objects import ObjectStore
from schemas.base import InputError
from schemas.stores import S3Url

URL, FOLDER = S3Url(BUCKET, "video/model.pt"), S3Url(BUCKET, "video/")
LARGE = os.urandom(9 * 2**20)
"""Over the transfer manager's 8 MiB: fetched in ranges."""


@pytest.mark.parametrize(
    ("body", "algorithm"),
    [(b"", "CRC32"), (b"x", "SHA256"), (LARGE, "CRC32C")],
    ids=["empty", "small", "in ranges"],
)
def test_a_download_is_the_object(store, tmp_path, body, algorithm):
    store.put(URL.key, body, ChecksumAlgorithm=algorithm)
    mine = ObjectStore()
    found = mine.stat(URL)
    assert (found.url, found.size) == (URL, len(body))
    assert not store.gets("model.pt")
    mine.download(found, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == body
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


@pytest.mark.parametrize("body", [b"older", LARGE], ids=["small", "in ranges"])
@pytest.mark.parametrize("heeds", [True, False], ids=["heeds If-Match", "ignores If-Match"])
def test_an_object_that_changed_since_it_was_seen_is_an_error_and_leaves_nothing(store, tmp_path, body, heeds):
    store.put(URL.key, body)
    found = ObjectStore().stat(URL)
    store.put(URL.key, bytes(reversed(body)))
    if not heeds:
        store.before = lambda environ: environ.pop("HTTP_IF_MATCH", None) and None
    with pytest.raises(InputError, match=r"s3://models/video/model\.pt: changed, or went away") as told:
        ObjectStore().download(found, tmp_path / "model.pt")
    assert "run the same command again" in str(told.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("body", [b"older", LARGE], ids=["small", "in ranges"])
@pytest.mark.parametrize("heeds", [True, False], ids=["heeds If-Match", "ignores If-Match"])
def test_an_object_that_changes_within_a_download_is_an_error(store, tmp_path, body, heeds):
    store.put(URL.key, body)
    found = ObjectStore().stat(URL)

    def overtake(environ):
        if not heeds:
            environ.pop("HTTP_IF_MATCH", None)
        if environ["REQUEST_METHOD"] == "GET" and overtake.waiting:
            overtake.waiting = False
            store.put(URL.key, bytes(reversed(body)))

    overtake.waiting = True
    store.before = overtake
    with pytest.raises(InputError, match="changed, or went away"):
        ObjectStore().download(found, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("body", [b"x", LARGE], ids=["small", "in ranges"])
def test_every_request_of_a_download_asks_for_the_bytes_that_were_seen(store, tmp_path, body):
    store.put(URL.key, body)
    mine = ObjectStore()
    found = mine.stat(URL)
    asked = []
    store.before = lambda environ: asked.append(environ.get("HTTP_IF_MATCH"))
    mine.download(found, tmp_path / "model.pt")
    assert set(asked) == {found.etag}
    mine.stat(URL)
    assert asked[-1] is None, "what is asked of one download is asked of no other request"


def test_a_download_that_breaks_off_is_taken_up_and_one_that_always_does_is_given_up(store, tmp_path):
    store.put(URL.key, LARGE)
    found = ObjectStore().stat(URL)
    store.cut = 1
    ObjectStore().download(found, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == LARGE
    store.cut = 1_000
    with pytest.raises(InputError, match=r"transfer broke off time and again .*run the same"):
        ObjectStore().download(found, tmp_path / "again.pt")
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt"]


def test_an_object_that_went_away_since_it_was_seen_is_told_so(store, tmp_path):
    store.put(URL.key, b"older")
    found = ObjectStore().stat(URL)
    store.client.delete_object(Bucket=BUCKET, Key=URL.key)
    with pytest.raises(InputError, match="changed, or went away"):
        ObjectStore().download(found, tmp_path / "model.pt")


def test_of_a_bucket_with_versions_the_one_that_was_seen_is_taken_whatever_came_later(store, tmp_path):
    store.client.put_bucket_versioning(Bucket=BUCKET, VersioningConfiguration={"Status": "Enabled"})
    store.put(URL.key, b"older")
    found = ObjectStore().stat(URL)
    store.put(URL.key, b"newer")
    assert ObjectStore().stat(URL).version != found.version
    ObjectStore().download(found, tmp_path / "model.pt")
    assert (tmp_path / "model.pt").read_bytes() == b"older"


@pytest.mark.parametrize("algorithm", ["CRC32", "CRC32C", "CRC64NVME", "SHA1", "SHA256"])
def test_bytes_that_differ_from_the_stores_checksum_are_refused(store, tmp_path, algorithm):
    store.put(URL.key, LARGE, ChecksumAlgorithm=algorithm)
    mine = ObjectStore()
    found = mine.stat(URL)
    # The server's disk rots: other bytes under the old ETag and checksum.
    from moto.s3.models import s3_backends

    key = s3_backends["123456789012"]["aws"].buckets[BUCKET].keys[URL.key]
    key._value_buffer.seek(8 * 2**20 + 5)
    key._value_buffer.write(b"rotten")
    with pytest.raises(InputError, match=f"{algorithm} of what came is .*, but the store says"):
        mine.download(found, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())


def test_a_folder_lists_what_is_right_under_it_in_order(store):
    for key in ("m/b", "m/a", "m/", "m/sub/c", "mm/d"):
        store.put(key, b"x")
    assert ObjectStore().list_folder(S3Url(BUCKET, "m/")) == [S3Url(BUCKET, "m/a"), S3Url(BUCKET, "m/b")]


def test_a_folder_of_too_many_objects_is_refused_before_all_are_listed(store, monkeypatch):
    monkeypatch.setattr(objects, "MAX_LISTED", 2)
    for index in range(4):
        store.put(f"m/{index}", b"x")
    with pytest.raises(InputError, match="s3://models/m/: over 2 objects; name the folder"):
        ObjectStore().list_folder(S3Url(BUCKET, "m/"))


@pytest.mark.parametrize(
    ("url", "words"),
    [
        (S3Url("nowhere", "a.pt"), r"no such bucket at http://127.0.0.1:\d+ \(NoSuchBucket\); check its name"),
        (S3Url("nowhere", "a/"), r"no such bucket at http://127.0.0.1:\d+ \(NoSuchBucket\); check its name"),
        (S3Url(BUCKET, "a.pt"), r"no such object \(NoSuchKey\); check its path"),
        (S3Url(BUCKET, "a/"), "no objects right under it; check its path"),
    ],
)
def test_what_is_not_there_is_an_error_that_names_it_and_the_mend(store, url, words):
    with pytest.raises(InputError, match=f"^{url}: {words}"):
        seen(url)


@pytest.mark.parametrize(
    ("url", "status", "code", "words"),
    [
        (URL, "403 Forbidden", "AccessDenied", "no permission .*; allow s3:GetObject"),
        (FOLDER, "403 Forbidden", "AccessDenied", "no permission .* and s3:ListBucket"),
        (
            URL,
            "403 Forbidden",
            "InvalidAccessKeyId",
            "does not accept the credentials.*; log in, or set AWS_PROFILE",
        ),
        (FOLDER, "403 Forbidden", "SignatureDoesNotMatch", "does not accept the credentials"),
        (URL, "400 Bad Request", "ExpiredToken", r"or they have expired at http\S+ \(ExpiredToken\); log in"),
        (FOLDER, "400 Bad Request", "ExpiredToken", r"or they have expired at http\S+ \(ExpiredToken\); log in"),
        (
            URL,
            "403 Forbidden",
            "InvalidObjectState",
            "refused: InvalidObjectState; ask its keeper, or give a local copy",
        ),
        (
            FOLDER,
            "503 Slow Down",
            "SlowDown",
            "failed time and again .*SlowDown.*; run the same command again later",
        ),
    ],
)
def test_what_a_store_refuses_is_an_error_that_names_it_and_the_mend(store, monkeypatch, url, status, code, words):
    monkeypatch.setattr(retries, "ATTEMPTS", 2)
    store.refuse(status, code)
    with pytest.raises(InputError, match=f"^{url}: .*{words}") as told:
        seen(url)
    assert not any(secret in str(told.value) for secret in ACCESS.values())


def test_a_fault_that_passes_is_outlived(store):
    store.put(URL.key, b"x")
    faults = iter([("503 Slow Down", "")])
    store.before = lambda _: next(faults, None)
    assert ObjectStore().stat(URL).size == 1


def test_retries_are_bounded(store, monkeypatch):
    monkeypatch.setattr(retries, "ATTEMPTS", 2)
    store.refuse("500 Internal Server Error", "InternalError")
    with pytest.raises(InputError, match="failed time and again"):
        ObjectStore().stat(URL)
    assert 2 <= len(store.asked) <= 4  # HEAD, and the GET that asks why


@pytest.mark.parametrize("absent", [list(ACCESS), ["AWS_SECRET_ACCESS_KEY"]], ids=["none", "half"])
def test_missing_credentials_are_told_with_the_mend(store, monkeypatch, absent):
    for name in absent:
        monkeypatch.delenv(name)
    with pytest.raises(InputError, match=r"no usable credentials|cannot be used") as told:
        seen(URL)
    assert "log in, or set AWS_PROFILE" in str(told.value)


def test_an_unknown_profile_is_told_with_the_mend(store, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "absent")
    with pytest.raises(InputError, match=r"ProfileNotFound.*AWS_PROFILE"):
        seen(URL)


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("http://me:Secret@127.0.0.1:9", "cannot be reached at http://127.0.0.1:9 .*; check AWS_ENDPOINT_URL"),
        ("127.0.0.1", "AWS_ENDPOINT_URL is no URL"),
    ],
)
def test_an_endpoint_that_does_not_answer_is_told_without_the_name_and_password_in_it(
    store, monkeypatch, endpoint, words
):
    monkeypatch.setattr(retries, "ATTEMPTS", 1)
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    with pytest.raises(InputError, match=words) as told:
        seen(URL)
    assert "Secret" not in str(told.value)


@pytest.mark.parametrize("url", [URL, FOLDER], ids=str)
def test_a_server_that_speaks_no_s3_is_told_so(store, url):
    store.before = lambda _: ("404 Not Found", "<html>Nothing<br>here</html>")
    with pytest.raises(InputError, match="what answers speaks no S3"):
        seen(url)


def test_a_server_that_stays_silent_is_left_after_a_bounded_time(store, monkeypatch):
    monkeypatch.setattr(retries, "ATTEMPTS", 1)
    monkeypatch.setattr(client, "READ_TIMEOUT_S", 0.3)
    store.before = lambda _: time.sleep(1.5)
    began = time.monotonic()
    with pytest.raises(InputError, match=r"cannot be reached .*\(ReadTimeoutError\)"):
        seen(URL)
    assert time.monotonic() - began < 1.4


def seen(url):
    store = ObjectStore()
    return store.list_folder(url) if url.is_folder else store.stat(url)
