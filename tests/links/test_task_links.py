"""`cambfs.links.task_links`: links to the runs of tasks, and what a listing has in their place until they are known."""

from __future__ import annotations

import stat
from threading import Event

import pytest

from cambfs.errors import NoSuchName, TaskFailed, TaskPending, UnknownTask
from cambfs.links.task_links import TaskLinks
from cambfs.names import RunId, TaskId
from cambfs.remote.source import PENDING, TaskKind, TaskReport
from cambfs.remote.tasks import Tasks
from cambfs.system.workers import Workers
from cambfs.vfs.nodes import DIRECTORY_MODE, LINK_MODE, SECRET_MODE
from tests.fakes import LIMIT_S, FakeSource, Gate
from tests.waiting import deadline, eventually, in_thread, our_threads, read

TASK = TaskId("3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a10")
OTHER = TaskId("3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a11")
NAMED = TaskId("3f2b8a52-1c7e-4b0d-9a6f-5d1e8c2b7a12")
DONE = TaskReport(run_id=RunId(1477))
FAILED = TaskReport(failure="ERROR: no such voice")
ENDINGS = ("flac", "wav", "url")


@pytest.fixture
def tasks(source: FakeSource, closing: Event) -> Tasks:
    return Tasks(source, Workers(), closing, timeout_s=LIMIT_S, wait_s=LIMIT_S, declared=lambda: {NAMED})


@pytest.fixture
def links(tasks: Tasks) -> TaskLinks:
    return TaskLinks(tasks, ENDINGS, ("flac", "url"))


def say(source: FakeSource, task_id: TaskId, *said: TaskReport | Exception | Gate) -> None:
    source.tasks[task_id, TaskKind.SPEECH] = [*said]


def listed(links: TaskLinks) -> dict[str, int]:
    return {name: stat.S_IFMT(mode) for name, _, mode in links.names("/tasks")}


def test_a_lookup_makes_no_request_and_finds_a_link(source: FakeSource, links: TaskLinks) -> None:
    for ending in ENDINGS:
        found = links.attributes(f"/tasks/{TASK}.{ending}", deadline(), is_lookup_possible=True)
        assert (found.mode, found.size, found.nlink) == (LINK_MODE, 0, 1)
    assert links.attributes("/tasks", deadline(), is_lookup_possible=True).mode == DIRECTORY_MODE
    assert source.requests == 0


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_link_leads_to_the_file_of_the_run(source: FakeSource, links: TaskLinks, ending: str) -> None:
    say(source, TASK, PENDING, DONE)
    path, target = f"/tasks/{TASK}.{ending}", f"../1477.{ending}"
    before = links.attributes(path, deadline(), is_lookup_possible=False)
    assert links.readlink(path, deadline()) == target
    assert links.attributes(path, deadline(), is_lookup_possible=False) == before._replace(size=len(target))
    with pytest.raises(NoSuchName):
        links.open(path, deadline())


@pytest.mark.parametrize(("said", "error"), [(FAILED, TaskFailed), (None, UnknownTask)], ids=["failed", "unknown"])
def test_a_link_to_nothing(
    source: FakeSource, links: TaskLinks, said: TaskReport | None, error: type[Exception]
) -> None:
    if said is not None:
        say(source, TASK, said)
    with pytest.raises(error):
        links.readlink(f"/tasks/{TASK}.flac", deadline())
    assert links.attributes(f"/tasks/{TASK}.flac", deadline(), is_lookup_possible=True).mode == LINK_MODE


def test_the_listing_has_links_only_where_reading_them_does_not_wait(
    source: FakeSource, tasks: Tasks, links: TaskLinks
) -> None:
    say(source, TASK, DONE)
    say(source, OTHER, FAILED)
    say(source, NAMED, PENDING)
    tasks.wait(TASK, deadline())
    with pytest.raises(TaskFailed):
        tasks.wait(OTHER, deadline())
    expected = {f"{NAMED}.pending": stat.S_IFREG, f"{OTHER}.failed": stat.S_IFREG}
    expected |= {f"{TASK}.flac": stat.S_IFLNK, f"{TASK}.url": stat.S_IFLNK}
    assert listed(links) == expected
    for name, ino, mode in links.names("/tasks"):
        found = links.attributes(f"/tasks/{name}", deadline(), is_lookup_possible=True)
        assert (found.ino, stat.S_IFMT(found.mode)) == (ino, stat.S_IFMT(mode))
    eventually(lambda: not our_threads())


def test_listing_asks_for_what_is_pending_so_that_a_later_one_has_the_link(
    source: FakeSource, links: TaskLinks
) -> None:
    say(source, NAMED, DONE)
    assert listed(links) == {f"{NAMED}.pending": stat.S_IFREG}
    eventually(lambda: listed(links) == {f"{NAMED}.flac": stat.S_IFLNK, f"{NAMED}.url": stat.S_IFLNK})
    with pytest.raises(NoSuchName):
        links.attributes(f"/tasks/{NAMED}.pending", deadline(), is_lookup_possible=False)


def test_a_listing_waits_for_nothing(source: FakeSource, links: TaskLinks) -> None:
    gate = Gate()
    say(source, NAMED, gate, DONE)
    waiting = in_thread(lambda: links.readlink(f"/tasks/{NAMED}.flac", deadline()))
    gate.wait_for_arrivals()
    assert list(listed(links)) == [f"{NAMED}.pending"]
    gate.open()
    assert waiting.result(LIMIT_S) == "../1477.flac"


def test_the_files_about_tasks_tell_their_states(source: FakeSource, tasks: Tasks, links: TaskLinks) -> None:
    say(source, TASK, FAILED)
    with pytest.raises(TaskFailed):
        tasks.wait(TASK, deadline())
    for name, text in ((f"{TASK}.failed", b"ERROR: no such voice\n"), (f"{NAMED}.pending", b"PENDING\n")):
        found = links.attributes(f"/tasks/{name}", deadline(), is_lookup_possible=True)
        assert (found.mode, found.size) == (SECRET_MODE, len(text))
        assert read(links.open(f"/tasks/{name}", deadline()), 0, 100, deadline()) == text
        assert links.is_private(f"/tasks/{name}")
        with pytest.raises(NoSuchName):
            links.readlink(f"/tasks/{name}", deadline())
    assert not links.is_private("/tasks")


@pytest.mark.parametrize(
    "name",
    ["", "x.flac", TASK, f"{TASK}.", f"{TASK}.txt", f"{TASK}.FLAC", f"{TASK.upper()}.flac", "1477.flac",
     f"{TASK}.flac/x", f"../{TASK}.flac", f"{TASK}.pending", f"{NAMED}.failed", f"{TASK}.flac.url"],
)  # fmt: skip
def test_other_names_are_not_there_and_cost_no_request(source: FakeSource, links: TaskLinks, name: str) -> None:
    with pytest.raises(NoSuchName):
        links.attributes(f"/tasks/{name}", deadline(), is_lookup_possible=True)
    with pytest.raises(NoSuchName):
        links.readlink(f"/tasks/{name}", deadline())
    with pytest.raises(NoSuchName):
        links.open(f"/tasks/{name}", deadline())
    with pytest.raises(NoSuchName):
        links.names(f"/tasks/{name}")
    assert source.requests == 0


def test_an_ending_that_is_not_listed_opens_and_no_other(source: FakeSource, tasks: Tasks) -> None:
    links = TaskLinks(tasks, ("flac", "wav"), ("flac",))
    say(source, NAMED, DONE)
    tasks.wait(NAMED, deadline())
    assert list(listed(links)) == [f"{NAMED}.flac"]
    assert links.readlink(f"/tasks/{NAMED}.wav", deadline()) == "../1477.wav"
    with pytest.raises(NoSuchName):
        links.readlink(f"/tasks/{NAMED}.url", deadline())


def test_no_tasks_are_an_empty_folder(source: FakeSource, closing: Event, links: TaskLinks) -> None:
    tasks = Tasks(source, Workers(), closing, timeout_s=LIMIT_S, wait_s=0.0)
    none = TaskLinks(tasks, ("flac", "wav"), ("flac",))
    assert none.listed_mode() is None
    assert list(none.names("/tasks")) == []
    say(source, TASK, PENDING)
    with pytest.raises(TaskPending):
        none.readlink(f"/tasks/{TASK}.flac", deadline())
    eventually(lambda: none.listed_mode() is not None)
    assert links.listed_mode() == DIRECTORY_MODE
