"""Texts of servers, without what nobody may see: the API key, queries of URLs, control characters."""
