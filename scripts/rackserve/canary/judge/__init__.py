"""Is the canary worse than its baseline? Pure: counts in, a verdict with its reason out. Nothing here reads a clock or a wire."""
