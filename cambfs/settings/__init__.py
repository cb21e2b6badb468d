"""The settings: their values, where they come from (flags, environment, `config.toml`), and the API key."""
