"""An engine on Valkey or Redis.

The keys of a run are {ACCOUNT:RUN}:s0, :s1 … for the strings of the log, :f for the facts, a hash with one field, and
:l for the lease. The braces keep them in one slot of a cluster. Steps that belong together are a script, which a server
runs without others in between. A script names all keys that it may touch, so that a cluster can tell when some of them
are on another node.

Threads: any; each call makes its requests through `Link`, in a worker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from cambfs.names import RunId
from cambfs.shared.address import Layout
from cambfs.shared.engine import LEASE_S, MAX_STRINGS, STRING_BYTES, UNFINISHED_S, EngineDown, EngineState, Page
from cambfs.shared.portions import Portions
from cambfs.shared.valkey_client import Client, Link, WriteRefused, exceptions, is_forbidden, is_of_another_type

_LEASE_MS, _UNFINISHED_MS = int(LEASE_S * 1000), int(UNFINISHED_S * 1000)
_FIELD = "facts"

# A value that does not run out so soon is of another program, and would keep the run away from all machines.
_LEASE = """
local left_ms = redis.call('PTTL', KEYS[1])
if left_ms >= 0 and left_ms <= tonumber(ARGV[2]) then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""
# Each of the other scripts begins with this. KEYS: the lease, the facts, the strings of the log.
_HOLDS = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
"""
# A log with a gap has no length.
_LENGTH = """
local string_bytes = tonumber(ARGV[2])
local function length()
  local total, is_over = 0, false
  for i = 3, #KEYS do
    local bytes = redis.call('STRLEN', KEYS[i])
    if bytes > 0 and is_over then return -1 end
    is_over = bytes < string_bytes
    total = total + bytes
  end
  return total
end
"""
# A server without memory judges a script by its first write, and lets it remove a log. So this removes none that is not
# there.
_APPEND = """
local offset, data = tonumber(ARGV[3]), ARGV[4]
if offset + #data > string_bytes * (#KEYS - 2) then return 0 end
if offset == 0 then
  if redis.call('EXISTS', unpack(KEYS, 3)) > 0 then redis.call('UNLINK', unpack(KEYS, 3)) end
elseif length() ~= offset then
  return 0
end
local done = 0
while done < #data do
  local at = offset + done
  local piece = string.sub(data, done + 1, done + string_bytes - at % string_bytes)
  redis.call('APPEND', KEYS[3 + math.floor(at / string_bytes)], piece)
  done = done + #piece
end
for i = 3, 3 + math.floor((offset + done) / string_bytes) do
  if KEYS[i] then redis.call('PEXPIRE', KEYS[i], ARGV[6]) end
end
redis.call('PEXPIRE', KEYS[1], ARGV[5])
return 1
"""
# A string that is appended to has room for as much again, up to 1 MiB more. One that is set has none to spare, and does
# not expire; but a long one would hold up the server.
_FINISH = """
if length() <= 0 then return 0 end
redis.call('UNLINK', KEYS[2])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
for i = 3, #KEYS do
  if redis.call('STRLEN', KEYS[i]) > 8388608 then
    redis.call('PERSIST', KEYS[i])
  elseif redis.call('EXISTS', KEYS[i]) == 1 then
    redis.call('SET', KEYS[i], redis.call('GET', KEYS[i]))
  end
end
redis.call('UNLINK', KEYS[1])
return 1
"""
_TELL = """
redis.call('UNLINK', KEYS[2])
redis.call('HSET', KEYS[2], ARGV[3], ARGV[4])
redis.call('PEXPIRE', KEYS[2], ARGV[5])
return 1
"""
_RELEASE = """
redis.call('UNLINK', KEYS[1])
return 1
"""


class _Script:
    def __init__(self, *parts: str) -> None:
        self._text = "".join(parts)
        self._sha = hashlib.sha1(self._text.encode(), usedforsecurity=False).hexdigest()

    def run(self, client: Client, keys: Sequence[str], *values: bytes | int | str) -> bool:
        """Whether it did what it is for. A value of another type counts as none."""
        try:
            return bool(self._call(client, keys, *values))
        except exceptions.ResponseError as error:
            if is_of_another_type(error):
                return False
            raise _refusal(error) from error

    def _call(self, client: Client, keys: Sequence[str], *values: bytes | int | str) -> Any:
        try:
            return client.evalsha(self._sha, len(keys), *keys, *values)
        except exceptions.NoScriptError:  # a server that was restarted knows no scripts, and has done nothing
            return client.eval(self._text, len(keys), *keys, *values)


def _refusal(error: exceptions.ResponseError) -> Exception:
    """What a failed command that changes something says: a user who may only read goes on to read."""
    return WriteRefused(str(error)) if is_forbidden(error) else error


_lease = _Script(_LEASE)
_append = _Script(_HOLDS, _LENGTH, _APPEND)
_finish = _Script(_HOLDS, _LENGTH, _FINISH)
_tell = _Script(_HOLDS, _TELL)
_release = _Script(_HOLDS, _RELEASE)


class ValkeyEngine:
    """`account` is the part of the keys that keeps accounts apart."""

    def __init__(self, link: Link, account: str, string_bytes: int = STRING_BYTES) -> None:
        self._link = link
        self._account = account
        self._string_bytes = string_bytes
        self._portions = Portions()

    def facts(self, run_ids: Sequence[RunId]) -> dict[RunId, bytes]:
        if not run_ids:
            return {}
        with self._portions.portion(0):
            results = self._link.call(lambda client: _together(client, *(self._facts_of(run_id) for run_id in run_ids)))
        return {run_id: facts for run_id, facts in zip(run_ids, results, strict=True) if facts is not None}

    def lease(self, run_id: RunId, token: bytes) -> bool:
        return self._link.call(lambda client: _lease.run(client, self._keys(run_id)[:1], token, _LEASE_MS))

    def append(self, run_id: RunId, token: bytes, offset: int, data: bytes) -> bool:
        done = 0
        while True:
            with self._portions.portion(len(data) - done) as portion:
                piece = data[done : done + portion.bytes]
                if not self._append(run_id, token, offset + done, piece):
                    return False
            done += len(piece)
            if done >= len(data):
                return True

    def _append(self, run_id: RunId, token: bytes, offset: int, data: bytes) -> bool:
        values = (token, self._string_bytes, offset, data, _LEASE_MS, _UNFINISHED_MS)
        return self._link.call(lambda client: _append.run(client, self._keys(run_id), *values))

    def finish(self, run_id: RunId, token: bytes, facts: bytes) -> bool:
        values = (token, self._string_bytes, _FIELD, facts)
        return self._link.call(lambda client: _finish.run(client, self._keys(run_id), *values))

    def tell(self, run_id: RunId, token: bytes, facts: bytes) -> bool:
        values = (token, self._string_bytes, _FIELD, facts, _UNFINISHED_MS)
        return self._link.call(lambda client: _tell.run(client, self._keys(run_id)[:2], *values))

    def release(self, run_id: RunId, token: bytes) -> None:
        self._link.call(lambda client: _release.run(client, self._keys(run_id)[:1], token))

    def read(self, run_id: RunId, offset: int, most_bytes: int) -> Page:
        number, start = divmod(offset, self._string_bytes)
        lease = ("PTTL", self._key(run_id, "l"))
        with self._portions.portion(most_bytes) as portion:
            string = ("GETRANGE", self._key(run_id, f"s{number}"), start, start + portion.bytes - 1)
            found = self._link.call(lambda client: _together(client, lease, self._facts_of(run_id), string))
            left_ms, facts, data = found
            portion.carried = len(data)
        return Page(data, facts, is_held=0 <= left_ms <= _LEASE_MS)

    def drop(self, run_id: RunId) -> None:
        self._link.call(lambda client: _unlink(client, self._keys(run_id)[1:]))

    def state(self) -> EngineState:
        state = EngineState(str(self._link.address))
        is_cluster = self._link.address.layout is Layout.CLUSTER
        targets = {"target_nodes": "primaries"} if is_cluster else {}
        try:
            info = self._link.call(lambda client: _info(client, targets))
        except EngineDown as error:
            return replace(state, problem=str(error), is_down=True)
        if not info:
            return state
        return _with_info(state, list(info.values()) if is_cluster else [info])

    def close(self) -> None:
        self._link.close()

    def _key(self, run_id: RunId, name: str) -> str:
        return f"{{{self._account}:{run_id}}}:{name}"

    def _keys(self, run_id: RunId) -> list[str]:
        """The lease, the facts, the strings."""
        return [self._key(run_id, name) for name in ("l", "f", *(f"s{number}" for number in range(MAX_STRINGS)))]

    def _facts_of(self, run_id: RunId) -> tuple[str, str, str]:
        return "HGET", self._key(run_id, "f"), _FIELD


def _unlink(client: Client, keys: Sequence[str]) -> None:
    try:
        client.unlink(*keys)
    except exceptions.ResponseError as error:
        raise _refusal(error) from error


def _together(client: Client, *commands: tuple[Any, ...]) -> list[Any]:
    """Results in one round trip, of a cluster one for each node. A value of another type reads as b""."""
    pipeline = client.pipeline(transaction=False)
    for command in commands:
        pipeline.execute_command(*command)
    results = [b"" if is_of_another_type(result) else result for result in pipeline.execute(raise_on_error=False)]
    for result in results:
        if isinstance(result, Exception):
            raise result
    return results


def _info(client: Client, targets: dict[str, str]) -> Any:
    """{} from a server that does not tell this user. It may share results all the same."""
    try:
        return client.info(**targets)
    except exceptions.ResponseError as error:
        if is_forbidden(error):
            return {}
        raise


def _with_info(state: EngineState, servers: list[dict[str, Any]]) -> EngineState:
    """Of a cluster the sums, and the policy of its first primary."""
    first = servers[0]
    name = "valkey" if "valkey_version" in first else "redis"
    max_bytes = sum(int(info.get("maxmemory", 0)) for info in servers)
    policy = str(first.get("maxmemory_policy", ""))
    return replace(
        state,
        version=f"{name} {first.get(f'{name}_version', '')}".strip(),
        used_bytes=sum(int(info.get("used_memory", 0)) for info in servers),
        max_bytes=max_bytes,
        policy=policy,
        problem=_problem(max_bytes, policy),
    )


def _problem(max_bytes: int, policy: str) -> str:
    if not max_bytes:
        return "maxmemory is not set there, so results may fill all memory of that machine; set it"
    if not policy.startswith("allkeys-"):
        return f"maxmemory-policy is {policy}, so a full engine takes no more results; set it to allkeys-lru"
    return ""
