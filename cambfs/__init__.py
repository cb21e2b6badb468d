"""cambfs mounts the results of CAMB.AI text-to-speech runs as files."""

__version__ = "0.1.0"
