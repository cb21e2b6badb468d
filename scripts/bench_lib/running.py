"""A process that runs as long as a `with` lasts. No threads."""

from __future__ import annotations

import subprocess
from types import TracebackType
from typing import AnyStr, Generic, Self


class Running(Generic[AnyStr]):
    """Entering starts the process and returns when it is ready. Leaving ends it, and so does a failure to get ready."""

    process: subprocess.Popen[AnyStr]

    def start(self) -> subprocess.Popen[AnyStr]:
        raise NotImplementedError

    def await_ready(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self.process = self.start()
        try:
            self.await_ready()
        except BaseException:
            self.end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.end()
