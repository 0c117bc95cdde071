"""rackserve: the Python package behind the operator's scripts and the Ansible plugins."""

__version__ = "0.1.0"
