"""The storage, another origin than the API: objects behind signed URLs, and the streams that the API redirects to.

It never asks for the key. Runs in the server's thread.
"""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.routing import Route

from cambfs.demo.answer import Answer
from cambfs.demo.base import Application, Refused, part, stream
from cambfs.demo.content import Content, same


class Storage(Application):
    def routes(self) -> list[Route]:
        return [
            Route("/files/audio_{run_id:int}.flac", self._stored),
            Route("/streams/audio_{run_id:int}.flac", self._redirected),
        ]

    async def _stored(self, request: Request) -> Answer:
        run_id = request.path_params["run_id"]
        await self.note(request, "stored", run_id)
        self._check_signature(request)
        fault = self.take_fault("stored", run_id)
        content = self._content(run_id, self.store.stored)
        status, headers, start, stop = part(request, content, self.store.profile.storage != "no-ranges")
        headers = {**headers, "ETag": content.etag, "Last-Modified": content.modified}
        return self.finish(request, Answer(content, status, headers, start=start, stop=stop), fault)

    async def _redirected(self, request: Request) -> Answer:
        run_id = request.path_params["run_id"]
        await self.note(request, "redirected", run_id)
        self._check_signature(request)
        profile = self.store.profile
        fault = self.take_fault("redirected", run_id, profile.length)
        content = self._content(run_id, lambda run_id: same(self.store.results[run_id]))
        return self.finish(request, stream(request, content, profile), fault)

    def _check_signature(self, request: Request) -> None:
        # The method is part of what is signed, and only GET ever is.
        if request.method != "GET" or not self.store.is_signed(request.url.path, request.url.query):
            raise xml_error(403, "SignatureDoesNotMatch")
        if self.store.is_expired(request.url.query):
            raise xml_error(403, "AccessDenied")

    def _content(self, run_id: int, find: Callable[[int], Content]) -> Content:
        try:
            return find(run_id)
        except (KeyError, OSError):
            raise xml_error(404, "NoSuchKey") from None


def xml_error(status: int, code: str) -> Refused:
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code></Error>'
    return Refused(Answer(Content(body.encode(), content_type="application/xml"), status))
