"""What `client` stands on: reading headers, answers and bodies, and deciding where the key may go.

Not the questions themselves. `transport` is what requests is made to do; nothing else here imports it.
"""
