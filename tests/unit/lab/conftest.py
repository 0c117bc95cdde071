"""Settings of a lab that no test ever brings up."""

from pathlib import Path

import pytest
from rackserve.lab.settings import Settings, settings_from


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return settings_from(
        {"RACKSERVE_LAB_STATE": str(tmp_path / "state"), "RACKSERVE_LAB_CACHE": str(tmp_path / "cache")}
    )
