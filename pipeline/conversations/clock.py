"""Times as people write them: `MM:SS`, or `H:MM:SS` from one hour on."""

import re
from collections.abc import Iterator

NS_PER_SECOND = 1_000_000_000
_STATED = re.compile(r"(?<![\d:.])(?:(\d{1,3}):)?(\d{1,2}):([0-5]\d)(?![\d:])")


def clock(time_ns: int) -> str:
    """What a player's clock shows at `time_ns`: the second that has begun, never rounded up.

    Rounding up could name a time after the film's end.
    """
    minutes, seconds = divmod(time_ns // NS_PER_SECOND, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes:02}:{seconds:02}"


def span(start_ns: int, exclusive_end_ns: int) -> str:
    """`from 00:01 to 00:03`, or `at 00:01` for a span that ends within the second it begins in."""
    start, end = clock(start_ns), clock(exclusive_end_ns)
    return f"at {start}" if start == end else f"from {start} to {end}"


def stated_times(text: str) -> Iterator[tuple[str, int]]:
    """Every `MM:SS` or `H:MM:SS` in `text`, as it stands there and in nanoseconds."""
    for match in _STATED.finditer(text):
        hours, minutes, seconds = (int(group or 0) for group in match.groups())
        yield match.group(), (hours * 3600 + minutes * 60 + seconds) * NS_PER_SECOND
