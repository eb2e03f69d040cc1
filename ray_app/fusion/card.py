"""The model card of a fused checkpoint: what it was made of, so that nobody has to guess."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from ray_app.fusion.settings import NEEDS_PRETRAINED, FusionConfig, Rule
from ray_app.hub.mirror import is_commit

_RULES = {
    Rule.MEAN: "the plain mean of the sources",
    Rule.WEIGHTED_MEAN: "the weighted mean of the sources",
    Rule.FISHER: "the mean of the sources weighted by their diagonal Fisher information (Matena & Raffel, 2022)",
    Rule.TASK_ARITHMETIC: "the pretrained model plus the sum of the sources' task vectors (Ilharco et al., 2023)",
    Rule.TIES: "the pretrained model plus the sources' task vectors, trimmed and merged by sign (TIES, Yadav et al., 2023)",
    Rule.DARE: "the pretrained model plus the sources' task vectors, dropped by chance and rescaled (DARE, Yu et al., 2024)",
    Rule.GREEDY_SOUP: "the mean of the sources that a greedy soup took in (Wortsman et al., 2022)",
}


def write_card(
    config: FusionConfig,
    *,
    weights: Mapping[str, float],
    left_out: Mapping[str, str],
    dropped: Sequence[str],
    revisions: Mapping[str, str],
    pretrained: str | None,
) -> str:
    """Text of README.md: metadata that the hub reads, the rule, every source with weight and revision, what was left out.

    Args:
        config: how it was fused.
        weights: weight by source that is in it.
        left_out: sources that are not, with the reason.
        dropped: tensors that were not fused.
        revisions: revision by source, where known.
        pretrained: name of the pretrained model, where one was given.
    """
    head = ["---", "library_name: transformers", "tags: [startline, fused-model, merge]"]
    named = [name for name in weights if is_commit(revisions.get(name))]  # what the hub can link to
    if named:
        head += ["base_model:", *(f"- {json.dumps(name)}" for name in named), "base_model_relation: merge"]
    lines = [*head, "---", "# Fused model", ""]
    lines += [
        f"Made by Startline as a base model for finetuning: {_RULES[config.rule]}, parameter by parameter. It has no classification head; "
        "weights are float32.",
        "",
        *_settings(config, pretrained),
        "",
        "| source | weight | revision |",
        "|---|---|---|",
        *(f"| {_cell(name)} | {weight:.6g} | {_cell(revisions.get(name, ''))} |" for name, weight in weights.items()),
        "",
    ]
    if left_out:
        lines += ["Left out:", "", *(f"- {name}: {reason}" for name, reason in left_out.items()), ""]
    if dropped:
        shown = ", ".join(f"`{name}`" for name in dropped[:20])
        lines += [
            f"Not fused (heads, parts that a source lacks, buffers that are computed): {shown}{', ...' if dropped[20:] else ''}.",
            "",
        ]
    return "\n".join(lines)


def _settings(config: FusionConfig, pretrained: str | None) -> list[str]:
    lines = [f"- rule: {config.rule.value}"]
    if pretrained is not None:
        lines.append(f"- pretrained model: {pretrained}")
    if config.rule in NEEDS_PRETRAINED:
        lines.append(f"- scaling (lambda): {config.scaling:g}")
    if config.rule in (Rule.TIES, Rule.DARE):
        lines.append(f"- density: {config.density:g}")
    if config.rule is Rule.DARE:
        lines.append(f"- seed: {config.seed}")
    return lines


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
