"""Reports of past runs are served, and no other file of the machine."""

from pathlib import Path

import httpx
import pytest
from boards_made import add_run, coordinator, serving
from starlette.types import ASGIApp

from confide.server.deployment.kit import CoordinatorKit, load_coordinator_kit
from confide.server.deployment.watched import KnownRun, note_run, read_runs
from confide.server.monitoring.reports import report_address
from confide.server.monitoring.site import make


@pytest.fixture(name="run_dir")
def make_run(tmp_path: Path) -> Path:
    add_run(coordinator(tmp_path), tmp_path / "run")
    return tmp_path / "run"


def served(run_dir: Path) -> tuple[ASGIApp, str]:
    kit = coordinator_of(run_dir)
    (run,) = read_runs(kit)
    return make(kit.folder, []), report_address(run)


def asked(app: ASGIApp, path: str) -> httpx.Response:
    # Over a connection, since who asks is told by the kernel
    with serving(app) as server:
        return httpx.get(f"{server}{path}")


def coordinator_of(run_dir: Path) -> CoordinatorKit:
    return load_coordinator_kit(run_dir.parent / "kits" / "coordinator")


def test_a_report_is_shown_in_a_box_of_its_own(run_dir: Path) -> None:
    (run_dir / "report.html").write_text("<script>alert(1)</script>the report")
    app, address = served(run_dir)
    answer = asked(app, address)
    assert (answer.status_code, answer.text) == (200, "<script>alert(1)</script>the report")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("sandbox; default-src 'none';")
    assert "script" not in policy
    assert answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize(
    "path",
    [
        "/runs/0123456789abcdef",
        "/runs/../../etc/passwd",
        "/runs/..%2f..%2fetc%2fpasswd",
        "/runs/%2e%2e/report.html",
        "{address}/config.yaml",
        "{address}/../config.yaml",
        "{address}/",
        "/runs/",
    ],
)
def test_no_other_file_has_an_address(run_dir: Path, path: str) -> None:
    (run_dir / "report.html").write_text("the report")
    app, address = served(run_dir)
    answer = asked(app, path.format(address=address))
    assert answer.status_code in (307, 404)
    assert "primary_metric" not in answer.text


def test_what_is_no_file_of_the_run_is_not_served(run_dir: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a secret")
    (run_dir / "report.html").symlink_to(tmp_path / "secret")
    assert served(run_dir)[1] == ""
    (run_dir / "report.html").unlink()
    (run_dir / "report.html").write_text("the report")
    app, address = served(run_dir)
    (run_dir / "report.html").unlink()
    for make_fn in (
        lambda path: path.symlink_to(tmp_path / "secret"),
        lambda path: path.mkdir(),
        lambda path: None,
    ):
        make_fn(run_dir / "report.html")
        answer = asked(app, address)
        assert (answer.status_code, answer.text) == (404, "There is no such report here.\n")
        if (run_dir / "report.html").is_symlink():
            (run_dir / "report.html").unlink()
        elif (run_dir / "report.html").is_dir():
            (run_dir / "report.html").rmdir()


def test_a_program_of_another_release_has_no_report(run_dir: Path) -> None:
    (run_dir / "report.html").write_text("the report")
    kit = coordinator_of(run_dir)
    note_run(kit, KnownRun(job="other", folder=str(run_dir), program="other", started=2e9))
    assert report_address(read_runs(kit)[0]) == ""
