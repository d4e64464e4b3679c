"""Laws of the report's arithmetic: bins, shares and the words for numbers."""

from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.audit.report_charts import (
    MOST_BINS,
    MOST_TICKS,
    difference,
    histogram,
    percent,
    short_bytes,
    short_duration,
)


@example([5e-324])
@example([1e-9, 2e-9])
@given(st.lists(st.floats(0, 1e6) | st.integers(0, 50).map(lambda n: n / 10), min_size=1, max_size=60))
def test_a_histogram_counts_every_value_once_in_the_bin_it_lies_in(values):
    chart = histogram(values)
    assert chart is not None
    assert sum(each.values for each in chart.bins) == len(values)
    assert len(chart.bins) <= MOST_BINS
    assert len(chart.ticks) <= MOST_TICKS
    assert all(each.start < each.exclusive_end for each in chart.bins)
    assert (chart.bins[0].start, chart.maximum) == (0, max(values))
    for each in chart.bins:
        slack = 1e-6 * max(1.0, chart.maximum)
        inside = sum(each.start + slack <= value < each.exclusive_end - slack for value in values)
        near = sum(each.start - slack <= value < each.exclusive_end + slack for value in values)
        assert inside <= each.values <= near


def test_a_histogram_of_nothing_is_none_and_of_zeros_one_bin():
    assert histogram([]) is None
    chart = histogram([0.0, 0.0])
    assert chart is not None
    assert [(each.start, each.exclusive_end, each.values) for each in chart.bins] == [(0, 1, 2)]


@given(st.integers(0, 10**6), st.integers(1, 10**6))
def test_a_percentage_is_exact_or_marked_as_rounded(part, whole):
    words = percent(part, whole)
    value = round(float(words.removeprefix("≈ ").removesuffix(" %")) * 100)
    assert words.startswith("≈") == (value * whole != part * 10_000)
    assert abs(value * whole - part * 10_000) <= whole / 2


def test_numbers_are_worded_as_people_write_them():
    assert [percent(12, 100), percent(1, 3), percent(1, 0)] == ["12 %", "≈ 33.33 %", "–"]
    assert [short_bytes(n) for n in (0, 999, 1_234_567, 999_600_000)] == ["0 B", "999 B", "1.23 MB", "1 GB"]
    seconds = (0, 12.5, 59.99, 200, 18_420)
    assert [short_duration(int(s * 1e9)) for s in seconds] == [
        "0 s",
        "12.5 s",
        "1 min 0 s",
        "3 min 20 s",
        "5 h 7 min",
    ]
    assert [difference(n) for n in (2, 0, -1_200)] == ["+2", "0", "−1,200"]
