"""The account of the settings: its key, a client with that key, and its directory in the cache.

The client and the disk are imported where they are used, since they take long to import. Threads: `check_key` starts
one, which ends with its request.
"""

from __future__ import annotations

import hashlib
import logging
import re
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cambfs.errors import ConfigError, KeyRefused, LinkError, RemoteError, TimedOut
from cambfs.settings.config import Settings
from cambfs.system import private_files
from cambfs.system.signals import without_signals

if TYPE_CHECKING:
    from cambfs.http.client import Client

log = logging.getLogger(__name__)

KEY_REMEDY = "check that CAMB_API_KEY or the key file holds a valid key"

_KEY_CHECK_S = 3.0
_ACCOUNT = re.compile(r"[0-9a-f]{32}")
_ACCEPTED = ".accepted"
# A silent connection is closed after this part of the timeout, which leaves time for another one to fall silent as
# well. A kept connection may be dead without either end knowing.
_CONNECTION_SHARE = 0.4
# A run can have a request for its URL under way beside its stream, and probes go to storage.
_CONNECTIONS_PER_TRANSFER = 2


def account_directory(settings: Settings) -> Path:
    """The directory for the results of this account: results that one key fetched are invisible to another."""
    account = f"{settings.base_url.rstrip('/')}\n{_key(settings)}".encode()
    return settings.cache_dir / hashlib.sha256(account).hexdigest()[:32]


def account_directories(cache_dir: Path) -> list[Path]:
    """The directories of all of this user's accounts in a cache. Raises ConfigError when it cannot be read."""
    try:
        found = (path for path in cache_dir.iterdir() if _ACCOUNT.fullmatch(path.name))
        return sorted(path for path in found if private_files.is_own(path))
    except FileNotFoundError:
        return []
    except OSError as error:
        from cambfs.disk.disk import unusable

        raise unusable(cache_dir, error) from None


def has_cached_results(settings: Settings) -> bool:
    """Whether any result of this account is on the disk; a quick check, which proves nothing."""
    if settings.no_disk_cache:
        return False
    try:
        return any(path.suffix == ".flac" for path in account_directory(settings).iterdir())
    except OSError:
        return False


def _key(settings: Settings) -> str:
    if settings.key is None:
        raise ConfigError(
            "no API key; set CAMB_API_KEY, or name a file that holds it with --api-key-file; "
            "to try cambfs without a key: cambfs demo"
        )
    return settings.key.reveal()


def open_client(settings: Settings, timeout_s: float | None = None) -> Client:
    """Raises ConfigError when there is no key, or the base URL is bad. Makes no request."""
    key = _key(settings)
    from cambfs.http.client import Client

    connections = settings.max_transfers * _CONNECTIONS_PER_TRANSFER
    return Client(settings.base_url, key, timeout_s or settings.timeout * _CONNECTION_SHARE, connections)


def shared_names(settings: Settings) -> tuple[str, bytes]:
    """The part of names in the shared cache that keeps accounts apart, and the key of its seals. Raises ConfigError
    when there is no key."""
    from cambfs.tier.seals import account_name, seal_key

    key = _key(settings)
    return account_name(settings.base_url, key), seal_key(settings.base_url, key)


def prepare_cache(settings: Settings) -> None:
    """Raises ConfigError when the cache directory cannot be used."""
    if not settings.no_disk_cache:
        from cambfs.disk.disk import Disk

        Disk(account_directory(settings))


def check_key(settings: Settings) -> str | None:
    """Checks the key with the API, unless the API has accepted it before. Returns a warning when there is no result
    within 3 s, except for an API that is just busy or broken: reading reports that better. Raises KeyRefused, and
    ConfigError when the server is not the API."""
    accepted = None if settings.no_disk_cache else account_directory(settings) / _ACCEPTED
    if accepted is not None and accepted.exists():
        return None
    try:
        _ask_about_key(settings)
    except KeyRefused as refused:
        raise KeyRefused(f"{refused}; {KEY_REMEDY}", refused.status) from None
    except (RemoteError, LinkError) as error:
        warning = f"mounted, but the key could not be checked: {str(error).removeprefix('the key: ')}"
        if isinstance(error, LinkError):
            warning += "; check the network and the base URL (cambfs doctor)"
        if isinstance(error, LinkError) or not error.temporary:
            return warning
        log.info("%s", warning)
        return None
    if accepted is not None:
        with suppress(OSError):  # the next mount checks again
            accepted.touch(mode=0o600)
    return None


def _ask_about_key(settings: Settings) -> None:
    """As `Client.check_key`, within 3 s."""
    response: Future[None] = Future()

    def ask() -> None:
        try:
            with open_client(settings, min(_KEY_CHECK_S, settings.timeout)) as client:
                client.check_key()
            response.set_result(None)
        except BaseException as error:
            response.set_exception(error)

    # In a thread, because resolving a name has no timeout.
    asking = threading.Thread(target=ask, name="cambfs-key", daemon=True)
    with without_signals():
        asking.start()
    try:
        response.result(_KEY_CHECK_S)
    except FutureTimeout:
        raise TimedOut(f"no response within {_KEY_CHECK_S:g} s") from None
