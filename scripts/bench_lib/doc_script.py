"""The script in the API's documentation for fetching a result: a stream, in pieces of 1,024 bytes, to a file.

Run as a program with a URL and a file. Prints the seconds from the request to the end. They do not include starting the
interpreter and importing requests, which take longer than a short result.
"""

import sys
import time
from pathlib import Path

import requests


def main(url: str, output: str) -> None:
    begin = time.perf_counter()
    response = requests.get(url, headers={"x-api-key": "the-key-of-the-benchmark"}, stream=True, timeout=300)
    response.raise_for_status()
    with Path(output).open("wb") as file:
        for chunk in response.iter_content(chunk_size=1024):
            file.write(chunk)
    print(time.perf_counter() - begin)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
