"""The API as the core sees it: what it needs of a source, signed URLs, the object store, and retries."""
