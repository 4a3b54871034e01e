"""What a site decides: one typed, frozen section per role, read once at start from `pacsd.toml`."""
