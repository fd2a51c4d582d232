"""What every test shares: the real services, started once by the run itself, and no clock in property tests."""

import signal

from hypothesis import settings

pytest_plugins = ["tests.fix_services"]

settings.register_profile("hcp", deadline=None)  # a busy machine is no counterexample
settings.load_profile("hcp")

# A shell that starts the run in the background has it ignore Ctrl-C, and every process that a test starts with it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
