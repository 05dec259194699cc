"""A real federation goes on from a model that it released, with records that came since."""

from pathlib import Path

import pytest
from deployment_run import HEART, HOSPITALS, Deployment, hospitals_alone

from confide.client.ledger.file import LedgerFile

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
RUN = ("server.num_rounds=2", "server.enrol_timeout_s=200")


def carry_out(deployment: Deployment, job: str, arrival: str, *words: str) -> None:
    deployment.job = job
    for name in deployment.institutions:
        deployment.start_client(name, arrival)
    deployment.start_server(*RUN, *words)
    assert deployment.wait_for_server(400) == 0, deployment.logs()
    deployment.stop_all()
    deployment.started.clear()


def test_a_federation_goes_on_as_its_simulation(tmp_path: Path) -> None:
    with Deployment(run_overrides=(*HEART, *hospitals_alone(tmp_path / "heart.csv"))) as federation:
        carry_out(federation, "early", "data.until=0.5")
        first = federation.summary()
        early = federation.run_dir.rename(tmp_path / "early")
        words = ("backbone=run", f"backbone.path={early}", "strategy=l2_sp", "client=table")
        carry_out(federation, "later", "data.old_before=0.5", *words)
        second = federation.summary()
        simulated = federation.simulate(*RUN, *words, "data.old_before=0.5")
        assert second["model_sha256"] == simulated["model_sha256"] != first["model_sha256"]
        [parent] = second["lineage"]["parents"]
        assert (parent["model_sha256"], parent["job"]) == (first["model_sha256"], "early")
        # Institutions' policies have scores leave with noise
        for model in ("old_model", "new_model"):
            told = second["release"]["scores"][model]
            assert {"new_records", "old_records"} < set(told)
            assert told["all_records"]["accuracy_noise"] > 0
        for name in HOSPITALS:
            path = federation.kit(name) / "ledger" / "everybody.ledger"
            population = LedgerFile(path).state.populations["everybody"]
            assert [run.terms.job for run in population.runs.values()] == ["early", "later"]
            later = list(population.runs.values())[1].terms
            assert later.score_releases["test"] == later.score_releases["old"] == 2
            assert population.committed > later.epsilon
