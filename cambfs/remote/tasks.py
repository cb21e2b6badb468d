"""Tasks, and the runs that they made. All waiters of a task share its requests.

A poll asks the `Source` for the state of one task, again and again while the task has waiters. It runs in a thread
named `task-TASK`, and ends when the outcome is known or the last waiter has left. `links.task_links` shows outcomes as
files. Threads: any may call. `_changed` guards the tables; no other lock is taken, and no request made, under it.
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition, Event

from cachetools import TTLCache

from cambfs.clock import since_boot_s
from cambfs.deadline import Deadline
from cambfs.errors import CambfsError, Closing, LinkError, TaskFailed, TaskPending, TimedOut, UnknownRun, UnknownTask
from cambfs.names import RunId, TaskId
from cambfs.remote.retry import Backoff
from cambfs.remote.source import PENDING, Source, TaskKind, TaskReport
from cambfs.system.workers import Workers

log = logging.getLogger(__name__)

# The pauses between requests for a pending task. The API's documentation advises to begin with two seconds. From there
# on a pause is about a quarter of the time that has passed, so a waiter does not wait much longer than the task takes.
_FIRST_PAUSE_S = 2.0
_LONGEST_PAUSE_S = 10.0
_GROWTH = 1.25
_JITTER = 0.1
# A poll ends when the API says for so long that it is busy or broken.
_REFUSING_S = 300.0
# How long an unknown or failed task is not requested again. An unknown task may be created, so not longer.
_REFUSED_FOR_S = 5.0
# A listing requests at most so many tasks, those that were requested longest ago, and none of them more often.
_REFRESHED = 8
_REFRESH_S = 5.0
_jitter = random.Random()


@dataclass(eq=False)
class _Poll:
    """The requests for one task. `waiters` is the number of threads that wait for `outcome`."""

    task_id: TaskId
    kinds: Sequence[TaskKind] = (TaskKind.SPEECH, TaskKind.TRANSLATED)  # only one, once it is known
    waiters: int = 0
    outcome: Future[RunId] = field(default_factory=Future)


class Tasks:
    """`wait_s` is the longest wait for a pending task. A poll fails when the API has not responded for `timeout_s`, or,
    unless `outlast_outage`, as soon as the API is known to be down. `declared` returns the tasks that the user
    named, in their order. Every wait ends once `closing` is set."""

    def __init__(
        self,
        source: Source,
        workers: Workers,
        closing: Event,
        *,
        timeout_s: float,
        wait_s: float,
        declared: Callable[[], Set[TaskId]] = frozenset,
        outlast_outage: bool = False,
    ) -> None:
        self._source = source
        self._workers = workers
        self._closing = closing
        self._timeout_s = timeout_s
        self._wait_s = wait_s
        self._declared = declared
        self._outlast_outage = outlast_outage
        self._changed = Condition()  # guards all below; notified when a poll has lost its last waiter
        self._polls: dict[TaskId, _Poll] = {}
        self._reports: dict[TaskId, TaskReport] = {}  # the last one of each task that the API knows
        self._unknown: set[TaskId] = set()
        self._asked_at: dict[TaskId, float] = {}  # time.monotonic
        self._refused: TTLCache[TaskId, CambfsError] = TTLCache(math.inf, _REFUSED_FOR_S, timer=since_boot_s)

    def run_id(self, task_id: TaskId) -> RunId | None:
        """The run of a task that is known to have succeeded; None for any other. Makes no request."""
        with self._changed:
            return self._reports.get(task_id, PENDING).run_id

    def report(self, task_id: TaskId) -> TaskReport | None:
        """As `reports`, of one task; None when it is not among them."""
        with self._changed:
            found, is_unknown = self._reports.get(task_id), task_id in self._unknown
        if found is None and not is_unknown and task_id in self._declared():
            return PENDING
        return found

    def wait(self, task_id: TaskId, deadline: Deadline, wait_s: float | None = None) -> RunId:
        """The run of a task, waited for while it is pending. The deadline's caller may be killed meanwhile; its timeout
        does not count.

        Raises UnknownTask, TaskFailed, TaskPending after `wait_s` or else the usual wait, and what the requests raise.
        """
        wait_s = self._wait_s if wait_s is None else wait_s
        known = self.run_id(task_id)
        if known is not None:
            return known
        self._check_open()
        with self._joined(task_id) as poll:
            try:
                return deadline.lasting(wait_s).result(poll.outcome, self._check_open)
            except TimedOut:
                if poll.outcome.done():  # it may have timed out, too
                    return poll.outcome.result()
                raise TaskPending(f"task {task_id}: still pending after {round(wait_s, 1):g} s") from None

    def reports(self) -> Mapping[TaskId, TaskReport]:
        """The last known state of the tasks that the user named, and of those that were requested, without the tasks
        that the API does not know. Makes no request."""
        declared = self._declared()
        with self._changed:
            pending = (task_id for task_id in declared if task_id not in self._unknown)
            return {**dict.fromkeys(pending, PENDING), **self._reports}

    def refresh(self) -> None:
        """Requests in the background the state of some tasks whose outcome is not known. Waits for nothing."""
        unsettled = [task_id for task_id, report in self.reports().items() if report == PENDING]
        with self._changed:
            asked_at = {task_id: self._asked_at.get(task_id, -math.inf) for task_id in unsettled}
            latest = time.monotonic() - _REFRESH_S
            due = [task_id for task_id in unsettled if asked_at[task_id] <= latest and task_id not in self._polls]
            polls = [self._begin(task_id) for task_id in sorted(due, key=asked_at.__getitem__)[:_REFRESHED]]
        for poll in polls:
            self._start(poll)

    def awaited(self) -> int:
        """The number of tasks that have waiters."""
        with self._changed:
            return sum(poll.waiters > 0 for poll in self._polls.values())

    def _check_open(self) -> None:
        if self._closing.is_set():
            raise Closing("the mount is being unmounted")

    @contextmanager
    def _joined(self, task_id: TaskId) -> Iterator[_Poll]:
        with self._changed:
            if (refused := self._refused.get(task_id)) is not None:
                raise refused.with_traceback(None)
            is_new = task_id not in self._polls
            poll = self._begin(task_id) if is_new else self._polls[task_id]
            poll.waiters += 1
        try:
            if is_new:
                self._start(poll)
            yield poll
        finally:
            with self._changed:
                poll.waiters -= 1
                self._changed.notify_all()

    def _begin(self, task_id: TaskId) -> _Poll:
        poll = self._polls[task_id] = _Poll(task_id)
        return poll

    def _start(self, poll: _Poll) -> None:
        try:
            self._workers.start(f"task-{poll.task_id}", lambda: self._work(poll))
        except CambfsError as error:
            self._end(poll, error)

    # In the thread of the poll.

    def _work(self, poll: _Poll) -> None:
        try:
            self._settle(poll)
        except CambfsError as error:
            self._end(poll, error)
        except Exception as error:
            log.exception("task %s: unexpected error while asking for it", poll.task_id)
            self._end(poll, CambfsError(f"an internal error: {type(error).__name__}, see the log"))

    def _settle(self, poll: _Poll) -> None:
        """Returns when the outcome is known, or the poll has ended for want of waiters. Raises the error that ends
        it."""
        pause_s = _FIRST_PAUSE_S
        while (report := self._report(poll)) is not None and not self._note(poll, report):
            if not self._is_awaited_after(poll, pause_s * _jitter.uniform(1, 1 + _JITTER)):
                return
            pause_s = min(_LONGEST_PAUSE_S, pause_s * _GROWTH)

    def _report(self, poll: _Poll) -> TaskReport | None:
        """The state of the task, requested again while that fails temporarily; None when the poll has ended for want
        of waiters."""
        unanswered, refused = Backoff(self._timeout_s), Backoff(min(self._wait_s, _REFUSING_S))
        while True:
            try:
                return self._ask(poll)
            except LinkError as error:
                pause_s = unanswered.pause_s(error, outlast_outage=self._outlast_outage)
            except CambfsError as error:
                unanswered.progress()
                pause_s = refused.pause_s(error)
            if not self._is_awaited_after(poll, pause_s):
                return None

    def _ask(self, poll: _Poll) -> TaskReport:
        with self._changed:
            self._asked_at[poll.task_id] = time.monotonic()
        unknown: UnknownRun | None = None
        for kind in poll.kinds:
            try:
                report = self._source.task(poll.task_id, kind)
            except UnknownRun as error:
                unknown = unknown or error
            else:
                poll.kinds = (kind,)
                return report
        assert unknown is not None, "at least one kind was asked for"
        raise UnknownTask(str(unknown), unknown.status)

    def _note(self, poll: _Poll, report: TaskReport) -> bool:
        """Returns whether the task has succeeded. Raises TaskFailed."""
        with self._changed:
            self._reports[poll.task_id] = report
            self._unknown.discard(poll.task_id)
        if report.failure is not None:
            raise TaskFailed(f"task {poll.task_id}: {report.failure}")
        if report.run_id is None:
            return False
        self._end(poll, report.run_id)
        return True

    def _is_awaited_after(self, poll: _Poll, pause_s: float) -> bool:
        """Waits for `pause_s`. Ends the poll, and returns False, as soon as it has no waiters."""
        with self._changed:
            self._changed.wait_for(lambda: not poll.waiters, pause_s)
            if poll.waiters:
                return True
            del self._polls[poll.task_id]
            return False

    def _end(self, poll: _Poll, outcome: RunId | CambfsError) -> None:
        with self._changed:
            del self._polls[poll.task_id]
            if isinstance(outcome, UnknownTask):
                self._forget(poll.task_id)
            if isinstance(outcome, UnknownTask | TaskFailed):
                self._refused[poll.task_id] = outcome
        if isinstance(outcome, CambfsError):
            poll.outcome.set_exception(outcome)
        else:
            poll.outcome.set_result(outcome)

    def _forget(self, task_id: TaskId) -> None:
        self._unknown.add(task_id)
        self._reports.pop(task_id, None)
        self._asked_at.pop(task_id, None)
