"""Builds the objects for every command: client, cache, library, mount. Closes them in reverse order.

All decisions come from the settings. Modules that take long to import, or need something that may be absent, are
imported where they are used. Threads: `cache-limit` brings the cache under its limit once, a moment after the start.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from cambfs.account import account_directory, open_client, shared_names
from cambfs.mounts import libfuse, mount_table
from cambfs.mounts.readahead import read_further_ahead
from cambfs.names import RunId, TaskId
from cambfs.reload import Reload
from cambfs.settings.config import ApiKey, Settings
from cambfs.system import limits, private_files
from cambfs.system.daemon import notify_service_manager
from cambfs.system.signals import keep_signals_out

if TYPE_CHECKING:
    from cambfs.cache.cache import Cache
    from cambfs.http.client import Client
    from cambfs.remote.tasks import Tasks
    from cambfs.run_list import DeclaredRuns
    from cambfs.runs.library import Library
    from cambfs.shared.engine import Engine
    from cambfs.status.counters import Counters
    from cambfs.tier.tier import Tier
    from cambfs.transfers.context import Context
    from cambfs.vfs.nodes import Branch
    from cambfs.vfs.tree import Tree

# Adding up the size of a large cache takes as long as listing it, and users list a new mount first.
_TRIM_AFTER_S = 2.0


class Parts(NamedTuple):
    client: Client
    cache: Cache
    library: Library
    tasks: Tasks
    shared: Tier | None


@contextmanager
def open_library(settings: Settings, declared: Callable[[], Sequence[RunId]]) -> Iterator[Library]:
    with open_parts(settings, declared) as parts:
        yield parts.library


@contextmanager
def open_parts(
    settings: Settings,
    declared: Callable[[], Sequence[RunId]],
    counters: Counters | None = None,
    declared_tasks: Callable[[], Set[TaskId]] = frozenset,
    read_ahead: int = 0,
) -> Iterator[Parts]:
    """`counters` count the requests; `read_ahead` is as in `Library`. Raises ConfigError."""
    from cambfs.cache.cache import Cache
    from cambfs.disk.disk import Disk
    from cambfs.runs.library import Library
    from cambfs.transfers.context import make_context

    with ExitStack() as stack:
        client = stack.enter_context(open_client(settings))
        disk = None if settings.no_disk_cache else Disk(account_directory(settings))
        cache = Cache(disk, settings.cache_size)
        trimming = threading.Timer(_TRIM_AFTER_S, cache.trim)
        trimming.name, trimming.daemon = "cache-limit", True
        trimming.start()
        stack.callback(trimming.cancel)
        shared = None
        if settings.shared_cache:
            shared = stack.enter_context(closing(_open_tier(settings)))
        context = make_context(
            client if counters is None else counters.source(client),
            cache,
            timeout_s=settings.timeout,
            max_transfers=settings.max_transfers,
            max_result_bytes=settings.max_result_size,
            shared=shared,
        )
        library = stack.enter_context(closing(Library(context, declared, read_ahead)))
        yield Parts(client, cache, library, _tasks(settings, context, declared_tasks), shared)


def _open_tier(settings: Settings) -> Tier:
    """Makes no request. Raises ConfigError when the libraries for it are not installed."""
    from cambfs.shared.address import parse
    from cambfs.shared.counts import Counts
    from cambfs.tier.tier import Tier

    engine, key = _open_engine(settings)
    return Tier(engine, key, settings.shared_max_result, Counts(str(parse(settings.shared_cache))))


def _open_engine(settings: Settings) -> tuple[Engine, bytes]:
    """What the API key of the settings has in the shared cache, and the key of its seals."""
    from cambfs.shared.address import parse
    from cambfs.shared.valkey_client import Link
    from cambfs.shared.valkey_engine import ValkeyEngine
    from cambfs.system.workers import Workers

    account, seal_key = shared_names(settings)
    password = settings.shared_cache_password
    link = Link(parse(settings.shared_cache), "" if password is None else password.reveal(), Workers().start)
    return ValkeyEngine(link, account), seal_key


def drop_shared(settings: Settings, run_ids: Sequence[RunId]) -> str:
    """Removes the runs from the shared cache; returns "", or why they stay there. Raises ConfigError."""
    with closing(_open_tier(settings)) as tier:
        return tier.forget(run_ids)


def _tasks(settings: Settings, context: Context, declared: Callable[[], Set[TaskId]]) -> Tasks:
    from cambfs.remote.tasks import Tasks

    return Tasks(
        context.source,
        context.workers,
        context.closing,
        timeout_s=settings.timeout,
        wait_s=settings.task_wait,
        declared=declared,
    )


@contextmanager
def open_tasks(settings: Settings, wait_s: float) -> Iterator[Tasks]:
    """For a command that waits for tasks and nothing else, for at most `wait_s`. It waits for an API that is down as
    for one that does not answer. Raises ConfigError."""
    from cambfs.remote.tasks import Tasks
    from cambfs.system.workers import Workers

    closing = threading.Event()
    with open_client(settings) as client:
        try:
            yield Tasks(client, Workers(), closing, timeout_s=settings.timeout, wait_s=wait_s, outlast_outage=True)
        finally:
            closing.set()


def serve(
    settings: Settings,
    directory: Path,
    declared: DeclaredRuns,
    on_ready: Callable[[], None],
    reread: Callable[[], Settings] | None = None,
    warn: Callable[[str], None] = lambda _: None,
) -> int | None:
    """Mounts at `directory` and returns after the mount has ended: the signal that ended it, or None. SIGHUP reads the
    settings again with `reread`; without it, SIGHUP ends the mount. `warn` gets what the log says as well. The key is
    in no environment from here on, and no core dump is made. Raises ConfigError."""
    from cambfs.fuse import adapter
    from cambfs.fuse.error_log import ErrorLog
    from cambfs.status.counters import Counters
    from cambfs.status.files import files
    from cambfs.status.monitor import Monitor
    from cambfs.vfs.xattrs import Xattrs

    private_files.forget_secrets()
    limits.forbid_core_dumps()
    keep_signals_out()
    limits.allow_many_open_files()
    error_log, counters = ErrorLog(), Counters()

    def mounted() -> None:
        limits.forgo_root()
        on_ready()

    where = mount_table.resolved(directory)  # now, because it must not look into its own mount

    def opened() -> None:
        if not any(option.startswith("max_readahead=") for option in settings.options):
            read_further_ahead(where)

    def use_key(key: ApiKey) -> None:
        parts.client.use_key(key.reveal())
        if parts.shared is not None:
            parts.shared.use(*_open_engine(replace(settings, key=key)))

    with open_parts(settings, declared, counters, declared.tasks, settings.read_ahead) as parts:
        # Without this, a wrong address would show only in the log, and not before the first result.
        if parts.shared is not None and (reason := parts.shared.why_down()):
            remedy = f"to find out why: cambfs doctor --shared-cache {settings.shared_cache}"
            warn(f"the shared cache is down, so results come from the API: {reason}; {remedy}")
        monitor = Monitor(
            parts.library,
            counters,
            directory,
            settings.base_url,
            error_log.entries,
            parts.client.breakers.states,
            parts.tasks.awaited,
            declared.problems,
            (lambda: None) if parts.shared is None else parts.shared.usage,
        )
        reload = None if reread is None else Reload(settings, reread, use_key, parts.cache, declared)
        controls = {"errors": error_log.text, "pid": lambda: f"{os.getpid()}\n".encode(), **files(monitor)}
        # Failures are private to the user, while the audio is readable by all.
        last_error = (lambda _: None) if settings.allow_other else error_log.last
        signal = adapter.serve(
            adapter.load(libfuse.choose(settings.fuse)),
            _tree(settings, parts, declared, controls),
            Xattrs(parts.library, settings.base_url, last_error),
            directory,
            timeout_s=settings.timeout,
            close=parts.library.close,
            allow_other=settings.allow_other,
            options=settings.options,
            error_log=error_log,
            source=f"cambfs#{settings.profile}" if settings.profile else "cambfs",
            on_ready=mounted,
            on_first_open=opened,
            on_hangup=reload,
        )
        notify_service_manager("STOPPING=1")
    return signal


def _tree(
    settings: Settings, parts: Parts, declared: DeclaredRuns, controls: Mapping[str, Callable[[], bytes]]
) -> Tree:
    from cambfs.links import by_name, task_links
    from cambfs.links.playlists import ALL, AllResults, Playlists
    from cambfs.vfs.controls import NAME, Controls
    from cambfs.vfs.results import Results, UrlStyle
    from cambfs.vfs.tree import Tree
    from cambfs.vfs.wav_files import WavFiles
    from cambfs.wav.wavs import Wavs

    url_style = None if settings.no_url_files else UrlStyle(settings.url_style)
    library, tasks, playlists = parts.library, parts.tasks, Playlists(parts.library)
    endings = ["flac", "wav"] if url_style is None else ["flac", "wav", "url"]
    links = task_links.TaskLinks(tasks, endings, [one for one in endings if one != "wav" or settings.wav])
    names = by_name.ByName(
        library,
        declared.names,
        playlists,
        run_of=tasks.run_id,
        refresh=tasks.refresh,
        with_wav=settings.wav,
    )
    branches: dict[str, Branch] = {
        by_name.NAME: names,
        task_links.NAME: links,
        ALL: AllResults(library, declared.names, playlists),
        NAME: Controls(controls),
    }
    wavs = WavFiles(Wavs(library), library.listed if settings.wav else list)
    return Tree(Results(library, url_style), branches, wavs)
