"""What every test shares: the real services, started once by the run itself."""

pytest_plugins = ["tests.fix_services"]
