"""`hcp ...`: the top layer, the only one that sees two process folders at once."""

from hcp.cli.main import main

__all__ = ["main"]
