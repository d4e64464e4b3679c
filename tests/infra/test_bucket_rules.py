"""The rules for buckets are what a store takes, and end what a killed run left."""

import json
import re
from pathlib import Path

from store_server import BUCKET, running_store

RULES = Path(__file__).parents[2] / "infra" / "s3"


def test_a_store_takes_the_lifecycle_that_ends_unfinished_uploads():
    lifecycle = json.loads((RULES / "lifecycle.json").read_text())
    with running_store() as store:
        store.client.put_bucket_lifecycle_configuration(Bucket=BUCKET, LifecycleConfiguration=lifecycle)
        (rule,) = store.client.get_bucket_lifecycle_configuration(Bucket=BUCKET)["Rules"]
    assert rule["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert rule["Status"] == "Enabled"


def test_the_policy_allows_what_a_refusal_asks_for():
    policy = json.loads((RULES / "policy.json").read_text())
    allowed = {action for statement in policy["Statement"] for action in statement["Action"]}
    source = (Path(__file__).parents[2] / "pipeline" / "storage" / "faults.py").read_text(encoding="utf-8")
    asked = {
        f"s3:{name}" for name in ("GetObject", "PutObject", "DeleteObject", "ListBucket") if f"s3:{name}" in source
    }
    assert {"s3:GetObject", "s3:PutObject"} <= asked <= allowed
