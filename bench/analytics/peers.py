"""Change points by Apache Otava and ruptures with their defaults, as JSON: method -> series -> points.

Usage: peers.py FOLDER, where FOLDER holds series as JSON files (name, values).
Needs, from PyPI: apache-otava, ruptures (see README.md).
ruptures has no default penalty: it is that of Schwarz's criterion, 2 ln n (l2: times the variance, by
scaling each series to variance 1). Missing values are bridged on a straight line.
"""
import glob
import json
import sys
from importlib.metadata import version

import numpy as np
import ruptures
from otava.series import Metric, Series


def read(path):
    with open(path) as file:
        document = json.load(file)
    values = np.array([np.nan if value is None else value for value in document["values"]], dtype=float)
    gaps = np.isnan(values)
    values[gaps] = np.interp(np.flatnonzero(gaps), np.flatnonzero(~gaps), values[~gaps])
    return document["name"], values


def otava(values):
    series = Series("series", None, list(range(len(values))), {"value": Metric(1, 1.0, "")},
                    {"value": list(values)}, {})
    return [int(point.index) for point in series.analyze().change_points["value"]]


def scaled(values):
    deviation = np.std(values)
    return ((values - np.mean(values)) / (deviation if deviation > 0 else 1.0)).reshape(-1, 1)


def pelt(values):
    found = ruptures.Pelt(model="rbf").fit_predict(scaled(values), pen=2 * np.log(len(values)))
    return [int(point) for point in found[:-1]]


def binseg(values):
    found = ruptures.Binseg(model="l2").fit_predict(scaled(values), pen=2 * np.log(len(values)))
    return [int(point) for point in found[:-1]]


METHODS = {
    f"Apache Otava {version('apache-otava')}": otava,
    f"ruptures {version('ruptures')}, PELT rbf": pelt,
    f"ruptures {version('ruptures')}, BinSeg l2": binseg,
}

all_series = [read(path) for path in sorted(glob.glob(sys.argv[1] + "/*.json"))]
print(json.dumps({name: {series: method(values) for series, values in all_series}
                  for name, method in METHODS.items()}))
