"""Signal equations and fits on plain arrays."""
