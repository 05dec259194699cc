"""An update's number of local steps, as its institution tells it."""

import pytest
from fake_institutions import Fake, drifters, last, run

pytestmark = pytest.mark.usefixtures("identity")


def test_a_round_knows_how_many_steps_each_update_has() -> None:
    fakes = [Fake("a", figures={"steps": 3.0}), Fake("b", figures={"steps": 1.0}), Fake("c")]
    assert last(run(fakes)).steps == {"a": 3, "b": 1}


@pytest.mark.parametrize("told", [0.0, -1.0, 2.5, 1e9])
def test_what_is_no_number_of_steps_is_refused(told: float) -> None:
    fakes = [*drifters()[:2], Fake("c", figures={"steps": told})]
    record = last(run(fakes))
    assert record.accepted == ("a", "b")
    assert record.refused == {"c": "invalid_message"}
    assert record.steps == {}
