"""What every test may use. PostgreSQL, Redis and the settings come from `sandbox/pytest_plugin.py`."""
