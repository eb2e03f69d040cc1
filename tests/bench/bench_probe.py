"""Linear probes and transferability scores: what they cost beside the forward pass, and beside what others do for the same.

Measured against (issue 5), MiniLM-L6 on tasks of the mirror, side by side in one run:
- overhead: probing one model on one task <= 1.15x its bare forward pass over the same length-bucketed batches. The probe is all of
  it: the pass with every pooling, writing the features, the whole path of penalties, test. Neither side loads the model.
- trainer: >= 5x faster than three epochs of transformers.Trainer on the frozen model's head (probe_rivals.py), at equal or better
  accuracy on the same test rows. Ours counts tokenising and loading, the Trainer's likewise; both skip their imports.
- ranker: embedding and scoring with H-score and LogME >= 2x faster than transformer-ranker on the same model, rows and pooling (all
  layers, then tokens), with the same numbers on the same features.
- scores: each score on 5,000 x 768 features, 20 classes; LogME and H-score < 1 s on one core.
- memory: many candidates on one task, one model at a time: growth of the process's memory after the first tenth.

Command: PYTHONPATH=. python tests/bench/bench_probe.py --mirror ../shared/data [--parts overhead trainer ...] [--repeats 3]
    [--tasks cola ...] [--rows 1000] [--threads 1] [--ranker FOLDER] [--candidates 200]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from pathlib import Path

import torch
from bench_report import OUT, markdown, publish, spread
from probe_parts import MEASURES, Result, Setting
from usual_data import write_usual_data

TASKS = ("cola", "mrpc", "rte", "trec_coarse", "poem_sentiment")
LIMITS = {"trainer": 5.0, "ranker": 2.0}


def table_of(found: Result) -> str:
    """A row for every number that has a limit, and for those that have none."""
    rows: list[list[object]] = []
    for name, one in found.get("overhead", {}).items():
        text = f"probe {spread(one['probe_s'])} s, bare pass {spread(one['bare_s'])} s"
        rows.append([f"overhead: {name}", text, f"{one['ratio']:.2f}x", "<= 1.15x"])
    for part in ("trainer", "ranker"):
        for name, one in found.get(part, {}).items():
            sides = [_sum_s(one[side]) for side in ("ours", "theirs")]
            detail = _accuracies(one) if part == "trainer" else _same(one)
            rows.append(
                [
                    f"{part}: {name}",
                    f"ours {sides[0]} s, theirs {sides[1]} s; {detail}",
                    f"{one['times_faster']:.1f}x",
                    f">= {LIMITS[part]:g}x",
                ]
            )
    for name, one in found.get("scores", {}).items():
        limit = "< 1 s" if name in ("logme", "h_score") else ""
        rows.append(
            [f"score: {name}", f"wall {spread(one['wall_s'])} s", f"{statistics.median(one['cpu_s']):.2f} CPU s", limit]
        )
    if "memory" in found:
        one = found["memory"]
        text = f"{one['candidates']} candidates in {one['seconds']:.0f} s, largest {one['largest_mb']:.0f} MB, cache {one['cache_mb']:.0f} MB"
        rows.append(["memory", text, f"{one['first_mb']:.0f} -> {one['last_mb']:.0f} MB", "flat"])
    return markdown(["what", "measured", "result", "wanted"], rows)


def _sum_s(runs: list[Result]) -> str:
    return spread([run["total_s"] if "total_s" in run else run["embed_s"] + run["score_s"] for run in runs])


def _accuracies(one: Result) -> str:
    ours, theirs = (100 * statistics.median(run["accuracy"] for run in one[side]) for side in ("ours", "theirs"))
    return f"accuracy {ours:.1f} against {theirs:.1f}"


def _same(one: Result) -> str:
    ours, theirs = one["ours"][-1], one["theirs"][-1]
    gaps = [
        f"{name} differs by {abs(ours[name] - theirs[f'{name}_of_our_features']):.1e}" for name in ("h_score", "logme")
    ]
    return ", ".join(gaps) + " on the same features"


def main() -> None:
    """Measure the parts asked for and publish them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", required=True)
    parser.add_argument("--parts", nargs="+", choices=list(MEASURES), default=list(MEASURES))
    parser.add_argument("--tasks", nargs="+", default=list(TASKS))
    parser.add_argument(
        "--rows", type=int, default=1000, help="most training rows; a third of it for validation, as many for test"
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--head-rate", type=float, default=1e-3, help="learning rate of the Trainer's head")
    parser.add_argument("--ranker", help="folder that holds transformer-ranker (see probe_rivals.py)")
    parser.add_argument("--candidates", type=int, default=200)
    parser.add_argument("--out", type=Path, default=OUT)
    asked = parser.parse_args()
    os.environ |= {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false"}
    torch.set_num_threads(asked.threads)
    import transformers

    transformers.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    parts = [part for part in asked.parts if part != "ranker" or asked.ranker]
    with tempfile.TemporaryDirectory() as folder:
        caps = f"{{train: {asked.rows}, validation: {asked.rows // 3}, test: {asked.rows}}}"
        overrides = ["arch=minilm", f"mirror={asked.mirror}", f"tasks=[{','.join(asked.tasks)}]", f"suite.caps={caps}"]
        data = write_usual_data(overrides, Path(folder) / "data", slots=1)
        setting = Setting(asked=asked, data=data, folder=Path(folder))
        found = {part: MEASURES[part](setting) for part in parts}
    notes = [
        f"{asked.rows} training rows at most, {asked.threads} thread(s), float32, {asked.repeats} repeats: median (range)"
    ]
    if "ranker" in asked.parts and not asked.ranker:
        notes.append("transformer-ranker: not measured, --ranker was not given")
    publish("bench_probe", table_of(found), found, out=asked.out, notes=notes)


if __name__ == "__main__":
    main()
