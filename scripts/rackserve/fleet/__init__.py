"""The inventory's fleet and the moves on it."""
