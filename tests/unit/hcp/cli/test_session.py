"""The session that the demo prints is the one that the customer's page shows."""

from hcp.cli.session import COMMANDS
from tests.docs.pages import ROOT, blocks_in


def test_the_page_shows_what_is_printed() -> None:
    """Line by line: who reads the page types what works."""
    page = (ROOT / "docs/gateway.md").read_text(encoding="utf-8")
    assert COMMANDS.rstrip("\n") in [block.text for block in blocks_in(page, name="gateway.md")]
