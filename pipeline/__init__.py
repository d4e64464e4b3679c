"""How each step works: one folder a stage, in the order of the picture.

    ingest -> plan -> conversations -> decode -> features -> shards -> audit -> train -> benchmark

`runtime` holds the stage contract and its runners. A stage knows `schemas` and that contract,
never another stage; what it needs from one is handed in by the flow.
"""
