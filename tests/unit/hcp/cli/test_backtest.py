"""`hcp backtest`: what it prints and writes agrees with what was decided; a user's mistake is one line."""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, fields
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from backtest.wording import COLUMNS
from hcp.cli.backtest import policies_named, time_ms
from hcp.cli.main import main
from hcp.decisions_parquet import DecisionFile, decision_schema
from hcp.errors import SettingsError
from hcp.model.commands import DecisionAction, OrchestratorCommand
from streams.policies import POLICIES
from tests.examples import DECISION

ROOT = Path(__file__).parents[4]
POLICY_NAMES = ["threshold", "predictive", "greedy", "always_mine"]
FROM, TO = "2023-08-24T12:00", "2023-08-26"
FIRST_MS, LAST_MS = 1_692_878_400_000, 1_693_008_000_000


def _hcp(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hcp", "backtest", *arguments],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200", "HCP_FLEET_FILE": "fleet.demo.toml"},  # noqa: TID251  # for a child
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One run of the command: what it printed and where it wrote."""

    result: subprocess.CompletedProcess[str]
    folder: Path

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Return the rows printed as JSON."""
        rows: list[dict[str, Any]] = json.loads(self.result.stdout)
        return rows


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Run four policies over a day and a half of the shipped week, as JSON."""
    folder = tmp_path_factory.mktemp("backtest")
    options = [part for name in ("threshold", "predictive", "greedy", "always") for part in ("--policy", name)]
    result = _hcp(*options, "--from", FROM, "--to", TO, "--out", str(folder), "--json")
    assert result.returncode == 0, result.stderr
    return Ran(result=result, folder=folder)


def test_rows_are_each_policy_and_both_yardsticks_for_each_site_and_the_fleet(ran: Ran) -> None:
    """`always` is `always_mine`; hindsight has the whole gap and nobody earns more."""
    contenders = [*POLICY_NAMES, "hindsight", "best fixed"]
    found = [(row["facility_id"], row["contender"]) for row in ran.rows]
    assert found == [(site, name) for site in ("tx-north", "tx-south", "fleet") for name in contenders]
    best = {row["facility_id"]: row["profit_usd"] for row in ran.rows if row["contender"] == "hindsight"}
    assert all(row["profit_usd"] <= best[row["facility_id"]] + 1e-6 for row in ran.rows)
    assert {row["gap_ratio"] for row in ran.rows if row["contender"] == "hindsight"} == {1.0}


def test_decisions_in_parquet_are_those_counted_in_the_rows(ran: Ran) -> None:
    """Every switch of a policy and site is in the file, in event-time order, within the window."""
    decisions = pq.read_table(ran.folder / "decisions.parquet").to_pylist()
    assert [each["observed_at_ms"] for each in decisions] == sorted(each["observed_at_ms"] for each in decisions)
    assert all(FIRST_MS <= each["observed_at_ms"] <= LAST_MS for each in decisions)
    switches = Counter(
        (each["facility_id"], each["policy"])
        for each in decisions
        if each["action"] == DecisionAction.SWITCH and each["observed_at_ms"] < LAST_MS
    )
    sites = [row for row in ran.rows if row["contender"] in POLICY_NAMES and row["facility_id"] != "fleet"]
    assert {(row["facility_id"], row["contender"]): row["switch_count"] for row in sites} == {
        (row["facility_id"], row["contender"]): switches[row["facility_id"], row["contender"]] for row in sites
    }
    assert sum(switches.values()) > 0
    assert f"({len(decisions):,})" in ran.result.stderr


def test_the_report_needs_no_network_and_draws_every_plot(ran: Ran) -> None:
    """The page parses, refers to nothing outside, and its plots hold prices, decisions, profits and regret."""
    page = (ran.folder / "report.html").read_text(encoding="utf-8")
    parser = _Page()
    parser.feed(page)
    parser.close()
    assert parser.references == []
    assert parser.open_tags == []
    assert parser.tables == 2
    assert parser.headings == ["Lubbock (tx-north), energy at HB_WEST", "Houston (tx-south), energy at HB_HOUSTON"]
    figures = list(_figures(page))
    assert len(figures) == 4
    for data, layout in figures[0::2]:
        titles = [note["text"] for note in layout["annotations"]]
        assert [title.split()[0] for title in titles] == ["Real-time", "Power", "Decisions", "Cumulative", "Regret"]
        by_axis = Counter(trace.get("yaxis", "y") for trace in data)
        assert by_axis["y"] == 3
        assert by_axis["y2"] == len(POLICY_NAMES) + 1
        assert by_axis["y4"] == len(POLICY_NAMES) + 2
        assert by_axis["y5"] == len(POLICY_NAMES)
        assert by_axis["y3"] >= 1
        assert all(len(trace["x"]) > 0 for trace in data)
    for data, _ in figures[1::2]:
        diagonal, line, bars = data
        assert (diagonal["x"], diagonal["y"]) == ([0, 1], [0, 1])
        assert line["name"].startswith("predictive: Brier score 0.")
        assert sum(_values(bars["y"])) > 0
        assert len(_values(line["x"])) == len(_values(bars["y"]))


def test_the_last_point_of_cumulative_profit_is_the_rows_profit(ran: Ran) -> None:
    """The plot ends where the table does, to the cent."""
    page = (ran.folder / "report.html").read_text(encoding="utf-8")
    by_site = dict(zip(("tx-north", "tx-south"), list(_figures(page))[0::2], strict=True))
    for row in ran.rows:
        if row["facility_id"] == "fleet":
            continue
        data, _ = by_site[row["facility_id"]]
        line = next(trace for trace in data if trace.get("yaxis") == "y4" and trace["name"] == row["contender"])
        assert _values(line["y"])[-1] == pytest.approx(row["profit_usd"], abs=0.01)


def test_the_same_run_writes_the_same_bytes(ran: Ran, tmp_path: Path) -> None:
    """Report and decisions depend on what went in and on nothing else."""
    options = [part for name in POLICY_NAMES for part in ("--policy", name)]
    again = _hcp(*options, "--from", FROM, "--to", TO, "--out", str(tmp_path), "--json")
    assert again.stdout == ran.result.stdout
    for name in ("report.html", "decisions.parquet"):
        assert (tmp_path / name).read_bytes() == (ran.folder / name).read_bytes()


def test_tables_name_every_column(tmp_path: Path) -> None:
    """Without `--json` the results are two tables, and a line says how hindsight was found."""
    result = _hcp("--policy", "greedy", "--from", FROM, "--to", "2023-08-24T18:00", "--out", str(tmp_path))
    assert result.returncode == 0, result.stderr
    printed = set(result.stdout.split())  # a narrow terminal breaks titles between words
    titles = [column.title for column in COLUMNS] + ["mining h", "ai_inference h", "sleep h", "over cap h"]
    assert all(set(title.split()) <= printed for title in titles)
    assert "hindsight of tx-north: dynamic programming" in result.stdout


HEADER = "interval_start_utc,location,price_usd_per_mwh\n"
MISTAKES: list[tuple[str, tuple[str, ...], str]] = [
    ("from", ("--from", "yesterday"), "--from must be an ISO date or time such as 2023-08-20, was 'yesterday'"),
    ("to", ("--to", "2023-13-01"), "--to must be an ISO date or time such as 2023-08-20, was '2023-13-01'"),
    (
        "backwards",
        ("--from", "2023-08-25", "--to", "2023-08-24"),
        "--from must be before --to, was 2023-08-25 and 2023-08-24",
    ),
    ("same", ("--from", "2023-08-25", "--to", "2023-08-25T00:00Z"), "--from must be before --to"),
    (
        "outside",
        ("--from", "2024-01-01", "--to", "2024-02-01"),
        "must overlap what is recorded, 2023-08-20T00:00Z to 2023-08-27T00:00Z, was outside",
    ),
    (
        "no price",
        ("--from", "2023-08-24T00:01", "--to", "2023-08-24T00:14"),
        "must hold at least one priced interval, was none",
    ),
    ("policy", ("--policy", "clairvoyant"), "policy must be one of"),
    ("fleet", ("--fleet", "none.toml"), "fleet file must be readable, was none.toml"),
    ("market", ("--market", "{tmp}/none.csv"), "none.csv must be a readable .csv file"),
    ("suffix", ("--market", "{tmp}/prices.txt"), "must end in .csv or .parquet, was .txt"),
    ("empty", ("--market", "{tmp}/empty.csv"), "columns must include one of"),
    ("header", ("--market", "{tmp}/header.csv"), "must hold energy prices of one of HB_HOUSTON, HB_WEST, was without"),
    ("no btc", ("--market", "{tmp}/energy.csv"), "must hold btc and difficulty too, was without"),
    ("cell", ("--market", "{tmp}/bad.csv"), "bad.csv line 2, price_usd_per_mwh: must be a number, was 'dear'"),
    ("folder", ("--market", "{tmp}/nothing"), "must hold .csv or .parquet files, was without"),
    ("parquet", ("--market", "{tmp}/bad.parquet"), "bad.parquet must be a readable .parquet file"),
    ("out", ("--out", "{tmp}/empty.csv/here"), "--out must be a folder that can be written"),
]


@pytest.mark.parametrize(("arguments", "words"), [each[1:] for each in MISTAKES], ids=[each[0] for each in MISTAKES])
def test_a_users_mistake_is_one_line(
    tmp_path: Path,
    arguments: tuple[str, ...],
    words: str,
    *,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What must be and what was, exit code 1, no traceback, and no results."""
    (tmp_path / "empty.csv").touch()
    (tmp_path / "bad.parquet").write_bytes(b"PAR0")
    (tmp_path / "prices.txt").write_text(HEADER, encoding="utf-8")
    (tmp_path / "header.csv").write_text(HEADER, encoding="utf-8")
    (tmp_path / "energy.csv").write_text(HEADER + "2023-08-20T00:00:00Z,HB_WEST,30\n", encoding="utf-8")
    (tmp_path / "bad.csv").write_text(HEADER + "2023-08-20T00:00:00Z,HB_WEST,dear\n", encoding="utf-8")
    (tmp_path / "nothing").mkdir()
    options = [part.format(tmp=tmp_path) for part in arguments]
    if "--out" not in options:
        options += ["--out", str(tmp_path / "out")]
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("HCP_FLEET_FILE", "fleet.demo.toml")
    monkeypatch.setattr(sys, "argv", ["hcp", "backtest", *options])
    with pytest.raises(SystemExit) as ended:
        main()
    printed = capsys.readouterr()
    assert ended.value.code == 1
    assert words in printed.err
    assert len(printed.err.strip().splitlines()) == 1
    assert printed.out == ""


def test_every_decision_reads_back_as_it_was(tmp_path: Path) -> None:
    """Each field of a decision is a column of the same name, value for value; nothing is lost at the end of a group."""
    path = tmp_path / "decisions.parquet"
    with DecisionFile(path) as file:
        for _ in range(3):
            file.add(DECISION)
        assert file.row_count == 3
    table = pq.read_table(path)
    assert table.schema.equals(decision_schema())
    rows = table.to_pylist()
    assert len(rows) == 3
    for field in fields(OrchestratorCommand):
        assert {row[field.name] for row in rows} == {getattr(DECISION, field.name)}
    stamped = rows[0]["observed_at_utc"]
    assert round(stamped.timestamp() * 1_000) == DECISION.observed_at_ms


def test_a_run_without_decisions_leaves_a_file_that_reads(tmp_path: Path) -> None:
    """No row, every column."""
    with DecisionFile(tmp_path / "none.parquet") as file:
        assert file.row_count == 0
    table = pq.read_table(tmp_path / "none.parquet")
    assert table.num_rows == 0
    assert table.schema.equals(decision_schema())


def test_policies_are_named_once_in_the_order_given_and_all_when_none_is() -> None:
    """`always` stands for `always_mine`, hyphens for underscores."""
    named = policies_named(["greedy", "always", "always-mine", "greedy", "threshold"])
    assert [policy.name for policy in named] == ["greedy", "always_mine", "threshold"]
    assert policies_named(None) == list(POLICIES)
    with pytest.raises(SettingsError, match="policy must be one of"):
        policies_named(["greedy", ""])


def test_times_without_a_zone_are_utc() -> None:
    """A date is its midnight; an offset counts; nothing is nothing."""
    assert time_ms("2023-08-24", "--from") == 1_692_835_200_000
    assert time_ms("2023-08-24T02:00+02:00", "--from") == 1_692_835_200_000
    assert time_ms(None, "--from") is None


class _Page(HTMLParser):
    """Counts what the page is made of; `references` is everything a browser would load from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.references: list[str] = []
        self.open_tags: list[str] = []
        self.headings: list[str] = []
        self.tables = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.references += [value or "" for name, value in attrs if name in {"src", "href"}]
        self.tables += tag == "table"
        if tag not in {"meta", "!doctype"}:
            self.open_tags.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open_tags.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open_tags[-1:] == ["h2"]:
            self.headings.append(data)


def _figures(page: str) -> Iterator[tuple[list[dict[str, Any]], dict[str, Any]]]:
    """Yield data and layout of every plot, as JSON in the page."""
    decoder = json.JSONDecoder()
    for found in re.finditer(r"Plotly\.newPlot\(\s*\"(?:site|reliability)-\d+\",\s*", page):
        data, end = decoder.raw_decode(page, found.end())
        layout, _ = decoder.raw_decode(page, re.compile(r"\s*,\s*").match(page, end).end())  # type: ignore[union-attr]
        yield data, layout


def _values(column: Any) -> list[float]:  # a list, or plotly's packed array
    assert isinstance(column, list)
    return column
