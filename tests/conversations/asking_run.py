"""A run that can be killed: `python asking_run.py FOLDER PROMPTS`.

Writes what the engine was asked to FOLDER/asked, and what was handed on to FOLDER/handed, one address a line.
"""

import sys
from pathlib import Path

from fake_engine import FakeEngine, make_prompt

from pipeline.conversations.asking import Asker
from pipeline.conversations.cache import RequestCache


async def ask(asker, prompt, handed):
    completion = await asker.ask(prompt)
    handed.write(f"{completion.address}\n")
    handed.flush()


if __name__ == "__main__":
    folder, count = Path(sys.argv[1]), int(sys.argv[2])
    engine = FakeEngine(16, log=folder / "asked")
    engine.delay_s = 0.02
    with (
        (folder / "handed").open("a") as handed,
        Asker(engine, RequestCache(folder / "cache"), stall_s=60, commit_s=0.02) as asker,
    ):
        asker.run(ask(asker, make_prompt(number), handed) for number in range(count))
