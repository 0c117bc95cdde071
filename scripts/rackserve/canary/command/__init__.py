"""What scripts/canary does, without its words on the command line."""
