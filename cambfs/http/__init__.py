"""What `client` stands on: what is sent and where the key may go, and what the responses say.

Not the questions themselves, nor the connections, which are of `wire`.
"""
