"""python -m rackserve.health SETTINGS.json"""

import sys
from pathlib import Path

from rackserve.health.service import run, say


def main() -> int:
    if len(sys.argv) != 2:
        say("usage: python -m rackserve.health SETTINGS.json")
        return 2
    return run(Path(sys.argv[1]))


if __name__ == "__main__":
    sys.exit(main())
