#!/usr/bin/env warmpy
"""A report on the breast-cancer measurements of Wolberg et al. (1995), as scikit-learn ships them.

    report.py [breast_cancer.csv]

Reads the CSV file, describes how the two diagnoses differ, trains a classifier and says how well it does. The
kind of program that warmfork is for: nearly all of its time goes into importing pandas and scikit-learn.
"""

import csv
import sys
from pathlib import Path

import pandas as pd
import sklearn.datasets
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import confusion_matrix
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler


def default_path() -> Path:
    return Path(sklearn.datasets.__file__).parent / "data" / "breast_cancer.csv"


def load(path: Path) -> pd.DataFrame:
    """The file's first line is the number of rows, of columns, and the names of the classes."""
    with path.open(newline="") as file:
        rows, columns, *names = next(csv.reader(file))
        data = pd.read_csv(file, header=None)
    data.columns = [*feature_names(int(columns)), "diagnosis"]
    if len(data) != int(rows):
        sys.exit(f"{path}: {len(data)} rows instead of the {rows} announced")
    data["diagnosis"] = data["diagnosis"].map(dict(enumerate(names)))
    return data


def feature_names(columns: int) -> list[str]:
    measures = ["radius", "texture", "perimeter", "area", "smoothness"]
    measures += ["compactness", "concavity", "concave points", "symmetry", "fractal dim."]
    names = [f"{kind} {measure}" for kind in ("mean", "error", "worst") for measure in measures]
    return names[:columns]


def differences(data: pd.DataFrame) -> pd.DataFrame:
    """The mean of each measure by diagnosis, and the distance of the two in standard deviations, largest first."""
    groups = data.groupby("diagnosis")
    table = groups.mean().T
    table["distance"] = (table["malignant"] - table["benign"]).abs() / data.drop(columns="diagnosis").std()
    return table.sort_values("distance", ascending=False)


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else default_path()
    data = load(path)
    print(f"{path.name}: {len(data)} tumours, {data.shape[1] - 1} measures\n")
    print(data["diagnosis"].value_counts().to_string(), "\n")
    print("What tells them apart:")
    print(differences(data).head(8).to_string(float_format="{:.3f}".format), "\n")

    features, target = data.drop(columns="diagnosis"), data["diagnosis"]
    train, test, train_target, test_target = train_test_split(
        features, target, test_size=0.3, random_state=0, stratify=target
    )
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    model.fit(train, train_target)
    found = model.predict(test)
    names = sorted(target.unique())
    matrix = pd.DataFrame(confusion_matrix(test_target, found, labels=names), names, names)
    print("A logistic regression, on the 30 % it has not seen (rows: truth, columns: found):")
    print(matrix.to_string(), "\n")
    print(f"{(found == test_target).mean():.1%} right")


if __name__ == "__main__":
    main()
