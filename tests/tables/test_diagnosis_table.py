import io

import numpy as np
from rich.console import Console

from ccreid.retrieval.factors import factor_similarities
from ccreid.tables.diagnosis import diagnosis_report

LEVELS = {"clothes": np.array([[0, 1], [3, 4]]), "camera": np.array([[0, 2], [3, 5]])}
NAMES = {"clothes": ("coat", "shirt"), "camera": ("north", "south")}
# Rows: two people, each as a first image, in other clothes, in another camera.
PERSON = np.repeat(np.eye(2), 3, axis=0)
CLOTHES = np.eye(4)[[0, 1, 0, 2, 3, 2]]


def shown(**features):
    others = np.array([[3], [0]])
    results = {n: factor_similarities(f, LEVELS, others) for n, f in features.items()}
    console = Console(file=io.StringIO(), width=200)
    console.print(diagnosis_report(results, NAMES))
    return console.file.getvalue()


def row(text, title, name):
    """The cells of a table's row."""
    after = text[text.index(title) :]
    line = next(line for line in after.splitlines() if line.startswith(f"│ {name} "))
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


def test_every_measure_has_a_column_per_checkpoint():
    text = shown(who=PERSON, wears=CLOTHES, both=np.hstack([PERSON, CLOTHES]))
    kept, right, cosine = "similarity kept", "ranked before", "cosine\n"
    assert row(text, kept, "clothes+camera") == ["100 [100, 100]", "0 [0, 0]", "50 [50, 50]"]
    assert row(text, kept, "camera") == ["100 [100, 100]"] * 3
    assert row(text, right, "clothes")[1] == "50 [50, 50]"
    text = "\n".join(line.rstrip() for line in text.splitlines())
    assert row(text, cosine, "clothes")[2] == "0.500 [0.500, 0.500]"
    assert row(text, cosine, "person")[0] == "0.000 [0.000, 0.000]"
    assert row(text, "every two levels", "clothes: coat – shirt") == ["1.000", "0.000", "0.500"]
    assert "2 rendered people" in text


def test_a_feature_that_tells_nobody_apart_keeps_nothing_that_could_be_named():
    text = shown(alike=np.ones((6, 2)))
    assert row(text, "similarity kept", "clothes") == ["–"]
    assert row(text, "ranked before", "clothes") == ["50 [50, 50]"]
