"""Plain lines of progress: one every so many seconds, and one at the end that tells how long it took."""

from rich.console import Console

from flows import display
from flows.display import Display


def test_a_log_has_a_line_now_and_then_and_the_end_once(monkeypatch):
    now, lines = [0.0], []
    monkeypatch.setattr(display.time, "monotonic", lambda: now[0])
    with Display(Console(quiet=True), lines.append).progress("features", 3) as update:
        for done, second in ((1, 4.0), (2, 12.0), (3, 30.0)):
            now[0] = second
            update(done, 3)
    assert lines == ["features: 2/3", "features: 3/3 in 30.0 s"]
