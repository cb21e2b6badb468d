"""One connection: how it is made and kept, and how the bytes that come over it are read and believed.

Not what is asked over it, nor the key, which are of `http`. `transport` is what requests is made to do.
"""
