"""A front before a SuperLink that answers as it is told to."""

from collections.abc import Iterator

import httpx
import pytest
from front_process import (
    MAX_CONNECTIONS,
    STALL_S,
    Certificates,
    FakeSuperLink,
    FrontProcess,
    answer_digest,
    make_certificates,
    running_front,
)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def _super_link(certificates: Certificates) -> Iterator[FakeSuperLink]:
    made = FakeSuperLink(certificates.server())
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
def super_link(_super_link: FakeSuperLink) -> FakeSuperLink:
    _super_link.seen.clear()
    _super_link.answer_fn = answer_digest
    return _super_link


@pytest.fixture(scope="module")
def front(
    certificates: Certificates, _super_link: FakeSuperLink, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FrontProcess]:
    options = ["--stall-s", f"{STALL_S}", "--max-connections", f"{MAX_CONNECTIONS}"]
    with running_front(
        certificates, tmp_path_factory.mktemp("front"), _super_link.server_port, *options
    ) as made:
        yield made


@pytest.fixture
def client(front: FrontProcess) -> Iterator[httpx.Client]:
    with front.client() as made:
        yield made
