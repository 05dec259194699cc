"""A language model that answers, trained from kits, has the weights of the simulation."""

from pathlib import Path

import pytest
from deployment_run import ALLOWING, Deployment
from small_language_models import make_language_model


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_banks_that_answer_customers_get_the_weights_of_the_simulation(tmp_path: Path) -> None:
    """Each computes its own records' outputs of the frozen layers, and says its own customers."""
    make_language_model(tmp_path)
    answers = (
        "experiment=customer_service",
        "data.kwargs={count: 160}",
        f"backbone.name={tmp_path}",
        "backbone.trained_layers=1",
        "task.max_tokens=112",
        "task.outcome.max_tokens=16",
        "client.local_steps=2",
        "data.group_column=customer",
        "privacy=group",
        "privacy.epsilon=8",
    )
    allowing = (
        *ALLOWING,
        "policy.backbones=[any]",
        "policy.min_records=5",
        f"backbones=['{tmp_path}']",
        "data.group_column=customer",
        "data.validation=0.05",
        "data.test=0.15",
    )
    banks = tuple(f"bank_{letter}" for letter in "abcd")
    with Deployment(
        run_overrides=answers, institutions=banks, client_overrides=allowing
    ) as deployment:
        deployment.start_clients()
        deployment.start_server("server.num_rounds=2")
        assert deployment.wait_for_server(400) == 0
        simulated = deployment.simulate("server.num_rounds=2")
        assert deployment.summary()["model_sha256"] == simulated["model_sha256"]
        assert all(c["epsilon"] <= 8 for c in deployment.summary()["clients"].values())
