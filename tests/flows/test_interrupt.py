"""Ctrl-C: one line, exit 130, and the same command takes up from there."""

import re
import shlex
import signal
import subprocess
import sys
import time

import pytest
from mini import contents, environment, mini_recipe, mixture, write_recipe


@pytest.mark.slow
@pytest.mark.parametrize("runner", ["local", "ray"])
def test_ctrl_c_is_one_line_and_130_and_the_same_command_takes_up_from_there(tmp_path, runner):
    path = write_recipe(tmp_path, mini_recipe(tmp_path))
    arguments = ["build", str(path), "--runner", runner]
    build = subprocess.Popen(
        [sys.executable, "-m", "flows.cli", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    parts = tmp_path / "workspace" / "ingest"
    while not list(parts.glob("*/parts/0*.arrow")):  # in the middle of the work
        assert build.poll() is None
        time.sleep(0.05)
    build.send_signal(signal.SIGINT)
    _, errors = build.communicate(timeout=120)
    assert build.returncode == 130, errors
    assert "Traceback" not in errors
    said = [line for line in errors.splitlines() if line.startswith("mixture: ")]
    assert said == [
        "mixture: stopped; what is finished is kept, and the same command takes up from there: "
        f"mixture {shlex.join(arguments)}"
    ]
    assert not re.search("Aborted|KeyboardInterrupt", errors)
    done = mixture(*arguments, env=environment())
    assert done.returncode == 0, done.stderr
    fresh = ["--workspace", tmp_path / "ws2", "--output", tmp_path / "out2"]
    assert mixture("build", path, *fresh, env=environment()).returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "out2")


WAYS = """
import os, signal, time
from flows import cli

def ctrl_c():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.1)

class Slow:
    def __del__(self):
        ctrl_c()

def destroy():
    slow = Slow()

def swallow():
    try:
        ctrl_c()
    except BaseException:
        pass

def clean_up():
    try:
        ctrl_c()
    finally:
        try:
            [].pop()
        except IndexError:
            time.sleep(0.5)
        print("clean")

@cli.app.command()
def wait(way: str):
    globals()[way]()
    time.sleep(20)

cli.main()
"""


@pytest.mark.parametrize("way", ["destroy", "swallow", "clean_up"])
def test_ctrl_c_is_not_lost_where_something_swallows_it_and_lets_cleaning_up_end(way):
    started = time.monotonic()
    command = [sys.executable, "-c", WAYS, "wait", way]
    done = subprocess.run(command, capture_output=True, text=True, env=environment())
    assert done.returncode == 130, done.stderr
    assert done.stderr.startswith("mixture: stopped;")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ("clean\n" if way == "clean_up" else "")
    assert time.monotonic() - started < 15
