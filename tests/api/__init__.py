"""The API of `cambfs.demo` with a request log and faults on demand. Start at `tests.api.server`."""
