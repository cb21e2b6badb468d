"""Removes the API key, the queries of URLs and control characters from texts of servers."""
