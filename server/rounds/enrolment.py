"""Who takes part in a run, and whether a resumed run has the same institutions."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

from flwr.app import Message
from flwr.serverapp import Grid

from confide.errors import RunFailedError
from confide.protocol.messages import Reply, Request, pack_request
from confide.protocol.refusals import SILENCES, Refusal
from confide.server.rounds.exchange import FIRST_PAUSE_S, LONGEST_PAUSE_S, Reach, exchange
from confide.server.rounds.participants import Answer, Clients, read_answer, why_absent

log = logging.getLogger(__name__)
_TOLD = 20
"""Institutions that an error names; `failures` of the summary names all."""


def enrol(
    grid: Grid,
    plan: str,
    *,
    least: int,
    timeout: float,
    reach: Reach,
    without: frozenset[str] = frozenset(),
) -> Clients:
    """Learn who is there, and how many records each declares.

    Args:
        grid: carries the messages.
        plan: as JSON; an institution may decline it here already.
        least: fewest institutions to begin with.
        timeout: seconds to wait for them, and again for their answers.
        reach: what is known of them.
        without: names of those who withdrew: they are not asked, and where there are no keys to
            know them by, not heard.

    Returns:
        Who takes part. Of a population that is not listed nobody is asked here: what an
        institution declares is told when it is first asked (:func:`join`).

    Raises:
        RunFailedError: if too few take part, naming the others, or two have the same name.
    """
    if reach.roster is not None:
        if len(reach.roster) < least:
            too_few("enrol", got=len(reach.roster), least=least, missing={})
        return Clients(roster=reach.roster)
    registered = {node: name for node, name in reach.names.items() if name not in without}
    nodes = _wait_for_nodes(grid, least, timeout, registered, reach)
    answered = _consents(grid, plan, nodes, timeout=timeout, reach=reach)
    present: dict[int, Reply] = {}
    absent: dict[str, str] = {}
    for node, answer in answered.items():
        known = registered.get(node)
        if isinstance(answer, Reply) and answer.institution in without and known is None:
            continue
        code = why_absent(answer, known)
        if isinstance(answer, Reply) and code is None:
            present[node] = answer
            continue
        # Told apart by their nodes: two that decline may call themselves alike.
        says = f", {answer.institution}" if isinstance(answer, Reply) else ""
        absent[known or f"node {node}{says}"] = str(code)
    absent |= {name: "not_connected" for node, name in registered.items() if node not in answered}
    for who, code in absent.items():
        log.warning("%s does not take part: %s.", who, code)
    names = sorted(answer.institution for answer in present.values())
    # Otherwise one of them could answer, and be charged, for the other.
    if len(set(names)) < len(names):
        raise RunFailedError(
            f"Two nodes call themselves alike: {', '.join(names)}; give each institution a name of"
            " its own."
        )
    if len(present) < least:
        too_few("enrol", got=len(present), least=least, missing=absent)
    return replace(Clients.of(present), absent=absent)


def join(
    grid: Grid,
    plan: str,
    clients: Clients,
    names: Sequence[str],
    *,
    timeout: float,
    reach: Reach,
) -> dict[str, str]:
    """Ask those of a roster for their consent who have not given it, and take in who does.

    Args:
        grid: carries the messages.
        plan: as JSON; each may decline it.
        clients: with a roster; those who consent are added.
        names: of those whom the run is about to ask something else.
        timeout: seconds to wait for their answers.
        reach: what is known of the grid.

    Returns:
        Name -> code of those who do not take part; nothing is remembered of them, so that they are
        asked again when they are drawn again.
    """
    new = {clients.node_of(name): name for name in names if name not in clients.num_examples}
    if not new:
        return {}
    answered = _consents(grid, plan, list(new), timeout=timeout, reach=reach)
    declined = {}
    for node, answer in answered.items():
        code = why_absent(answer, new[node])
        if isinstance(answer, Reply) and code is None:
            clients.take_in(answer)
            continue
        declined[new[node]] = str(code)
        log.warning("%s does not take part: %s.", new[node], code)
    return declined


def _consents(
    grid: Grid, plan: str, nodes: Sequence[int], *, timeout: float, reach: Reach
) -> dict[int, Answer]:
    """Ask nodes whether they take part: node -> answer."""
    content = pack_request(Request(plan=plan))
    questions = [Message(content, node, "query") for node in nodes]
    answered: dict[int, Answer] = dict.fromkeys(nodes, Refusal.NO_REPLY)
    for reply in exchange(grid, questions, timeout, reach.again, reach.clock):
        if answered.get(reply.metadata.src_node_id) == Refusal.NO_REPLY:  # the first answer counts
            answered[reply.metadata.src_node_id] = read_answer(reply)
    gone = [node for node in answered if reach.names.get(node) in reach.gone]
    return answered | dict.fromkeys(gone, Refusal.REVOKED)


def too_few(when: str, *, got: int, least: int, missing: Mapping[str, str]) -> NoReturn:
    """End a run, naming who is missing and why.

    Raises:
        RunFailedError: always.
    """
    told = [f"{name} ({code})" for name, code in sorted(missing.items())]
    who = ", ".join(told[:_TOLD]) or "nobody else is there"
    if len(told) > _TOLD:
        who += f" and {len(told) - _TOLD} more"
    raise RunFailedError(
        f"{when}: {got} institutions {'take part' if when == 'enrol' else 'answered'},"
        f" server.min_clients={least} are needed. Missing: {who}. {_cure(missing)}, or lower"
        " server.min_clients to go on without them.",
        when=when,
        missing=missing,
    )


def _cure(missing: Mapping[str, str]) -> str:
    """Say what may bring those back who are missing: name -> code."""
    if missing and all(code in SILENCES for code in missing.values()):
        # Nobody declined: a deadline that nobody can meet is not theirs
        return (
            "None of them declined, they were not heard in time; raise server.round_timeout_s, or"
            " simulation.delays.deadline_s in virtual time"
        )
    return "Their own logs say why; change what they decline"


def _wait_for_nodes(
    grid: Grid, least: int, timeout: float, registered: Mapping[int, str], reach: Reach
) -> list[int]:
    """Wait for those that are registered, or for ``least`` where nobody is known beforehand."""
    end = time.monotonic() + timeout
    pause = FIRST_PAUSE_S
    seen = -1  # differs from any number, so that the first look is logged
    while True:
        expected = {node: name for node, name in registered.items() if name not in reach.gone}
        nodes = sorted(node for node in grid.get_node_ids() if not registered or node in expected)
        absent = sorted(name for node, name in expected.items() if node not in nodes)
        if len(nodes) >= max(least, len(expected)):
            return nodes
        if time.monotonic() >= end:
            break
        if len(nodes) != seen:
            seen = len(nodes)
            who = f"; not there yet: {', '.join(absent)}" if absent else ""
            log.info(
                "%d of %d institutions are connected%s.", len(nodes), max(least, len(expected)), who
            )
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_S)
    # At the timeout enough is enough: the run begins without those who are still expected.
    if len(nodes) < least:
        missing = ", ".join(absent)
        raise RunFailedError(
            f"{len(nodes)} institutions connected within {timeout:g} s, server.min_clients={least}"
            " are needed."
            + (f" Missing: {missing}. `confide doctor` on their side says why." if missing else ""),
            when="enrol",
            missing=dict.fromkeys(absent, "not_connected"),
        )
    return nodes


def check_same_clients(before: Mapping[str, int], declared: Mapping[str, int]) -> None:
    """Check that a run goes on with whom it began.

    Args:
        before: name -> declared number of training units; empty for a new run.
        declared: the same now.

    Raises:
        RunFailedError: naming who is missing, or declares another number.
    """
    missing = {name: "not_there" for name in sorted(before.keys() - declared.keys())}
    if missing:
        raise RunFailedError(
            f"{', '.join(missing)} took part when the run began and did not enrol when it was"
            " resumed; their own logs say why. Bring them back and resume again, or go on without"
            " them for good: --without NAME beside --resume RUN.",
            when="enrol",
            missing=missing,
        )
    # An institution that is new may join.
    changed = [
        f"{name}: {before[name]} then, {n} now"
        for name, n in declared.items()
        if before.get(name, n) != n
    ]
    if changed:
        raise RunFailedError(
            "Institutions declare other numbers of records than when the run began"
            f" ({'; '.join(changed)}); these fix weights and privacy. Bring the records back, or"
            " start a new run."
        )


def check_adverts(clients: Clients) -> None:
    """Check that everybody brought a key of the job, by which sums are masked.

    Raises:
        RunFailedError: naming who did not.
    """
    keyless = (name for name in clients.everybody if not clients.adverts.get(name))
    missing = dict.fromkeys(keyless, str(Refusal.SUM_KEYS))
    if missing:
        raise RunFailedError(
            f"{', '.join(missing)} brought no key for masked sums; `confide doctor` there says what"
            " is missing. Go on without them (--without NAME), or set aggregation=plain.",
            when="enrol",
            missing=missing,
        )


__all__ = ["check_adverts", "enrol", "join", "too_few"]
