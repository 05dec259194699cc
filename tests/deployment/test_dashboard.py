"""Pages of both sides beside a federation of three hospitals, from its start to its report."""

import time

import httpx
import pytest
from boards_made import serving
from deployment_run import HOSPITALS, Deployment, wait_until

from confide.client.monitoring.page import board as institution_board
from confide.client.monitoring.snapshot import InstitutionWatch
from confide.pages.board import Board, Section
from confide.server.monitoring.convergence import Convergence
from confide.server.monitoring.page import board as coordinator_board
from confide.server.monitoring.site import make
from confide.server.monitoring.snapshot import CoordinatorWatch

RUN_S = 900


def section(board: Board, name: str) -> Section:
    return next(it for it in board.sections if it.name == name)


def texts(found: Section) -> list[list[str]]:
    assert found.table is not None
    return [[cell.text for cell in row.cells] for row in found.table.rows]


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_both_pages_tell_a_run_while_it_goes_on_and_when_it_is_done() -> None:
    with Deployment() as there:
        watch, draw = CoordinatorWatch(there.coordinator_kit), Convergence()
        # A kit that a test starts has its records and its budget on the command line
        records = there.folder / "records" / f"{HOSPITALS[0]}.csv"
        overrides = (f"data.path={records}", *there.client_overrides)
        own = InstitutionWatch(there.kit(HOSPITALS[0]), overrides)
        there.start_clients()
        there.start_server("server.num_rounds=12")
        asked: set[str] = set()
        answered: set[str] = set()
        rounds: set[str] = set()
        end = time.monotonic() + RUN_S
        while there.started["server"].poll() is None and time.monotonic() < end:
            now = coordinator_board(watch(), draw)
            if now.state.startswith("Job trial, round "):
                asked.add(now.state.partition(":")[0])
                rows = texts(section(now, "institutions"))
                answered |= {row[0] for row in rows if row[3] == "answered"}
            plans = section(institution_board(own()), "plans").table
            assert plans is not None
            rounds |= {row.cells[1].aside for row in plans.rows}
            time.sleep(0.1)
        assert there.wait_for_server(60) == 0
        assert len(asked) >= 2
        # Whoever answers last is seen so for an instant alone
        assert answered
        assert answered <= set(HOSPITALS)
        assert len([one for one in rounds if one.startswith("round ")]) >= 2

        done = coordinator_board(watch(), draw)
        assert done.state.startswith("No run is under way. The last one, trial, has its result: ")
        assert section(done, "convergence").drawings
        ((job, _, state, rounds, report, folder),) = texts(section(done, "runs"))
        assert (job, state, rounds, report) == ("trial", "has its result", "12 of 12", "read it")
        assert folder == str(there.run_dir)
        with serving(make(there.coordinator_kit, [])) as address:
            page = httpx.get(address).text
            link = page.partition('href="/runs/')[2].partition('"')[0]
            shown = httpx.get(f"{address}/runs/{link}")
        assert shown.content == (there.run_dir / "report.html").read_bytes()

        wait_until(
            lambda: "between two runs that is to be expected" in institution_board(own()).state,
            timeout_s=120,
            what="the institution sees that its coordinator is gone",
        )
        mine = institution_board(own())
        (budget,) = section(mine, "budget").budgets
        assert 0 < budget.spent <= budget.committed < budget.limit == 100
        assert texts(section(mine, "plans"))[0][:2] == ["trial", "answered"]
        assert texts(section(mine, "refusals")) == []
