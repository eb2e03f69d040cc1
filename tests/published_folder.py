"""A small folder of published results, in the format of the model-recycling site."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

TASKS = [
    "cola",
    "mrpc",
    "qqp",
    "stsb",
    "boolq",
    "cb",
    "copa",
    "multirc",
    "wic",
    "wsc",
    "ag_news",
    "isear",
    "yahoo_answers",
    "dbpedia",
    "20_newsgroup",
    "trec_fine",
    "trec_coarse",
    "poem_sentiment",
    "imdb",
    "rotten_tomatoes",
    "sst_5bins",
    "sst2",
    "amazon_reviews_multi",
    "financial_phrasebank",
    "tweet_ev_emoji",
    "tweet_ev_emotion",
    "tweet_ev_hate",
    "tweet_ev_irony",
    "tweet_ev_offensive",
    "tweet_ev_sentiment",
    "mnli",
    "qnli",
    "rte",
    "wnli",
    "esnli",
    "anli",
]
METADATA = {"size": "1000.0", "tokenizer": "acme/tok", "model_type": "tiny", "last_modified": "2022-08-04"}

Scores = float | None | Mapping[str, float | None]
"""One score for all tasks, none at all, or a score per task."""


def model_line(name: str, probe: float | None, scores: Scores, *, arch: str = "acme/tiny-1", **metadata: str) -> dict:
    """A line of models_tested.csv."""
    cells = {task: scores.get(task) if isinstance(scores, Mapping) else scores for task in TASKS}
    return {"model_name": name, "base_model": arch, **METADATA, **metadata, "mnli_lp": probe, **cells}


def write_models(folder: Path, lines: Sequence[Mapping[str, object]], *, delimiter: str = ",") -> Path:
    """Write models_tested.csv with Windows line ends, as the published one has them."""
    path = folder / "models_tested.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(lines)
    return path


def write_pretrained(folder: Path, repetitions: Sequence[Scores], *, arch: str = "acme/tiny-1") -> Path:
    """Write the pretrained file of an architecture; the score of stsb stands in the Spearman column."""
    path = folder / f"models_results_{arch.replace('/', '_').replace('-', '_')}_pretrain.csv"
    lines = ["\tdataset name\taccuracy\tloss\tspearmanr\tstage\tdir"]
    for stage, scores in enumerate(repetitions):
        for task in TASKS:
            value = scores.get(task) if isinstance(scores, Mapping) else scores
            text = "" if value is None else repr(value)
            accuracy, spearman = ("", text) if task == "stsb" else (text, "")
            lines.append(f"{len(lines) - 1}\t{task}\t{accuracy}\t0.25\t{spearman}\t{stage}\t/some/where")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def write_folder(folder: Path) -> Path:
    """Three models and three repetitions of one architecture, all sound."""
    write_models(
        folder,
        [
            model_line("ann/one", 0.25, 0.75),
            model_line("bob/two", 0.5, None),
            model_line("cat/three", 0.125, {task: 0.5 + place / 128 for place, task in enumerate(TASKS)}),
        ],
    )
    write_pretrained(folder, [0.5, 0.5625, 0.625])
    return folder
