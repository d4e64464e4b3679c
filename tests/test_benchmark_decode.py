"""The decode benchmark's own arithmetic: who is compared, what counts as a win, how far off a frame is."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def truth_25fps(frames):
    from decode_footage import Truth

    return Truth(tuple(40_000_000 * i for i in range(frames)), 0, 40_000_000 * frames, (1920, 1080), 1, 1000)


def answer(cpu_s, **fields):
    return {"cpu_s": cpu_s, "wall_s": cpu_s, "frames": 2, "pts_ns": [0, 480_000_000], "places": []} | fields


TIMES_NS = (0, 500_000_000)


def cell(name, peers, height=1080, kind="h264"):
    from decode_report import Cell, results

    pairs = {peer: [(answer(1.0), found)] for peer, found in peers.items()}
    shown = truth_25fps(25)
    return Cell(name, kind, height, 2, 2, shown, results(pairs, TIMES_NS, shown))


def test_the_frame_shown_at_its_time_is_no_fault_and_its_neighbours_are():
    from decode_report import faults

    shown = truth_25fps(25)
    assert faults(answer(1), TIMES_NS, shown) == (0.5, 0)
    assert faults(answer(1, pts_ns=[0, 520_000_000]), TIMES_NS, shown) == (0.5, 1)
    assert faults(answer(1, places=[0, 10]), TIMES_NS, shown) == (2.5, 1)


def test_times_rounded_by_a_library_name_the_nearest_frame():
    from decode_report import faults

    assert faults(answer(1, pts_ns=[3, 479_999_999]), TIMES_NS, truth_25fps(25)) == (0.5, 0)


def test_a_frame_lasts_until_the_next_one_or_the_end_of_the_film():
    from decode_footage import Truth
    from decode_report import faults

    uneven = Truth((0, 100, 400), 0, 600, (1, 1), 1, 1)
    found = answer(1, places=[0, 1, 2], pts_ns=[])
    assert faults(found, (50, 250, 500), uneven) == (0.5, 0)


def test_a_peer_that_fails_or_brings_too_few_frames_is_no_win():
    found = cell("film", {"decord-1": {"error": "cannot"}, "opencv": answer(0.1, frames=1), "pyav-1": answer(3.0)})
    assert found.results["decord-1"].ratio is None
    assert found.results["opencv"].ratio is None
    assert found.best_rival() == (3.0, "pyav-1")


def test_what_does_less_and_the_floor_are_no_rivals():
    found = cell("film", {"decord-scaled": answer(0.5), "floor": answer(0.4), "decord-auto": answer(2.0)})
    assert found.best_rival() == (2.0, "decord-auto")
    assert found.ratio("decord") == 2.0


def test_the_headline_leaves_out_what_decord_cannot_read_and_counts_it():
    from decode_report import summary

    peers = {"floor": answer(0.8), "decord-1": answer(4.0), "decord-auto": answer(5.0), "pyav-1": answer(2.0)}
    unread = {"floor": answer(0.1), "decord-1": {"error": "x"}, "decord-auto": {"error": "x"}}
    cells = [cell("a", peers), cell("b", peers | unread, 360)]
    headline = summary(cells)
    assert headline["floor_ratio"] == 1.25
    assert headline["decord_ratio_default"] == headline["geomean_decord"] == 4.0
    assert headline["decord_failed"] == 1
    assert headline["worst_cell"] == {"ratio": 2.0, "peer": "pyav-1", "cell": "a@2"}


def test_a_failure_of_ours_is_told_and_gives_no_ratio():
    from decode_report import Cell, results, summary, tables

    shown = truth_25fps(25)
    broken = Cell("film", "h264", 1080, 2, 2, shown, results({"ours": [({"error": "no"},) * 2]}, TIMES_NS, shown))
    assert summary([broken])["ours_failed"] == ["film@2"]
    assert "film@2, ours: no" in tables([broken])


def test_every_codec_and_the_headline_are_in_the_quick_run():
    from decode import cells
    from decode_footage import CODECS, HARD, Clip

    quick = set(cells(quick=True))
    assert {clip.kind for clip, _ in quick} == {*CODECS, *HARD, "as-is"}
    assert (
        {(Clip("bikes", codec, 1080, 10), 2) for codec in ("h264", "h264-nonref70")}
        <= quick
        < set(cells(quick=False))
    )


def test_footage_runs_there_and_back_so_that_no_cut_is_added():
    from decode_footage import Clip, there_and_back

    graph = there_and_back(Clip("bikes", "h264", 360, 25))
    assert "[in0]null[out0];[in1]reverse[out1];[in2]null[out2]" in graph
    assert "concat=n=3" in graph
    assert "trim=duration=25" in graph


def test_a_job_asks_while_the_film_lasts_for_sizes_that_fit_the_squares():
    from decode import job_of

    job = job_of(Path("film.mp4"), truth_25fps(25), 2)
    assert job.times_ns == (0, 500_000_000)
    assert job.sizes == ((384, 216), (224, 126))


def test_a_peer_that_dies_leaves_its_last_words_and_is_started_again(tmp_path):
    from decode import Process, job_of

    with Process("pyav-1", sys.executable) as peer:
        job = job_of(tmp_path / "absent.mp4", truth_25fps(25), 2)
        assert "FileNotFoundError" in peer.ask(job)["error"]
        assert "FileNotFoundError" in peer.ask(job)["error"]


def test_a_peer_that_is_not_installed_is_said_to_be_so(tmp_path):
    from decode import Process, job_of

    with Process("no such peer", sys.executable) as peer:
        assert "KeyError" in peer.ask(job_of(tmp_path / "film.mp4", truth_25fps(25), 2))["error"]
