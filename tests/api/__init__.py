"""The API of `cambfs.demo` that logs what it is asked and misbehaves as told. `tests.api.server` is where to start."""
