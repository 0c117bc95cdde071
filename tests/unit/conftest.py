"""Settings of all unit tests."""

from hypothesis import settings

# A deadline per example fails on a machine that is busy otherwise, and says nothing about the code.
settings.register_profile("rackserve", deadline=None)
settings.load_profile("rackserve")
