"""The tier that many machines share: results in an engine such as Valkey, between the local cache and the API."""
