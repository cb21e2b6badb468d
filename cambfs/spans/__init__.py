"""Ranges of one large result that are fetched beside its stream."""
