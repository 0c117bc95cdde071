"""The three backends of a pool, and the map that splits its requests between them. Names only, so that whoever is in a hurry
does not load what renders configurations."""

# The first one carries the traffic; engines are moved to the others at run time.
TRACKS = ("stable", "baseline", "canary")
# Pool -> canary/baseline in thousandths of its requests, while a release is tried.
SHARES_MAP = "maps/shares.map"


def backend_of(pool: str, track: str) -> str:
    return f"pool-{pool}-{track}"
