"""What every exchange of messages needs."""

from collections.abc import Iterator

import pytest

from confide.flower.messages import task_identity


@pytest.fixture
def identity() -> Iterator[None]:
    with task_identity():
        yield
