"""Where base models come from: by the keys of the cells that made them, never by their names."""

from __future__ import annotations

from analysis.report.site.lineage import trace_lineage
from tests.result_cells import PRETRAINED, cell, model_cells, result_table

SOURCE = cell(PRETRAINED, "mnli", 0.7, role="source", checkpoint="/kept/a")


def test_a_model_made_here_was_trained_on_the_task_of_the_cell_that_made_it() -> None:
    table = result_table([SOURCE, *model_cells("startline/x", {"rte": 0.5}, base_revision=SOURCE["key"])])
    lineage = trace_lineage(table, pretrained=PRETRAINED)
    assert lineage.trained_on == {"startline/x": ("mnli",)}
    assert lineage.checkpoints == {"startline/x": "/kept/a"}
    assert lineage.source_runs == {"startline/x": (SOURCE["run_id"],)}


def test_a_chain_of_sources_is_followed_to_the_pretrained_model() -> None:
    second = cell("startline/x", "qnli", 0.7, role="source", base_revision=SOURCE["key"])
    table = result_table([SOURCE, second, *model_cells("startline/y", {"rte": 0.5}, base_revision=second["key"])])
    assert trace_lineage(table, pretrained=PRETRAINED).trained_on["startline/y"] == ("mnli", "qnli")


def test_a_source_made_from_an_unknown_model_leaves_the_training_unknown() -> None:
    odd = cell("org/other", "qnli", 0.7, role="source", base_revision="c0ffee")
    table = result_table([odd, *model_cells("startline/y", {"rte": 0.5}, base_revision=odd["key"])])
    assert trace_lineage(table, pretrained=PRETRAINED).trained_on == {}


def test_a_name_tells_nothing() -> None:
    table = result_table(model_cells("startline/roberta-base-mnli", {"rte": 0.5}, base_revision="0" * 40))
    assert trace_lineage(table, pretrained=PRETRAINED).trained_on == {}


def test_a_model_with_seeds_of_its_own_is_known_only_if_every_seed_is() -> None:
    other = cell(PRETRAINED, "mnli", 0.7, role="source", seed=1)
    both = [
        cell("startline/x", "rte", 0.5, seed=s, base_revision=k) for s, k in enumerate((SOURCE["key"], other["key"]))
    ]
    known = trace_lineage(result_table([SOURCE, other, *both]), pretrained=PRETRAINED)
    assert known.trained_on == {"startline/x": ("mnli",)}
    assert known.revisions["startline/x"] == (SOURCE["key"], other["key"])
    assert trace_lineage(result_table([SOURCE, *both]), pretrained=PRETRAINED).trained_on == {}


def test_a_failed_cell_counts_until_another_attempt_scored() -> None:
    failed = cell("org/m", "rte", None, state="failed", failed_stage="train", reason="boom")
    earlier = failed | {"reason": "earlier", "end_time_ms": 5, "run_id": "r0"}
    lineage = trace_lineage(result_table([failed, earlier]), pretrained=PRETRAINED)
    assert [failure.reason for failure in lineage.failures["org/m"]] == ["boom"]
    again = cell("org/m", "rte", 0.5, attempt="a2", run_id="r2")
    assert trace_lineage(result_table([failed, again]), pretrained=PRETRAINED).failures == {}
