"""Lets the tests here share lines of requests with their neighbours, run alone or with all others."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
