"""`hcp replay ...`: the past once more, isolated from what is live."""

import typer

from hcp.cli import replay_decisions, replay_diff

app = typer.Typer(no_args_is_help=True, help="The past once more: decided again, compared, elsewhere; never live.")
app.command()(replay_decisions.decisions)
app.command()(replay_decisions.snapshot)
app.command()(replay_diff.diff)
