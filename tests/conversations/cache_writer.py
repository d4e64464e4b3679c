"""A process that writes replies to a cache: `python cache_writer.py PLACE FIRST STOP`, a commit each ten.

Its texts name the process, so that who won is seen.
"""

import os
import sys

from fake_engine import make_prompt, reply_to

from pipeline.conversations.cache import RequestCache
from pipeline.storage.places import place

if __name__ == "__main__":
    cache = RequestCache(place(sys.argv[1]))
    for number in range(int(sys.argv[2]), int(sys.argv[3])):
        prompt = make_prompt(number)
        cache.put(prompt, reply_to(prompt).model_copy(update={"text": f"{number} by {os.getpid()}"}))
        if number % 10 == 9:
            cache.flush()
    cache.flush()
