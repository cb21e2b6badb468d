"""file_url responses, one by one and in bulk."""

from __future__ import annotations

import json

from tests.hostile.case import ANY, EITHER, RIGHT, Case, Group, behind, says, status, text
from tests.hostile.replies import JSON, Act, Asked, Reply, Step, chunked, head, sized, well


def _answers(found: object) -> Reply:
    return says(sized(json.dumps(found).encode(), JSON))


def _url_of_another(asked: Asked) -> list[Step]:
    """The neighbour's that was read before."""
    return [sized(json.dumps({"output_url": asked.url(asked.run_id - 1)}).encode(), JSON)]


_NO_URL = frozenset({"EIO", "ETIMEDOUT"})
# `.url` fails, or shows an allowed URL; nothing else is lost.
_ANY_URL = _NO_URL | {"right"}
_file_url = Group("file_url answers", modes=("stat", "whole", "map"), url=_NO_URL)
_FILE_URL = [
    _file_url("500 always", RIGHT, is_notable=True, sign=status("500 Internal Server Error")),
    _file_url("429 with Retry-After: 60", RIGHT, sign=status("429 Too Many Requests", "Retry-After: 60")),
    _file_url("429 without Retry-After", RIGHT, sign=status("429 Too Many Requests")),
    _file_url("no answer", RIGHT, sign=says(Act.STALL), modes=("stat",)),
    _file_url(
        "closed without an answer",
        RIGHT,
        sign=says(Act.CLOSE),
        url=ANY | {"ECONNREFUSED", "EHOSTUNREACH"},
        is_alone=True,
    ),
    _file_url("reset", RIGHT, sign=says(Act.RESET), url=ANY | {"ECONNREFUSED", "EHOSTUNREACH"}, is_alone=True),
    _file_url("null", RIGHT, sign=_answers(None)),
    _file_url("a number", RIGHT, sign=_answers(42)),
    _file_url("a list", RIGHT, sign=_answers(["https://storage.example/a.flac"])),
    _file_url("a string", RIGHT, sign=_answers("https://storage.example/a.flac"), url=_ANY_URL),
    _file_url("an empty object", RIGHT, sign=_answers({})),
    _file_url("output_url null", RIGHT, sign=_answers({"output_url": None})),
    _file_url("output_url a number", RIGHT, sign=_answers({"output_url": 42})),
    _file_url("output_url empty", RIGHT, sign=_answers({"output_url": ""})),
    _file_url("output_url javascript:", RIGHT, sign=_answers({"output_url": "javascript:alert(1)"})),
    _file_url("output_url file:", RIGHT, sign=_answers({"output_url": "file:///etc/passwd"})),
    _file_url("output_url in another local network", RIGHT, sign=_answers({"output_url": "ftp://169.254.169.254/x"})),
    _file_url("output_url without a host", RIGHT, sign=_answers({"output_url": "http://..../x.flac"}), is_alone=True),
    _file_url("output_url at no address", RIGHT, sign=_answers({"output_url": "http://[:::::]/x.flac"}), is_alone=True),
    _file_url("garbage", RIGHT, sign=says(sized(bytes(range(256)), JSON))),
    _file_url("truncated JSON", RIGHT, sign=says(sized(b'{"output_url": "https://stor', JSON))),
    _file_url("JSON nested 100,000 deep", RIGHT, sign=says(sized(b"[" * 100_000, JSON))),
    _file_url(
        "2 MB of JSON",
        RIGHT,
        sign=lambda a: [sized(json.dumps({"output_url": a.url(), "x": "y" * 2**21}).encode(), JSON)],
    ),
    _file_url(
        "500 KB of JSON beside the URL",
        RIGHT,
        sign=lambda a: [sized(json.dumps({"output_url": a.url(), "x": "y" * 500_000}).encode(), JSON)],
        url=_ANY_URL,
    ),
    _file_url(
        "JSON without an end",
        RIGHT,
        sign=says(head("200 OK", JSON, "Transfer-Encoding: chunked") + b'5\r\n{"out', Act.STALL),
        modes=("stat",),
    ),
    _file_url("HTML", RIGHT, sign=text(b"<html>Bad Gateway</html>", "text/html")),
    _file_url("204", RIGHT, sign=says(head("204 No Content"))),
    _file_url("the audio itself", RIGHT, sign=lambda a: [chunked(a.content)]),
    _file_url(
        "a URL that nobody answers at",
        RIGHT,
        sign=_answers({"output_url": "http://127.0.0.1:1/a.flac?X-Amz-Signature=1"}),
        url=_ANY_URL,
        is_alone=True,
    ),
    _file_url(
        "another run's URL",
        EITHER,
        is_alone=True,
        may_claim_size=True,
        sign=_url_of_another,
        url=RIGHT,
        modes=("stat",),
    ),
    _file_url(
        "another run's URL; tail first",
        EITHER,
        is_alone=True,
        may_claim_size=True,
        sign=_url_of_another,
        url=RIGHT,
        modes=("tail",),
    ),
    _file_url("well, and more behind it", RIGHT, sign=behind(0.02, b"surplus"), url=RIGHT),
]


def _bulk(value: object) -> Reply:
    """Every run's entry is some value, in which {url} stands for the right one."""

    def reply(asked: Asked) -> list[Step]:
        entry = {str(run): json.loads(json.dumps(value).replace("{url}", asked.url(run))) for run in asked.run_ids}
        return [sized(json.dumps(entry).encode(), JSON)]

    return reply


def _swapped(asked: Asked) -> list[Step]:
    runs = list(asked.run_ids)
    found = {str(run): {"output_url": asked.url(other)} for run, other in zip(runs, runs[1:] + runs[:1], strict=True)}
    return [sized(json.dumps(found).encode(), JSON)]


def _all_the_same(asked: Asked) -> list[Step]:
    found = {str(run): {"output_url": asked.url(asked.run_ids[0])} for run in asked.run_ids}
    return [sized(json.dumps(found).encode(), JSON)]


_in_bulk = Group("bulk answers", is_alone=True, modes=("list_all",))
_BULK = [
    _in_bulk("well", RIGHT, bulk=well),
    _in_bulk("well, as strings", RIGHT, bulk=_bulk("{url}")),
    _in_bulk("the URLs of the runs swapped", EITHER, is_notable=True, bulk=_swapped, may_claim_size=True),
    _in_bulk("the same URL for all", RIGHT, bulk=_all_the_same),
    _in_bulk("null for each", RIGHT, bulk=_bulk(None)),
    _in_bulk("numbers", RIGHT, bulk=_bulk(7)),
    _in_bulk("objects in objects", RIGHT, bulk=_bulk({"output_url": {"output_url": "{url}"}})),
    _in_bulk("empty", RIGHT, bulk=_answers({})),
    _in_bulk("a list", RIGHT, bulk=_answers([])),
    _in_bulk("runs that nobody asked for", RIGHT, bulk=_answers({"999999": "https://storage.example/x.flac"})),
    _in_bulk("500 always", RIGHT, bulk=status("500 Internal Server Error")),
    _in_bulk("429 with Retry-After: 60", RIGHT, bulk=status("429 T", "Retry-After: 60")),
    _in_bulk("404", RIGHT, bulk=status("404 Not Found")),
    _in_bulk("silence", RIGHT, bulk=says(Act.STALL)),
    _in_bulk("closed without an answer", RIGHT, bulk=says(Act.CLOSE)),
    _in_bulk("102 before it", RIGHT, bulk=lambda a: [head("102 Processing"), 0.05, *well(a)], is_odd=True),
    _in_bulk("the audio", RIGHT, bulk=lambda a: [chunked(a.content)]),
    _in_bulk("a whole second answer behind it", RIGHT, bulk=lambda a: [*well(a), 0.001, chunked(a.stranger)]),
]

CASES: list[Case] = [*_FILE_URL, *_BULK]
