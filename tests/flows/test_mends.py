"""What mends a rejection is told once, in two places that say the same."""

import re
from pathlib import Path

from flows.mends import MENDS
from schemas.rejection import Reason

OPERATIONS = Path(__file__).parents[2] / "docs" / "operations.md"


def test_every_reason_has_a_mend_and_the_document_tells_the_same():
    rows = re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", OPERATIONS.read_text(), re.MULTILINE)
    told = {reason: mend for reason, _, mend in rows if reason in set(Reason)}
    assert told == dict(MENDS)
    assert set(MENDS) == set(Reason)
