"""A provisioned federation."""

import shutil
from pathlib import Path

import pytest
from provisioned import FEDERATION

from confide.config.composing.compose import compose
from confide.config.run import Config
from confide.server.provisioning.provision import (
    provision,
)


@pytest.fixture(scope="module")
def config() -> Config:
    return compose(["experiment=heart_disease", "privacy=record"])


@pytest.fixture(scope="module")
def made(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("made") / "kits"
    provision(FEDERATION, config, out)
    return out


@pytest.fixture
def out(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "kits"))
