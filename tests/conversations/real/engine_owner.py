"""A program that starts an engine, tells the ids of its processes, and waits to be killed."""

import sys
import time

from pipeline.conversations.vllm_engine import VllmEngine
from schemas.llm import ChatModelSpec, EngineSpec

if __name__ == "__main__":
    model = ChatModelSpec(name="tiny", model=sys.argv[1], dtype="float32", max_model_len=1024)
    options = {"enforce_eager": True, "kv_cache_memory_bytes": 2**27}
    engine = VllmEngine(model, EngineSpec(max_num_seqs=4, options=options))
    engine.start()
    sys.stdout.write(" ".join(str(process.pid) for process in engine._family) + "\n")
    sys.stdout.flush()
    time.sleep(600)
