"""The tier that machines with the same key share, as one mount sees it: what is known there, and which machine fetches
a run.

Threads: any. It waits for the engine, at most half a second a call, and holds no lock meanwhile. Every failure of the
engine means that the API is asked instead.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Sequence
from concurrent.futures import Future
from contextlib import suppress
from threading import Event

from cambfs.model import RunInfo
from cambfs.names import RunId
from cambfs.shared.counts import Counts, Usage
from cambfs.shared.engine import Engine, EngineDown
from cambfs.tier.follow import FIRST_PAUSE_S, LONGEST_PAUSE_S, Hear, IsEnough, SharedBody, always
from cambfs.tier.run_log import Account, RunLog
from cambfs.tier.seals import FRAME_BYTES, Header, SealBroken, open_facts
from cambfs.tier.upload import Lead, Origin, Upload

log = logging.getLogger(__name__)

_DROPPED = "%s; dropped from the shared cache; check which other programs may write there"


class Tier:
    """`key` is that of `seal_key`. Results of more than `max_result_bytes` are not shared. Call `close` at the end."""

    def __init__(self, engine: Engine, key: bytes, max_result_bytes: int, counts: Counts) -> None:
        self._account = Account(engine, key)  # a single word, so each call takes it once
        self._max_result_bytes = max_result_bytes
        self._counts = counts
        self._has_warned = False  # a single word, which any thread writes

    def use(self, engine: Engine, key: bytes) -> None:
        """Those of another API key, from here on. What is read or shared with the old ones ends soon, as when an engine
        is down: no log has parts of both."""
        before, self._account = self._account, Account(engine, key)
        before.engine.close()

    def known(self, run_ids: Sequence[RunId]) -> dict[RunId, RunInfo]:
        """The size and time of those runs that another machine knows. {} when the engine is down."""
        if not run_ids:
            return {}
        account = self._account
        try:
            found = account.engine.facts(run_ids)
        except EngineDown as error:
            self._counts.note_failure(error)
            return {}
        self._counts.note_up()
        known = {}
        for run_id, sealed in found.items():
            try:
                known[run_id] = open_facts(account.key, run_id, sealed).info
            except SealBroken as error:
                self._drop(account, run_id, error)
        self._counts.add("facts", len(known))
        return known

    def open(
        self,
        run_id: RunId,
        position: int,
        hear: Hear,
        closing: Event,
        patience_s: float,
        is_enough: IsEnough = always,
    ) -> SharedBody | Lead | None:
        """The result as another machine fetches it, or has; the lease when this machine is to fetch it for all; None
        when it fetches it for itself. `position` is how far the result is here. Waits at most
        `patience_s` for the first response to another machine, or until `closing` is set. `is_enough` is asked now and
        then while the other machine is behind."""
        if position and position > self._max_result_bytes - FRAME_BYTES:
            return None  # another machine has stopped there
        lead = Lead(run_id, secrets.token_bytes(16), self._account)
        pause_s, give_up_at = FIRST_PAUSE_S, time.monotonic() + patience_s
        try:
            while True:
                run_log = self._look(lead)
                self._counts.note_up()
                if self._is_too_large(run_log):
                    return None
                if run_log.header is not None and (run_log.is_held or run_log.is_whole):
                    return self._follow(run_log, run_log.header, hear, is_enough)
                if lead.account.engine.lease(run_id, lead.token):
                    return self._lead(lead, hear)
                if time.monotonic() > give_up_at or closing.wait(pause_s):
                    return None
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
        except EngineDown as error:
            self._counts.note_failure(error)
            return None

    def _lead(self, lead: Lead, hear: Hear) -> SharedBody | Lead:
        """The machine that had the lease may have finished since the last look."""
        run_log = self._look(lead)
        if run_log.header is None or not run_log.is_whole:
            return lead
        self.release(lead)
        return self._follow(run_log, run_log.header, hear, always)

    def _follow(self, run_log: RunLog, header: Header, hear: Hear, is_enough: IsEnough) -> SharedBody:
        self._counts.add("hits" if run_log.is_whole else "followed")
        return SharedBody(run_log, header, hear, self.reject, self._counts, is_enough)

    def _look(self, lead: Lead) -> RunLog:
        """The log, read up to its header if it has one. The lease need not be there."""
        run_log = RunLog(lead.account, lead.run_id)
        try:
            run_log.read()
        except SealBroken as error:
            self._drop(lead.account, lead.run_id, error)
            return RunLog(lead.account, lead.run_id)
        return run_log

    def _is_too_large(self, run_log: RunLog) -> bool:
        told = run_log.header.total if run_log.header is not None else None
        size = run_log.facts.size if run_log.facts is not None else 0
        return max(told or 0, size) > self._max_result_bytes

    def share(self, lead: Lead, response: Future[Header | None], origin: Origin) -> None:
        """Puts the result there as it comes, in the calling thread, until that is done or this machine does not fetch
        it any more. Raises nothing. `response` is as in `Upload`."""
        most_bytes, counts = self._max_result_bytes, self._counts
        Upload(lead, response, origin, most_bytes, counts, self._drop).run()

    def release(self, lead: Lead) -> None:
        """This machine does not fetch the run."""
        with suppress(EngineDown):
            lead.account.engine.release(lead.run_id, lead.token)

    def reject(self, run_log: RunLog, error: SealBroken | None) -> None:
        """Drops a log that is of no use, unless another has replaced it."""
        with suppress(EngineDown):
            if run_log.is_there():
                self._drop(run_log.account, run_log.run_id, error)

    def _drop(self, account: Account, run_id: RunId, error: SealBroken | None) -> None:
        if error is not None:
            log.log(logging.INFO if self._has_warned else logging.WARNING, _DROPPED, error)
            self._has_warned = True
            self._counts.add("dropped")
        with suppress(EngineDown):
            account.engine.drop(run_id)

    def forget(self, run_ids: Sequence[RunId]) -> str:
        """Removes all that is there of these runs. Returns "", or why the engine does not do that."""
        try:
            for run_id in run_ids:
                self._account.engine.drop(run_id)
        except EngineDown as error:
            return str(error)
        return ""

    def why_down(self) -> str:
        """ "" when the engine responds to a first request."""
        try:
            self._account.engine.facts([RunId(1)])
        except EngineDown as error:
            self._counts.note_failure(error)
            return str(error)
        self._counts.note_up()
        return ""

    def usage(self) -> Usage:
        return self._counts.usage()

    def close(self) -> None:
        self._account.engine.close()
