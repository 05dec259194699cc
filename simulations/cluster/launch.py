"""A Ray of this machine's own, or one that is joined.

Ray is imported in here, and after its environment is set: what it listens on is decided then.
"""

import contextlib
import logging
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from confide.config.simulation import RayConfig
from confide.errors import ConfigError

_ANSWERS_WITHIN_S = _ENDS_WITHIN_S = 10.0
# No line of what Ray prints of workers that died, which the pool tells by itself
_QUIET = {"RAY_DEDUP_LOGS_SKIP_REGEX": "."}
_LOCAL = {
    "RAY_USAGE_STATS_ENABLED": "0",
    # Despite its name: 0 has every part of Ray listen on loopback alone
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_worker_niceness": "0",  # Ray's 15 would let anything else on the machine go first
}
_TRIES = 2
log = logging.getLogger(__name__)

_LONGEST_FOLDER = 30
"""Characters; a path of a socket may have some hundred, of which Ray takes seventy."""


@contextlib.contextmanager
def joined(config: RayConfig, *, cpus: float) -> Iterator[None]:
    """Take part in a Ray cluster: the one at ``config.address``, or one that is started and ended.

    A cluster that this process has joined before, by ``ray.init``, is used and stays joined.

    Args:
        config: where it is.
        cpus: that one of this machine's own offers.

    Raises:
        ConfigError: if no Ray answers at the address, or it cannot be joined.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(_environment(_QUIET if config.address else _QUIET | _LOCAL))
        import ray

        if not ray.is_initialized():
            if config.address is None:
                folder = stack.enter_context(_short_folder())
                where = {"address": "local", "_temp_dir": folder, "num_cpus": math.ceil(cpus)}
            else:
                _knock(config.address)
                where = {"address": config.address}
            with _untouched():
                _join(config, where)
            stack.callback(_leave)
        elif config.address not in (None, ray.get_runtime_context().gcs_address):
            raise ConfigError(
                f"simulation.ray.address={config.address}: this process has joined the Ray at"
                f" {ray.get_runtime_context().gcs_address}; call ray.shutdown() first."
            )
        yield


def _leave() -> None:
    """Leave the cluster, and see that what was started for it has ended."""
    import ray

    node = getattr(ray._private.worker, "_global_node", None)
    by_kind = {} if node is None else node.all_processes
    started = [info.process for infos in by_kind.values() for info in infos]
    ray.shutdown()
    # Ray sends its helpers away and does not wait for them
    for process in started:
        try:
            process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _join(config: RayConfig, where: Mapping[str, Any]) -> None:
    """Join a cluster, or start one; twice where one's own is not there in time.

    Raises:
        ConfigError: if it does not answer, or does not start.
    """
    import ray

    tries = 1 if config.address else _TRIES
    for left in reversed(range(tries)):
        try:
            ray.init(
                **where,
                include_dashboard=None if config.address else False,
                configure_logging=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
            )
        except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
            if not left:
                raise ConfigError(_refused(config, error)) from None
            # A busy machine: Ray waits half a minute for its own parts, and no longer
            log.warning("Ray has not started (%s); once more.", str(error).partition("\n")[0])
            ray.shutdown()
        else:
            return


def _refused(config: RayConfig, error: Exception) -> str:
    said = str(error).strip().partition("\n")[0]
    if config.address is None:
        return f"simulation.engine=ray: Ray does not start on this machine: {said}"
    return (
        f"simulation.ray.address={config.address}: {said} Start confide on a machine of the"
        " cluster, with the same versions of Python and Ray as there."
    )


def check_address(config: RayConfig) -> None:
    """Find out whether anybody answers at an address, before anything else takes time.

    Raises:
        ConfigError: if not.
    """
    known = sys.modules.get("ray")  # not imported here: its environment comes first
    if config.address is not None and not (known and known.is_initialized()):
        _knock(config.address)


def _knock(address: str) -> None:
    """Find out whether anybody answers, which Ray itself takes minutes for.

    Raises:
        ConfigError: if not.
    """
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_ANSWERS_WITHIN_S).close()
    except OSError as error:
        raise ConfigError(
            f"simulation.ray.address={address}: no Ray answers there ({error}). Start one with"
            f" `ray start --head --port={port}`, or leave the address out for a Ray of this"
            " machine's own."
        ) from None


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Set variables of the environment, unless they are set, and put them back."""
    missing = [name for name in values if name not in os.environ]
    os.environ.update({name: values[name] for name in missing})
    try:
        yield
    finally:
        for name in missing:
            os.environ.pop(name, None)


@contextlib.contextmanager
def _short_folder() -> Iterator[str]:
    folder = tempfile.gettempdir()
    if len(folder) > _LONGEST_FOLDER:
        folder = "/tmp"
    with tempfile.TemporaryDirectory(
        prefix="confide-", dir=Path(folder), ignore_cleanup_errors=True
    ) as made:
        yield made


@contextlib.contextmanager
def _untouched() -> Iterator[None]:
    """Put back how this process ends on a signal, and keep Ray's warnings about itself away."""
    is_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGTERM)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    if is_main:
        signal.signal(signal.SIGTERM, before)


__all__ = ["joined"]
