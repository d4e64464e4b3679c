"""Laws of stated times."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.conversations.clock import NS_PER_SECOND, clock, span, stated_times

times = st.integers(0, 100 * 3600 * NS_PER_SECOND)


@given(times)
def test_a_stated_time_reads_back_as_the_second_that_had_begun(time_ns):
    ((text, read_ns),) = stated_times(f"It happens at {clock(time_ns)}.")
    assert text == clock(time_ns)
    assert read_ns <= time_ns < read_ns + NS_PER_SECOND


def test_a_clock_reads_as_a_player_shows_it():
    assert clock(0) == "00:00"
    assert clock(59_999_999_999) == "00:59"
    assert clock(60_000_000_000) == "01:00"
    assert clock(3_600_000_000_000) == "1:00:00"


def test_a_span_within_one_second_is_a_moment():
    assert span(1_000_000_000, 3_000_000_000) == "from 00:01 to 00:03"
    assert span(1_200_000_000, 1_900_000_000) == "at 00:01"


def test_what_is_no_time_is_not_read_as_one():
    assert not list(stated_times("ratio 3:2, verse 12:345, 10:99, address 12:34:56:78, 1.10:20, 16:9"))
