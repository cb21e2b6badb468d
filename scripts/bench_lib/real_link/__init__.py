"""The benchmark over a real link: real TCP and TLS 1.3 between two network namespaces, and round trips as people have.

`sandbox` is where it runs; `network` is the link (`link.c`) and `check` proves it before anything is measured; `origin`
is the API and the storage behind the link; `place` has the mounts on one link and the copies out of them; `rows_…`
measure, by means of `sampling`, and `rows` says which on which link. `command` goes through the links.
No threads but in `peer`.
"""
