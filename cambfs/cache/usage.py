"""How full a cache is and how well it serves. Values; no threads."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CacheUsage:
    """`path` is None where results are kept in memory. `results` and `bytes` count what all mounts have cached there;
    `hits`, `misses` and `evictions` are this mount's. A result that is used by several at once is one hit or miss.
    `trouble` is why results could not be cached, until one is; empty without trouble."""

    path: str | None
    bytes: int
    limit_bytes: int
    results: int
    hits: int
    misses: int
    evictions: int
    trouble: str
