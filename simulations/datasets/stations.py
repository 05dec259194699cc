"""Made-up hourly loads of four stations with rhythms of day and week: ``data=stations``."""

import numpy
import pandas

_DAY, _WEEK = 24, 168


def loads(days: int = 120, seed: int = 0) -> pandas.DataFrame:
    """Return a row for each hour of each station.

    Args:
        days: of each station.
        seed: of what is drawn.

    Returns:
        Columns station, hour (from 0), load (0 to 100) and overload, 1 where the load is above 70.
    """
    rng = numpy.random.default_rng(seed)
    hours, tables = numpy.arange(days * _DAY), []
    for number in range(4):
        day = numpy.sin(2 * numpy.pi * (hours / _DAY + 0.07 * number))
        week = numpy.sin(2 * numpy.pi * hours / _WEEK)
        noise, drift = rng.normal(0, 1, len(hours)), numpy.zeros(len(hours))
        for hour in range(1, len(hours)):
            drift[hour] = 0.8 * drift[hour - 1] + noise[hour]
        load = 50 + (18 + 2 * number) * day + 8 * week + 4 * drift
        load = load.clip(0, 100).round(2)
        table = pandas.DataFrame({"station": f"station-{number + 1}", "hour": hours, "load": load})
        table["overload"] = (load > 70).astype(int)
        tables.append(table)
    return pandas.concat(tables, ignore_index=True)


__all__ = ["loads"]
