"""`python -m cambfs.demo`: the API of the demo alone, with an option for each field of its profile, until Ctrl-C.

The server has its own thread; this one waits.
"""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from cambfs.demo import samples
from cambfs.demo.profile import Profile


def main(arguments: Sequence[str] | None = None) -> int:
    parser = _parser()
    options = vars(parser.parse_args(arguments))
    results = dict(options.pop("result") or samples())
    key, port, storage_port = (options.pop(name) for name in ("key", "port", "storage_port"))
    try:
        profile = Profile(**options)
    except ValueError as error:
        parser.error(str(error))
    return _serve(results, profile, key, port, storage_port)


def _serve(results: dict[int, Path], profile: Profile, key: str, port: int, storage_port: int) -> int:
    # Blocked here and so in the server's thread, too: the signals wait for sigwait.
    ends = {signal.SIGINT, signal.SIGTERM}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    try:
        from cambfs.demo.server import Server

        with Server(results, profile, key, port, storage_port) as server:
            print(f"CAMB_BASE_URL={server.base_url} CAMB_API_KEY={server.key}", flush=True)
            signal.sigwait(ends)
    except OSError as error:
        print(f"port {port} or {storage_port}: {error.strerror}", file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("python -m cambfs.demo", description="An API on loopback, for trying cambfs.")
    parser.add_argument("--port", type=int, default=0, help="of the API; 0: any free one")
    parser.add_argument("--storage-port", type=int, default=0, help="of the storage; 0: any free one")
    parser.add_argument("--key", default="demo-key", help="the key that it accepts; not a secret (demo-key)")
    parser.add_argument(
        "--result", type=_result, action="append", metavar="RUN=FILE", help="a result; may be repeated (the samples)"
    )
    for name, hint in typing.get_type_hints(Profile).items():
        _add(parser, Profile.__dataclass_fields__[name], hint)
    return parser


def _add(parser: argparse.ArgumentParser, field: dataclasses.Field[Any], hint: Any) -> None:
    shown = "none" if field.default in (None, frozenset()) else field.default
    text = f"{field.metadata['help']} ({shown})".replace("%", "%%")
    flag = "--" + field.name.replace("_", "-")
    if hint is bool:
        parser.add_argument(flag, action=argparse.BooleanOptionalAction, default=field.default, help=text)
    elif typing.get_origin(hint) is typing.Literal:
        choices = typing.get_args(hint)
        parser.add_argument(flag, type=type(choices[0]), choices=choices, default=field.default, help=text)
    else:
        kinds: dict[Any, Callable[[str], Any]] = {frozenset[int]: _run_ids, float: float}
        parser.add_argument(flag, type=kinds.get(hint, int), default=field.default, metavar="N", help=text)


def _result(text: str) -> tuple[int, Path]:
    run_id, equals, path = text.partition("=")
    if not equals or not run_id.isdecimal() or not Path(path).is_file():
        raise argparse.ArgumentTypeError(f"{text!r} is not RUN=FILE with a number and a file that exists")
    return int(run_id), Path(path)


def _run_ids(text: str) -> frozenset[int]:
    try:
        return frozenset(int(part) for part in text.split(",") if part)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of run ids such as 101,102") from None


if __name__ == "__main__":
    sys.exit(main())
