"""`kill -9` of the process that asks: what was handed on is never asked for again."""

import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from fake_engine import make_prompt, reply_to

from pipeline.conversations.cache import RequestCache

SCRIPT = Path(__file__).with_name("asking_run.py")
COUNT = 400
ADDRESSES = [make_prompt(number).address for number in range(COUNT)]


def begin(folder):
    return subprocess.Popen([sys.executable, SCRIPT, folder, str(COUNT)], cwd=Path.cwd(), env={"PYTHONPATH": "."})


def lines(path):
    return path.read_text().splitlines() if path.exists() else []


def test_a_run_that_is_killed_twice_asks_for_no_committed_reply_again(tmp_path):
    committed, asked = set(), Counter()
    for share in (0.25, 0.6, None):
        running = begin(tmp_path)
        if share is None:
            assert running.wait(60) == 0
        else:
            while len(lines(tmp_path / "handed")) < share * COUNT and running.poll() is None:
                time.sleep(0.005)
            running.kill()
            assert running.wait() == -9
        now = Counter(lines(tmp_path / "asked"))
        assert not committed & set(now - asked)
        asked = now
        committed = {found.address for found in RequestCache(tmp_path / "cache").get_many(ADDRESSES) if found}
        assert set(lines(tmp_path / "handed")) <= committed
    assert committed == set(ADDRESSES)
    assert asked.total() - COUNT <= 2 * 2 * 16 + 100  # what was in flight or not yet committed at a kill, no more
    kept = RequestCache(tmp_path / "cache").get_many(ADDRESSES)
    assert kept == [reply_to(make_prompt(number)) for number in range(COUNT)]
