"""The bundle that a coordinator submits: it names a run, and holds no code."""

import io
import subprocess
import sys
import tomllib
import zipfile
from importlib import resources
from pathlib import Path

from confide.flower.bundle import bundle

ROOT = Path(__file__).parent.parent.parent
HELD = {"pyproject.toml", ".info/CONTENT"}


def held() -> zipfile.ZipFile:
    return zipfile.ZipFile(io.BytesIO(bundle()))


def config() -> dict[str, object]:
    loaded: dict[str, object] = tomllib.loads(held().read("pyproject.toml").decode())["tool"][
        "flwr"
    ]["app"]["config"]
    return loaded


def test_the_bundle_is_the_same_bytes_in_every_process() -> None:
    code = (
        "import hashlib; from confide.flower.bundle import bundle;"
        " print(hashlib.sha256(bundle()).hexdigest())"
    )
    command = [sys.executable, "-W", "ignore", "-c", code]
    digests = {
        subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
        for _ in range(2)
    }
    assert len(digests) == 1
    assert bundle() == bundle()


def test_the_bundle_holds_its_description_and_not_a_line_of_python() -> None:
    assert set(held().namelist()) == HELD
    assert b".py\n" not in held().read(".info/CONTENT")


def test_a_run_config_has_the_jobs_name_alone() -> None:
    assert config() == {"job": ""}


def test_flower_takes_the_bundle_for_an_app_that_is_installed() -> None:
    app = tomllib.loads(held().read("pyproject.toml").decode())["tool"]["flwr"]["app"]
    assert app["components"] == {
        "serverapp": "confide.server.app:app",
        "clientapp": "confide.client.app:app",
    }


def test_the_bundles_source_is_package_data_and_so_in_the_wheel() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]["confide.flower"]
    folder = resources.files("confide.flower")
    assert data == ["app/pyproject.toml"]
    assert all(folder.joinpath(name).is_file() for name in data)
