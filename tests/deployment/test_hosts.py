"""Hosts with addresses of their own: what is reachable, and networks and clocks that are not good.

Each host is a network namespace, and each trainer is in one without a network, as
``PrivateNetwork=yes`` gives. Nobody misses a deadline, and the weights are those of the simulation.
"""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import connect_proxy
import network_hosts
import open_ports
import pytest
from deployment_run import CONFIDE, HEART, HOSPITALS, Deployment, hospitals_alone, wait_until
from hosted_deployment import COORDINATOR, PORT, ROLES, HostedDeployment
from network_hosts import Host, Network, listening, why_not

from confide.deployment.lifetime import processes

ADDRESSES = {name: f"10.77.0.{number}" for number, name in enumerate(HOSPITALS, start=2)}
ONE = HOSPITALS[1]
PROXY, PROXY_PORT = "10.78.0.1", 3128
ROUNDS = 8
RUN = (f"server.num_rounds={ROUNDS}", "server.enrol_timeout_s=200")
CUT_S = 90.0
CONNECTS = (
    "import socket, time\n"
    "began = time.monotonic()\n"
    f"socket.create_connection(('{COORDINATOR}', {PORT}), 60).close()\n"
    "print(time.monotonic() - began)\n"
)
"""Prints how many seconds a connection takes to stand."""
AHEAD = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <time.h>
int clock_gettime(clockid_t id, struct timespec *at) {
  int (*real)(clockid_t, struct timespec *) = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(id, at);
  if (!failed && id == CLOCK_REALTIME) at->tv_sec += AHEAD_S;
  return failed;
}
"""
"""A library that puts the clock of a program ahead, and leaves its pauses alone. Namespaces of time
have the machine's clock; with libfaketime, Python's timed waits do not end."""


pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@dataclass(frozen=True)
class Reference:
    """The undisturbed run: overrides of every run of this module, and what each has to come to."""

    overrides: tuple[str, ...]
    model_sha256: str


@pytest.fixture(scope="module", autouse=True)
def permitted() -> None:
    reason = why_not()
    if reason is not None:
        pytest.skip(reason)


@pytest.fixture(scope="module")
def reference(permitted: None, tmp_path_factory: pytest.TempPathFactory) -> Reference:
    """Simulate the three hospitals that are deployed."""
    path = tmp_path_factory.mktemp("hospitals") / "heart.csv"
    overrides = (*HEART, *hospitals_alone(path))
    with Deployment(run_overrides=overrides) as deployment:
        return Reference(overrides, deployment.simulate(*RUN)["model_sha256"])


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as network:
        yield network


@contextmanager
def deployed(reference: Reference, network: Network, **others: Host) -> Iterator[HostedDeployment]:
    """Yield a federation on hosts of its own, of which ``others`` are given."""
    places = {"server": network.host(COORDINATOR)} | others
    for name, address in ADDRESSES.items():
        if name not in places:
            places[name] = network.host(address)
    rooms = {name: network.isolated() for name in HOSPITALS}
    with HostedDeployment(
        run_overrides=reference.overrides, places=places, rooms=rooms
    ) as deployment:
        yield deployment


def begin(deployment: HostedDeployment, *overrides: str) -> None:
    """Start everything, and wait until a round is durable."""
    deployment.start_clients()
    deployment.start_server(*RUN, *overrides)
    wait_for_round(deployment, 1)


def wait_for_round(deployment: HostedDeployment, number: int) -> None:
    server = deployment.started["server"]
    wait_until(
        lambda: deployment.rounds_done() >= number or server.poll() is not None,
        timeout_s=240,
        what=f"round {number}",
    )


def complete(deployment: HostedDeployment, reference: Reference) -> None:
    """Wait for the end; nobody missed a round, and the weights are the simulation's."""
    assert deployment.wait_for_server(400) == 0
    summary = deployment.summary()
    assert {client["rounds"] for client in summary["clients"].values()} == {ROUNDS}
    assert summary["failures"] == {}
    assert summary["model_sha256"] == reference.model_sha256


def ports(host: Host, address: str) -> list[int]:
    """Return the TCP ports of an address that a host can connect to."""
    told = host.ask(sys.executable, str(open_ports.__file__), address, timeout_s=300)
    return [int(word) for word in told.split()]


def test_of_all_ports_one_is_reachable_and_trainers_without_a_network_train(
    reference: Reference, network: Network
) -> None:
    with deployed(reference, network) as deployment:
        places = deployment.places
        begin(deployment)
        with stopped(trainer_of(deployment, HOSPITALS[2])):  # so that the run does not end
            assert ports(places[ONE], COORDINATOR) == [PORT]
            assert deployment.started["server"].poll() is None
        assert listening(places["server"]) == [f"tcp 00000000:{PORT:04X}"]
        assert listening(places[ONE]) == []
        for name, room in deployment.rooms.items():
            interfaces = room.ask("cat", "/proc/net/dev").splitlines()[2:]
            assert [line.split(":")[0].strip() for line in interfaces] == ["lo"], name
            network_of = os.stat(f"/proc/{trainer_of(deployment, name)}/ns/net").st_ino
            assert network_of == os.stat(f"/run/netns/{room.namespace}").st_ino
        complete(deployment, reference)
        for name in HOSPITALS:  # which go on waiting for a next run
            others = [place for place in places if place != name]
            assert {place: ports(places[place], ADDRESSES[name]) for place in others} == {
                place: [] for place in others
            }


def trainer_of(deployment: HostedDeployment, name: str) -> int:
    """Return the id of the process that computes for an institution."""
    return processes(deployment.kit(name) / "state" / "trainer")["trainer"]


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Have a process wait."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_link_that_is_cut_in_a_round_for_90_s_costs_nobody_a_round(
    reference: Reference, network: Network
) -> None:
    with deployed(reference, network) as deployment:
        begin(deployment)
        place = deployment.places[ONE]
        network.unplug(place)
        done, began = deployment.rounds_done(), time.monotonic()
        time.sleep(CUT_S)
        assert deployment.rounds_done() <= done + 1  # one may have been on its way
        network.plug(place.port, "lan")
        complete(deployment, reference)
        print(f"cut for {CUT_S:g} s; done {time.monotonic() - began:.0f} s after it began")


def test_300_ms_and_one_packet_in_a_hundred_lost_cost_time_alone(
    reference: Reference, network: Network
) -> None:
    slow = {
        name: network.slow_host(address, delay_s=0.3, loss=0.01)
        for name, address in ADDRESSES.items()
    }
    with deployed(reference, network, **slow) as deployment:
        begin(deployment)
        assert float(slow[ONE].ask(sys.executable, "-c", CONNECTS)) >= 0.3
        complete(deployment, reference)


def test_a_proxy_may_be_the_only_way_out(reference: Reference, network: Network) -> None:
    network.lan("inner")
    inside = network.host("10.78.0.2", lan="inner")
    between = network.host("10.77.0.100")
    network.connect(between, PROXY, lan="inner", port="proxy", interface="eth1")
    with deployed(reference, network, **{ONE: inside}) as deployment:
        words = [sys.executable, str(connect_proxy.__file__), PROXY, str(PROXY_PORT)]
        with subprocess.Popen(
            [*between.within, *words], stdout=subprocess.PIPE, text=True
        ) as proxy:
            assert proxy.stdout is not None
            assert proxy.stdout.readline() == "ready\n"
            try:
                deployment.environments[f"{ONE}/supernode"] = {
                    "HTTPS_PROXY": f"http://{PROXY}:{PROXY_PORT}"
                }
                begin(deployment)
                with pytest.raises(AssertionError, match="Network is unreachable"):
                    inside.ask(sys.executable, str(open_ports.__file__), COORDINATOR)
                complete(deployment, reference)
            finally:
                proxy.kill()
            assert set(proxy.stdout.read().split()) == {f"{COORDINATOR}:{PORT}"}


def set_clock(deployment: HostedDeployment, name: str, ahead_s: int) -> dict[str, str]:
    """Put the clock of all programs of an institution ahead; return the variables that do it."""
    if shutil.which("cc") is None:
        pytest.skip("no C compiler here, which the library needs that puts a clock ahead")
    folder = deployment.folder / "clock"
    folder.mkdir()
    (folder / "ahead.c").write_text(AHEAD)
    library = folder / "ahead.so"
    words = ["cc", "-shared", "-fPIC", f"-DAHEAD_S={ahead_s}", "-o", str(library)]
    subprocess.run([*words, str(folder / "ahead.c")], check=True)
    # Supervisors hand few variables on: PYTHONPATH is one, and LD_PRELOAD none
    (folder / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'LD_PRELOAD' not in os.environ:\n"
        f"    os.environ['LD_PRELOAD'] = {str(library)!r}\n"
        "    os.execv(sys.executable, sys.orig_argv)\n"
    )
    changed = {"PYTHONPATH": f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    for role in ROLES:
        deployment.environments[f"{name}/{role}"] = changed
    return changed


def examine(deployment: HostedDeployment, name: str, clock: dict[str, str]) -> str:
    """Return what ``confide doctor`` says on an institution's host."""
    words = [str(deployment.kit(name)), *deployment.client_overrides, "data.path=unused"]
    done = subprocess.run(
        [*deployment.places[name].within, *CONFIDE, "doctor", *words, "--json"],
        env=os.environ | clock,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


def test_a_clock_3_s_ahead_trains_and_the_doctor_warns(
    reference: Reference, network: Network
) -> None:
    with deployed(reference, network) as deployment:
        clock = set_clock(deployment, ONE, 3)
        begin(deployment)
        found = examine(deployment, ONE, clock)
        assert "s ahead of the coordinator's" in found, found
        complete(deployment, reference)


def test_a_clock_6_s_ahead_is_refused_with_the_reason_and_the_fix(
    reference: Reference, network: Network
) -> None:
    with deployed(reference, network) as deployment:
        clock = set_clock(deployment, ONE, 6)
        begin(deployment, "server.min_clients=2", "server.enrol_timeout_s=60")
        assert "Flower refuses one more than 5 s ahead" in examine(deployment, ONE, clock)
        assert deployment.wait_for_server(300) == 0
        assert set(deployment.summary()["clients"]) == set(HOSPITALS) - {ONE}
        told = deployment.told(ONE, "supernode")
        assert "this machine's clock differs from the coordinator's (more than 5 s ahead" in told
        assert "set the clock (NTP)" in told


def test_namespaces_and_processes_go_after_ctrl_c() -> None:
    program = (
        "import subprocess, time\n"
        "from network_hosts import Network\n"
        "with Network() as network:\n"
        "    network.slow_host('10.77.0.9', delay_s=0.1, loss=0.0)\n"
        "    print(network._relays[0].pid, *network._made, flush=True)\n"
        "    time.sleep(60)\n"
    )
    folder = str(Path(network_hosts.__file__).parent)
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": folder},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        relay, *names = process.stdout.readline().split()
        assert len(names) == 2
        assert all(Path("/run/netns", name).exists() for name in names)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) != 0
        assert not any(Path("/run/netns", name).exists() for name in names)
        assert not Path("/proc", relay).exists()
