"""The world of a canary run (run.world.World) on the real fleet."""
