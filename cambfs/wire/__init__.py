"""Connections: how one is made and kept, and how the bytes that arrive over it are read and verified.

`http` chooses the requests and holds the key. `transport` sets requests up to use these connections.
"""
