"""Brings bytes of runs, from the API or from storage."""
