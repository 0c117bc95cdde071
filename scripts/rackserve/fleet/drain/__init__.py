"""Taking engines out of service and back without a lost request: observe (a frozen sight) -> decide (pure) -> apply."""
