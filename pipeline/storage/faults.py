"""What a store or its client raises, told as an error that shows the URL and the mend, and no secret."""

import errno
from typing import Any

from schemas.base import InputError
from schemas.stores import S3Url

LOG_IN = "log in, or set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
REACH = "check AWS_ENDPOINT_URL, the region and the network"


class StoreError(InputError, OSError):
    """What a store refused, or could not do: an OSError for code, and for the user a message with the mend."""

    number = errno.EIO

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.errno = self.number


class AbsentError(StoreError, FileNotFoundError):
    """No such object, or upload."""

    number = errno.ENOENT


class PresentError(StoreError, FileExistsError):
    """An object is there that was to be made anew."""

    number = errno.EEXIST


class DeniedError(StoreError, PermissionError):
    """No permission, or no usable credentials."""

    number = errno.EACCES


_CLASSES = {
    "NoSuchKey": AbsentError,
    "NoSuchUpload": AbsentError,
    "AccessDenied": DeniedError,
    "credentials": DeniedError,
    "absent credentials": DeniedError,
}
_NEEDS = {
    "Put": "s3:PutObject", "Create": "s3:PutObject", "Upload": "s3:PutObject", "Complete": "s3:PutObject",
    "Copy": "s3:PutObject on it and s3:GetObject on its source", "Delete": "s3:DeleteObject",
    "Abort": "s3:AbortMultipartUpload",
}  # fmt: skip
"""What an operation whose name begins so needs; the others read."""
_REASONS = {
    "NoSuchBucket": ("no such bucket", "check its name, and AWS_ENDPOINT_URL if the store is not Amazon's"),
    "NoSuchKey": ("no such object", "check its path; the URL of a folder ends in '/'"),
    "AccessDenied": (
        "no permission",
        "allow s3:GetObject on it and s3:ListBucket on its bucket (without the latter a store also answers so "
        "about objects that do not exist), or take other credentials",
    ),
    "NoSuchUpload": (
        "its upload went away before it was done",
        "see that neither `mixture clean` nor a rule of the bucket removes uploads under way, and run the same "
        "command again",
    ),
    "damaged": ("bytes were damaged on their way to the store", "run the same command again"),
    "full": ("the store has no room left", "make room there, or raise its quota, and run the same command again"),
    "conflict": ("another run was writing it", "run the same command again when that one has ended"),
    "changed": ("changed, or went away, while this run was using it", "run the same command again to take it anew"),
    "credentials": ("the store does not accept the credentials, or they have expired", LOG_IN),
    "absent credentials": ("no usable credentials", LOG_IN),
    "unreachable": ("the store cannot be reached", REACH),
    "strange": ("what answers speaks no S3", REACH),
    "broken": ("its transfer broke off time and again", "run the same command again later"),
    "busy": ("the store failed time and again", "run the same command again later"),
}
_SAME = {
    "404": "NoSuchKey",
    "403": "AccessDenied",
    "AllAccessDisabled": "AccessDenied",
    "NoSuchVersion": "changed",
    "PreconditionFailed": "changed",
    "412": "changed",
    "BadDigest": "damaged",
    "InvalidDigest": "damaged",
    "XAmzContentSHA256Mismatch": "damaged",
    "ConditionalRequestConflict": "conflict",
    "OperationAborted": "conflict",
    **dict.fromkeys(("InsufficientStorage", "QuotaExceeded", "XMinioStorageFull", "507"), "full"),
    **dict.fromkeys(
        (
            "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "RequestExpired",
            "RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired", "UnrecognizedClientException",
        ),
        "credentials",
    ),
}  # fmt: skip


class ChangedError(Exception):
    """An answer that is of other bytes than those asked for."""


def absent(url: S3Url) -> AbsentError:
    """For an object that is not there."""
    told, mend = _REASONS["NoSuchKey"]
    return AbsentError(f"{url}: {told} (NoSuchKey); {mend}")


def client_faults() -> tuple[type[Exception], ...]:
    """What a call of the client raises for a mistake or a fault outside of this program."""
    from boto3.exceptions import Boto3Error
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return (Boto3Error, BotoCoreError, ClientError, ResponseParserError, ChangedError)


def body_faults() -> tuple[type[Exception], ...]:
    """What reading the body of an answer raises when it breaks off."""
    from botocore.exceptions import IncompleteReadError, ReadTimeoutError, ResponseStreamingError

    return (IncompleteReadError, ReadTimeoutError, ResponseStreamingError)


def refusal(url: S3Url, error: Exception, endpoint: str, seen: bool) -> StoreError:
    """The user's view of `error`, which is one of `client_faults()`; `seen` is whether the object was there before.

    The libraries' own texts are left out: some quote the whole URL of a request, signature included.
    """
    kind = _kind(error)
    if seen and kind == "NoSuchKey":
        kind = "changed"
    if kind not in _REASONS:
        return StoreError(f"{url}: the store at {endpoint} refused: {kind}; ask its keeper, or give a local copy")
    told, mend = _REASONS[kind]
    for begin, needed in _NEEDS.items() if kind == "AccessDenied" else ():
        if getattr(error, "operation_name", "").startswith(begin):
            mend = f"allow {needed}, or take other credentials"
    where = f" at {endpoint}" if kind in {"NoSuchBucket", "credentials", "unreachable", "strange", "busy"} else ""
    return _CLASSES.get(kind, StoreError)(f"{url}: {told}{where} ({_named(error)}); {mend}")


def _kind(error: Exception) -> str:
    """A key of `_REASONS`, or else the name of what went wrong."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    classes: list[tuple[str, tuple[Any, ...]]] = [
        ("changed", (ChangedError,)),
        ("strange", (ResponseParserError,)),
        (
            "absent credentials",
            (
                exceptions.NoCredentialsError, exceptions.PartialCredentialsError, exceptions.ProfileNotFound,
                exceptions.CredentialRetrievalError, exceptions.TokenRetrievalError, exceptions.SSOError,
            ),
        ),
        ("broken", (exceptions.IncompleteReadError, exceptions.ResponseStreamingError)),
        ("unreachable", (exceptions.HTTPClientError, exceptions.ConnectionError)),
    ]  # fmt: skip
    for kind, members in classes:
        if isinstance(error, members):
            return kind
    if not isinstance(error, exceptions.ClientError):
        return type(error).__name__
    code = code_of(error)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    if status < 500 and code.isdigit() and not is_mute(error):
        return "strange"  # a store names the reason where it has a body to do so
    return _SAME.get(code, "busy" if status >= 500 and code not in _REASONS else code)


def is_mute(error: Exception) -> bool:
    """Whether it is the refusal of a HEAD, which has no body: its code is the HTTP status, and says little."""
    return getattr(error, "operation_name", "") == "HeadObject"


def code_of(error: Exception) -> str:
    """A store's own code for its refusal: `NoSuchKey`; the HTTP status where it gives none."""
    response = getattr(error, "response", None) or {}
    return str(response.get("Error", {}).get("Code", ""))


def _named(error: Exception) -> str:
    return code_of(error) or type(error).__name__
