"""The storage: objects behind signed URLs, and the streams that the API redirects to. It never needs the key.

Runs in the server's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from cambfs.demo.audio import Audio
from cambfs.demo.responses import stored, stream, xml_error
from cambfs.demo.store import Store


class Storage:
    def __init__(self, store: Store) -> None:
        self._store = store

    def routes(self) -> list[Route]:
        return [
            Route("/files/audio_{run_id:int}.flac", self._stored),
            Route("/streams/audio_{run_id:int}.flac", self._redirected),
        ]

    async def _stored(self, request: Request) -> Response:
        return stored(request, await self._audio(request, self._store.stored), self._store.profile)

    async def _redirected(self, request: Request) -> Response:
        return stream(request, await self._audio(request, self._store.streamed), self._store.profile)

    async def _audio(self, request: Request, find: Callable[[int], Audio]) -> Audio:
        await asyncio.sleep(self._store.profile.latency_s)
        # The method is part of the signature, and only GET ever is.
        if request.method != "GET" or not self._store.is_signed(request.url.path, request.url.query):
            raise xml_error(403, "SignatureDoesNotMatch")
        if self._store.is_expired(request.url.query):
            raise xml_error(403, "AccessDenied")
        try:
            return find(request.path_params["run_id"])
        except (KeyError, OSError):
            raise xml_error(404, "NoSuchKey") from None
