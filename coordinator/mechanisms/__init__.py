"""Clearing mechanisms: pure conversations between whoever clears a market and those who take part in it."""
