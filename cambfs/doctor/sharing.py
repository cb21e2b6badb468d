"""The shared cache: whether its engine responds, has a limit and a policy that fit, and lets this user share a result.

cambfs works without the engine, so what is wrong with it is a warning. The trial leaves nothing there. No threads but
those of the engine.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import closing

from cambfs.doctor.network import milliseconds
from cambfs.doctor.report import Check, Finding, State, broken, ok, refused, warning
from cambfs.doctor.setup import Setup
from cambfs.errors import ConfigError
from cambfs.names import RunId
from cambfs.settings.config import Settings
from cambfs.shared.address import parse
from cambfs.shared.engine import Engine, EngineDown, EngineFull, EngineState
from cambfs.system.workers import Workers
from cambfs.text import shown_size

_LIMIT_S = 4.0
# Not the account of any key, and a run of its own for each trial, so that trials on several machines do not meet.
_ACCOUNT, _RUN_BITS = "doctor", 62
# One node of a cluster does not have so many.
_LOOKED_UP = range(1, 65)
_TRIAL = bytes(4096)
_LONGEST = 200
_REMEDY = "check the address, the network and the firewall, and that the server listens there (bind)"
_PASSWORD_REMEDY = "set CAMBFS_SHARED_CACHE_PASSWORD, or name a file with --shared-cache-password-file"
_LOGIN_REMEDY = f"{_PASSWORD_REMEDY}; the name of a user stands before the host in the URL"
_RIGHTS_REMEDY = "give the user the rights in docs/many-machines.md"
_CLUSTER_REMEDY = "write valkey+cluster://HOST:6379 for a cluster"
_NODES_REMEDY = "check its nodes: valkey-cli --cluster check HOST:6379"
_SENTINEL_REMEDY = "write valkey+sentinel://HOST:26379/SERVICE for Sentinels"
# What the text of an error has in it, in lower case, and what to do then.
_REMEDIES = (
    ("protected mode", "give the server a password, or start it with --protected-mode no"),
    ("number of clients", "raise maxclients there: each mount has a connection for each result under way"),
    ("without any password", "leave the password and the user out; this server has none"),
    ("invalid username-password", _LOGIN_REMEDY),
    ("authentication required", _LOGIN_REMEDY),
    ("no permissions", _RIGHTS_REMEDY),
    ("cluster mode is not enabled", "write valkey://HOST:6379 for a server that is no cluster"),
    ("moved", _CLUSTER_REMEDY),
    ("clusterdown", _NODES_REMEDY),
    ("cluster is down", _NODES_REMEDY),
    ("not covered by the cluster", _NODES_REMEDY),
    ("sentinels want a password", "remove requirepass from the Sentinels; the password is that of the primary"),
    ("no sentinel", "check the name of the service, and the addresses of the Sentinels"),
    ("unknown command 'sentinel'", "write valkey://HOST:6379 for a server that is no Sentinel"),
    ("evalsha", "let that server run scripts (EVALSHA, EVAL): see rename-command in its configuration"),
    ("unknown command", _SENTINEL_REMEDY),
    ("read only replica", f"name the primary, or {_SENTINEL_REMEDY}"),
    ("no memory is left", "CONFIG SET maxmemory-policy allkeys-lru, there"),
    ("its snapshots fail", "CONFIG SET save '', there, or give its disk room"),
    ("too few replicas", "check its replicas, or CONFIG SET min-replicas-to-write 0, there"),
    (
        "certificate",
        "use the name in the server's certificate, and add its CA to those of the system, as root: "
        "update-ca-certificates",
    ),
    ("wrong version number", "write valkey:// for a server without TLS"),
    ("closed by server", "write valkeys:// for a server with TLS"),
    ("reset by peer", "write valkeys:// for a server with TLS"),
    ("index is out of range", "name a database that the server has; the first is /0"),
    ("valkeys:", f"{_REMEDY}, with TLS"),
)


def checks(setup: Setup) -> Iterator[Check]:
    settings = setup.settings
    if settings is not None and settings.shared_cache:
        yield Check("shared cache", "server", lambda: sharing(setup, settings), _LIMIT_S)


def sharing(setup: Setup, settings: Settings) -> Iterator[Finding]:
    if setup.password_trouble is not None:
        yield refused("password", setup.password_trouble)
        return
    try:
        engine = open_engine(settings)
    except ConfigError as error:
        yield refused("library", error)
        return
    with closing(engine):
        begun_at = time.monotonic()
        state = engine.state()
        took_s = time.monotonic() - begun_at
        if state.is_down:
            yield trouble("server", state.problem)
            return
        yield ok(
            "server", f"{state.address} responds ({milliseconds(took_s)}): {state.version or 'of no known version'}"
        )
        yield (shared := trial(engine))
        if shared.state is State.OK:
            yield from memory(state)


def open_engine(settings: Settings) -> Engine:
    """Raises ConfigError when the library is not installed."""
    from cambfs.shared.valkey_client import Link
    from cambfs.shared.valkey_engine import ValkeyEngine

    password = settings.shared_cache_password
    secret = "" if password is None else password.reveal()
    return ValkeyEngine(Link(parse(settings.shared_cache), secret, Workers().start), _ACCOUNT)


def trouble(check: str, text: str, effect: str = "results come from the API") -> Finding:
    remedies = (remedy for words, remedy in _REMEDIES if words in text.lower())
    shown = text.partition(", with args")[0]
    if len(shown) > _LONGEST:  # a server in protected mode gives a lecture
        shown = shown.partition(". ")[0][:_LONGEST]
    return warning(check, f"{shown}; {effect}", next(remedies, _REMEDY))


def memory(state: EngineState) -> Iterator[Finding]:
    if state.used_bytes is None or state.max_bytes is None:
        remedy = f"{_RIGHTS_REMEDY}, or look at maxmemory and maxmemory-policy there"
        yield warning("engine's memory", "it does not tell this user (INFO)", remedy)
        return
    used = f"{shown_size(state.used_bytes)} in use"
    if not state.max_bytes:
        yield warning(
            "server's memory", f"{used}, without a limit: it may fill its machine", "CONFIG SET maxmemory 2gb, there"
        )
    else:
        yield ok("server's memory", f"{used}, of {shown_size(state.max_bytes)}")
    if state.policy in ("allkeys-lru", "allkeys-lfu"):
        yield ok("server's policy", f"{state.policy}: the results that are not in use go first")
    else:
        remedy = "CONFIG SET maxmemory-policy allkeys-lru, there, and the same line in its configuration file"
        yield warning("server's policy", f"{state.policy or 'not known'}: when it is full, sharing ends", remedy)


def trial(engine: Engine) -> Finding:
    """Shares a few bytes as a mount does, and removes them."""
    run_id, token = RunId(secrets.randbits(_RUN_BITS)), secrets.token_bytes(16)
    begun_at = time.monotonic()
    try:
        engine.facts([RunId(number) for number in _LOOKED_UP])
        is_done = engine.lease(run_id, token) and engine.append(run_id, token, 0, _TRIAL)
        is_done = is_done and engine.finish(run_id, token, b"{}")
        page = engine.read(run_id, 0, len(_TRIAL))
        engine.drop(run_id)
    except EngineFull as error:
        reason = str(error).partition("; ")[0]  # what to do is the remedy
        return trouble("sharing", reason, "new results are not shared, and those that are there are read")
    except EngineDown as error:
        return trouble("sharing", str(error))
    if not is_done or page.data != _TRIAL:
        return broken("sharing", "it does not give back what was put there", "check that nothing else uses these keys")
    return ok(
        "sharing",
        f"{shown_size(len(_TRIAL))} put there, read and removed ({milliseconds(time.monotonic() - begun_at)})",
    )
