"""One SuperLink for all tests of Flower's corners: it takes seconds to start."""

from collections.abc import Iterator

import pytest
from flower_link import SuperLink, run_superlink


@pytest.fixture(scope="session")
def superlink(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SuperLink]:
    with run_superlink(tmp_path_factory.mktemp("superlink")) as link:
        yield link
