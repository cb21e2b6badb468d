"""HTTP: which requests are sent, where the key may go, and what the responses mean.

`wire` has the connections below; `cambfs.remote` decides which requests are made.
"""
