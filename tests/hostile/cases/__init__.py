"""The table: every case, a line or a few each, in a module for each kind of the server's behaviour."""

from __future__ import annotations

from tests.hostile.case import Case
from tests.hostile.cases import changes, codings, ends, framing, interim, reuse, signatures, storage, urls

_KINDS = (interim, codings, framing, reuse, signatures, ends, storage, changes, urls)
CASES: tuple[Case, ...] = tuple(case for kind in _KINDS for case in kind.CASES)
