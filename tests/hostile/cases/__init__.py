"""The table: every case, a line or a few each. `wire` is about HTTP itself, `content` about what a body holds and where
it ends, `remote` about the storage, the signed URLs and answers that do not fit each other.
"""

from __future__ import annotations

from tests.hostile.case import Case
from tests.hostile.cases import content, remote, wire

CASES: tuple[Case, ...] = (*wire.CASES, *content.CASES, *remote.CASES)
GROUPS: tuple[str, ...] = tuple(dict.fromkeys(case.group for case in CASES))
