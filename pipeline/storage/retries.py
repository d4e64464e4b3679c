"""When a request is made again: faults that pass, a bounded number of times, after waits of random length.

boto3's own retries share one quota among all requests of a client, so that some seconds of a store's absence end a
run of many threads; here each request has its own bound.
"""

import random
from typing import Any

ATTEMPTS = 8
"""Of a request: 6 s of waits in the mean where a store fails or is not reached, 20 s where it asks to slow down."""
FIRST_WAIT_S = 0.1
FIRST_WAIT_WHEN_BUSY_S = 1.0
"""At most; each further wait may be twice as long."""
LONGEST_WAIT_S = 8.0
_BUSY = {429, 503}
_FAILING = {500, 502, 504}
_CODES = {"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "InternalError", "ServiceUnavailable"}


def wait_s(
    response: tuple[Any, dict[str, Any]] | None, attempts: int, caught_exception: Exception | None, **_: Any
) -> float | None:
    """Seconds to wait before a request is made again; None where it is not. botocore's `needs-retry` event asks."""
    if attempts >= ATTEMPTS or not _passes(response, caught_exception):
        return None
    status = response[0].status_code if response else 0
    first = FIRST_WAIT_WHEN_BUSY_S if status in _BUSY else FIRST_WAIT_S
    return random.random() * min(first * 2.0 ** (attempts - 1), LONGEST_WAIT_S)


def _passes(response: tuple[Any, dict[str, Any]] | None, error: Exception | None) -> bool:
    from botocore.exceptions import ConnectionError as Connection
    from botocore.exceptions import HTTPClientError, IncompleteReadError, ResponseStreamingError

    if response is None:
        return isinstance(error, Connection | HTTPClientError | IncompleteReadError | ResponseStreamingError)
    answer, parsed = response
    return bool(answer.status_code in _BUSY | _FAILING or parsed.get("Error", {}).get("Code") in _CODES)
