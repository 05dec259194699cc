"""What a run computed, as energy: a rule with its assumptions, and what it leaves out.

kWh are seconds of processors, times watts of a core, times the building's overhead: the rule of
Green Algorithms (Lannelongue, Grealey and Inouye, Advanced Science 2021) without its part for
memory. It is an estimate: no meter was read.
"""

from collections.abc import Mapping
from typing import Any

from confide.config.report import EnergyConfig

_JOULES = 3.6e6
"""Of a kilowatt hour."""
_ALWAYS = "memory, disks and networks, and processors while they wait"


def energy_statement(
    cpu_seconds: Mapping[str, float],
    config: EnergyConfig,
    *,
    engine: Mapping[str, Any],
    is_deployed: bool,
) -> dict[str, Any]:
    """Return a summary's ``energy``; {} where nobody counted.

    Args:
        cpu_seconds: who computed -> seconds of processors.
        config: by what they are told as energy.
        engine: what carried the messages, and the device that was trained on.
        is_deployed: whether institutions computed on machines of their own.
    """
    if not cpu_seconds:
        return {}
    total = sum(cpu_seconds.values())
    left_out = [_ALWAYS]
    if is_deployed:
        left_out.insert(
            0,
            "what institutions computed, which they do not tell, and the processes of the network",
        )
    if str(engine.get("device", "cpu")) != "cpu":
        left_out.insert(0, f"the device {engine['device']}")
    if engine.get("name") == "ray":
        left_out.insert(0, "workers of the cluster")
    return {
        "cpu_seconds": {who: round(seconds, 2) for who, seconds in cpu_seconds.items()},
        "watts_per_core": config.watts_per_core,
        "pue": config.pue,
        "kwh": float(f"{total * config.watts_per_core * config.pue / _JOULES:.4g}"),
        "not_counted": left_out,
    }


__all__ = ["energy_statement"]
