"""Sentences about what a run promises, and what its epsilon means."""

import math

from confide.server.report.read import RunFiles
from confide.server.report.sentences import algorithm_of, outcome_config
from confide.server.run.lineage_words import with_earlier_runs


def guarantee(run: RunFiles) -> str:
    """Return a sentence about the privacy guarantee."""
    if not run.private:
        if algorithm_of(run).exact:
            return (
                "There is none: this model is not private. Institutions sent"
                f" {algorithm_of(run).sends}; sums over few records reveal their labels, and"
                " trees keep values of leaves that few records share."
            )
        recites = ""
        if outcome_config(run.config["task"]).is_written:
            recites = (
                " What the model writes may recite conversations, or texts, that it was trained"
                " on, word by word: show neither to anybody who may not read these."
            )
        return (
            "There is none: this run was trained without differential privacy. Updates may reveal"
            f" single records.{recites}"
        )
    privacy, summary = run.config["privacy"], run.summary.get("privacy", {})
    who = {"record": "a single record", "group": "all records of one person or account together"}[
        privacy["unit"]
    ]
    bound = f"epsilon {privacy['epsilon']:g} at delta {privacy['delta']:g}"
    protected = (
        f"What an institution sends is differentially private for {who}, with {bound} (DP-SGD,"
        " zero-out neighbours)"
    )
    if "guarantee" in summary:
        told = f"{protected}. This guarantee {_verb(summary['guarantee'])}."
        masked, earlier = summary.get("with_peers"), with_earlier_runs(run.summary)
        told += f" By masked sums: {masked['sentence']}." if masked else ""
        return f"{told} {earlier}" if earlier else told
    # A run that failed has no line in its summary yet that says how noise was drawn
    seeded = run.command.get("program") != "server" and run.config["simulation"]["seed"] is not None
    nominal = ", nominally if simulation.seed decided the noise" if seeded else ""
    return f"{protected}{nominal}. The run failed, and what was spent remains spent."


def _verb(claim: str) -> str:
    """Return what a summary says of its guarantee, as the rest of a sentence."""
    return claim if claim.startswith("holds") else f"is {claim}"


def meaning(run: RunFiles) -> str:
    """Return a sentence about what the run's epsilon means, and whether it holds."""
    bound = odds(float(run.config["privacy"]["epsilon"]))
    privacy = run.summary.get("privacy", {})
    more = ""
    if privacy.get("baselines"):
        more = f" This holds for the federated run's updates only: {privacy['baselines']}."
    if privacy.get("flatters"):
        more += f" {privacy['flatters']}"
    claimed = run.summary.get("lineage", {}).get("claimed")
    if claimed:
        more += f" With the runs before it the factor is e^{claimed['epsilon']:.3g} at most."
    if privacy.get("noise") == "secure":
        return (
            f"Epsilon means: {bound}, except with probability delta. A smaller epsilon is safer; 0"
            f" would mean no influence at all.{more}"
        )
    return (
        "In this run the noise can be repeated by anyone who knows the seed, so that epsilon is"
        f" nominal. With secure noise it would mean: {bound}, except with probability delta.{more}"
    )


def odds(epsilon: float) -> str:
    """Return a clause about how far an epsilon bounds what is learnt about one unit."""
    factor = math.exp(min(epsilon, 700))  # beyond, exp overflows
    times = f"{factor:,.0f}" if factor < 1e6 else f"10^{math.log10(factor):.0f}"
    return (
        "whatever the updates show, the odds that a given unit is in the records change by at most"
        f" a factor of e^{epsilon:.3g} = {times}"
    )


__all__ = ["guarantee", "meaning", "odds"]
