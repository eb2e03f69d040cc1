"""Cards in the hub's formats, read back by the hub's own library."""

from __future__ import annotations

import json
from datetime import date
from pathlib import Path

import pytest
import yaml
from huggingface_hub import ModelCard, parse_eval_result_entries
from huggingface_hub.repocard_data import model_index_to_eval_results

from analysis.report.card import BEGIN, CardResult, TaskSource, card_results, card_section
from analysis.report.site import ArchReport
from ray_app.commands.card import (
    Card,
    as_yaml,
    dataset_parts,
    eval_results,
    find_model,
    model_index,
    task_sources,
    write_card,
)
from ray_app.commands.publish import merged_readme
from tests.result_cells import model_cells, result_table
from tests.site_reports import hostile_report, small_report
from tracking.errors import InputError

DAY = date(2026, 3, 21)
COMMIT = "a" * 40
SOURCES = {
    "cola": TaskSource(dataset="google/boolq", config="", metric="accuracy"),
    "mnli": TaskSource(dataset="nyu-mll/glue", config="mnli", metric="accuracy", revision=COMMIT),
    "rte": TaskSource(dataset="nyu-mll/glue", config="rte", metric="spearman", revision="not-a-commit"),
}


@pytest.fixture(scope="module")
def small() -> ArchReport:
    return small_report()


@pytest.fixture(scope="module")
def results(small: ArchReport) -> list[CardResult]:
    return card_results(small, small.models[0], sources=SOURCES)


@pytest.fixture(scope="module")
def card(small: ArchReport, results: list[CardResult]) -> Card:
    model = small.models[0]
    return Card(
        model=model.name,
        arch=small.name,
        stem=model.stem,
        section=card_section(small, model, as_of=DAY, version="1"),
        index=model_index(small, model, results, address="https://site.example/x.html"),
        eval_results=eval_results(results, day=DAY, address=""),
        eval_file=".eval_results/startline-acme_arch.yaml",
    )


def test_model_index_reads_back(card: Card) -> None:
    name, found = model_index_to_eval_results(yaml.safe_load(as_yaml(card.index)))
    assert name == "org/up" and len(found) == 5
    average, boolq, cola, mnli, rte = found
    assert (average.metric_value, average.metric_args["gain_points"], average.metric_args["rank"]) == (0.7, 10.0, 1)
    assert average.metric_args["gain_95"] == [-2.022, 22.022]
    assert (cola.dataset_type, cola.dataset_config, cola.dataset_revision, cola.metric_value) == (
        "nyu-mll/glue",
        "mnli",
        COMMIT,
        0.85,
    )
    assert (rte.metric_type, rte.task_type, rte.dataset_revision) == ("spearmanr", "sentence-similarity", None)
    assert (mnli.dataset_type, boolq.dataset_config, boolq.source_url) == (
        "startline/qnli",
        None,
        "https://site.example/x.html",
    )


def test_eval_results_read_back_for_tasks_on_the_hub(card: Card) -> None:
    entries = parse_eval_result_entries(yaml.safe_load(as_yaml(card.eval_results)))
    assert [(e.dataset_id, e.task_id, e.value) for e in entries] == [
        ("google/boolq", "default", 0.65),
        ("nyu-mll/glue", "mnli", 0.85),
        ("nyu-mll/glue", "rte", 0.55),
    ]
    assert entries[1].date == "2026-03-21" and entries[1].dataset_revision == COMMIT and entries[1].source_url is None
    assert "95 % interval" in entries[0].notes and "settings 5e77195" in entries[0].notes


def test_two_tasks_on_one_data_set_stay_two_results(small: ArchReport) -> None:
    shared = TaskSource(dataset="CogComp/trec", config="", metric="accuracy")
    both = card_results(small, small.models[0], sources={"cola": shared, "mnli": shared})
    assert dataset_parts(both) == {"cola": "cola", "mnli": "mnli", "qnli": "qnli", "rte": "rte"}
    index = model_index(small, small.models[0], both, address="")
    assert len(index[0]["results"]) == 5
    assert [e["dataset"]["task_id"] for e in eval_results(both, day=DAY, address="")] == ["cola", "mnli"]


def test_sources_of_tasks_come_from_their_yaml_and_from_the_cells(small: ArchReport) -> None:
    rows = model_cells("org/up", {"mnli": 0.85, "rte": 0.55}, task_revision="b" * 40)
    found = task_sources(result_table(rows), small.models[0])
    assert (found["mnli"].dataset, found["mnli"].config, found["mnli"].revision) == ("nyu-mll/glue", "mnli", "b" * 40)
    assert found["qnli"].dataset == "nyu-mll/glue" and found["qnli"].revision == ""


def test_an_unknown_model_is_answered_with_the_nearest(small: ArchReport) -> None:
    with pytest.raises(InputError, match=r"no base model 'partial' among 7; nearest: org/partial"):
        find_model(small, "partial")
    assert find_model(small, "org/up").name == "org/up"


def test_files_of_a_card(card: Card, tmp_path: Path) -> None:
    folder = write_card(card, tmp_path)
    assert folder == tmp_path / "org_up" and BEGIN in (folder / "section.md").read_text()
    assert yaml.safe_load((folder / "model-index.yaml").read_text())["model-index"] == card.index
    assert len(yaml.safe_load((folder / ".eval_results/startline-acme_arch.yaml").read_text())) == 3
    assert write_card(card, tmp_path) == folder


def test_a_card_of_another_model_is_not_overwritten(card: Card, tmp_path: Path) -> None:
    from dataclasses import replace

    first = write_card(card, tmp_path)
    second = write_card(replace(card, model="org_up"), tmp_path)
    assert second != first and second.name.startswith("acme_arch_org_up~")
    assert json.loads((first / "about.json").read_text())["model"] == "org/up"


def test_hostile_names_stay_text_in_every_format(tmp_path: Path) -> None:
    report = hostile_report()
    for model in report.models:
        index = model_index(report, model, card_results(report, model, sources=SOURCES), address="")
        assert yaml.safe_load(as_yaml(index))[0]["name"] == model.name


README = """---
license: mit
tags: [a, b]
model-index:
- name: up
  results:
  - task: {type: text-classification}
    dataset: {type: x, name: x}
    metrics: [{type: f1, value: 0.5, name: F1}]
---

# Up

A model.
"""


def test_a_readme_keeps_what_others_wrote(card: Card) -> None:
    merged = merged_readme(README, card)
    data = ModelCard(merged).data.to_dict()
    assert data["license"] == "mit" and data["tags"] == ["a", "b"]
    front = yaml.safe_load(merged.split("---\n")[1])
    names = [result["metrics"][0]["name"] for result in front["model-index"][0]["results"]]
    assert names[0] == "F1" and len(names) == 6 and front["model-index"][0]["name"] == "up"
    assert merged.split("---\n", 2)[2].startswith("\n# Up\n\nA model.\n\n<!-- startline:begin -->\n")
    assert merged_readme(merged, card) == merged, "a second time changes nothing"


def test_a_readme_without_metadata_and_none_at_all(card: Card) -> None:
    assert merged_readme("# Up\n", card).startswith("---\nmodel-index:\n- name: org/up\n")
    assert merged_readme("", card).endswith("<!-- startline:end -->\n")
    assert merged_readme("---\n---\ntext\n", card).count("---\n") == 2


@pytest.mark.parametrize("front", ["a: [", "- a\n- b", "just text"])
def test_broken_metadata_is_not_guessed_away(card: Card, front: str) -> None:
    with pytest.raises(InputError, match="metadata at the top of the card of org/up"):
        merged_readme(f"---\n{front}\n---\ntext\n", card)
