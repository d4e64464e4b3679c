"""A ledger rewritten to agree with tars that were tampered with: every digest, count and origin."""

import hashlib
import json
from collections import Counter

from tars import tar_of
from test_audit import read_tar

from pipeline.audit.audit import audit
from schemas.base import digest


def replace_members(folder, shard, change):
    """Rewrites a tar with `change(members)`."""
    (folder / shard).write_bytes(tar_of(change(read_tar(folder / shard))))


def forge(folder):
    """Makes `ledger.json` tell what the tars hold now, and say that as much was asked."""
    told = audit(folder)
    path = folder / "ledger.json"
    ledger = json.loads(path.read_text())
    for table, counts in told.tables.items():
        ledger[table] = {label: count.model_dump(mode="json") for label, count in counts.items()}
    columns = [tar for column in ledger["columns"] for tar in column["shards"]]
    for entry in (*ledger["shards"], *columns):
        data = (folder / entry["name"]).read_bytes()
        entry["sha256"], entry["size_bytes"] = hashlib.sha256(data).hexdigest(), len(data)
    for entry in ledger["shards"]:
        entry["count"] = told.by_shard[entry["name"]].model_dump(mode="json")
    ledger["root_sha256"] = digest([entry["sha256"] for entry in (*ledger["shards"], *columns)])
    members = [each for entry in (*ledger["shards"], *columns) for each in read_tar(folder / entry["name"])]
    sizes = Counter()
    for name, data in members:
        sizes[name.partition(".")[2]] += len(data)
    ledger["member_bytes"] = dict(sizes)
    records = [json.loads(data) for name, data in members if name.count(".") == 1 and name.endswith(".json")]
    ledger["origins"] = {source: _origin(records, source) for source in sorted({r["source"] for r in records})}
    found = Counter(f"{r['split']}/{r['modality']}/{r['source']}" for r in records)
    for row in ledger["asked"]:
        row["asked"] = row["found"] = found[row["stratum"]]
    path.write_text(json.dumps(ledger))


def _origin(records, source):
    own = [record for record in records if record["source"] == source]
    return {
        "licences": sorted({record["licence"] for record in own}),
        "annotators": sorted({record["annotator"]["name"] for record in own}),
        "generators": sorted({record["generator"]["name"] for record in own}),
    }


def places(folder, code):
    """(shard, key) of every finding of that code."""
    return [(finding.shard, finding.key) for finding in audit(folder).findings if finding.code is code]
