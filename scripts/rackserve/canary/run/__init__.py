"""A canary run: observe (a frozen sight) -> decide (pure) -> apply, with every intent on disk before its effect."""
