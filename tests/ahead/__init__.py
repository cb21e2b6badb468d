"""Tests of `cambfs.ahead`."""
