"""`hcp replay ...`: the past once more, isolated from what is live."""

import typer

from hcp.cli import replay_decisions, replay_diff, replay_run

app = typer.Typer(no_args_is_help=True, help="The past once more: decided again, compared, elsewhere; never live.")
app.command(name="run")(replay_run.run_topics)
app.command(name="list")(replay_run.list_replays)
app.command(name="drop")(replay_run.drop_replay)
app.command()(replay_decisions.decisions)
app.command()(replay_decisions.snapshot)
app.command()(replay_diff.diff)
