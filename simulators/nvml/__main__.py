"""`python -m simulators.nvml`: the same as `python -m simulators.nvml.cli`."""

import sys

from hcp.errors import HcpError
from simulators.nvml.cli import main

if __name__ == "__main__":
    try:
        sys.exit(main())
    except HcpError as error:
        sys.exit(f"error: {error}")
