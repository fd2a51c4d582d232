"""What every test shares: the real services, started once by the run itself, and no clock in property tests."""

from hypothesis import settings

pytest_plugins = ["tests.fix_services"]

settings.register_profile("hcp", deadline=None)  # a busy machine is no counterexample
settings.load_profile("hcp")
