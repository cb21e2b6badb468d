"""What `client` stands on: reading headers, answers and bodies, and deciding where the key may go.

Not the requests themselves: nothing here imports requests.
"""
