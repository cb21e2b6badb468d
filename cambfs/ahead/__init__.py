"""Decides what is requested before a program asks for it: sizes and URLs of a listing, and the next results."""
