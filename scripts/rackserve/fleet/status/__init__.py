"""scripts/status: what is asked, the snapshot that comes of it, and how it looks. Observe, then a frozen value, then text."""
