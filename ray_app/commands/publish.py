"""`make publish MODEL=... ARCH=...`: shows the pull request that a base model's card would make on the hub; DRY=0 opens it."""

from __future__ import annotations

import difflib
import re
from typing import Any

import yaml

from analysis.report.card import with_section, without_own
from ray_app.commands.card import Card, as_yaml, make_card, write_card
from ray_app.commands.console import console
from ray_app.config import AppConfig
from tracking.errors import ConfigError, InputError

_FRONT = re.compile(r"\A---[ \t]*\r?\n(?P<metadata>.*?)(?:\r?\n)?^---[ \t]*(?:\r?\n|\Z)", re.DOTALL | re.MULTILINE)
SHOWN = 200
"""Lines of changes printed."""
README = "README.md"


def run(config: AppConfig) -> int:
    """Show the pull request, or open it with DRY=0; returns the exit code.

    Raises:
        ConfigError: MODEL is not given, or DRY=0 together with OFFLINE=1.
        InputError: nothing can be said of the model, or the hub does not take it.
        CheckpointError: the hub has no such model, or refuses the token.
        UnreachableError: the hub is away.
    """
    really = config.dry is False
    if really and config.offline:
        raise ConfigError("DRY=0 with OFFLINE=1: a pull request needs the hub; leave out one of them")
    card = make_card(config)
    write_card(card, config.out / "card")
    if config.offline:
        console.print(f"OFFLINE=1: the card of {card.model} on the hub was not read; this would be put into it")
        console.print(card.section, markup=False)
        return 0
    return _propose(config, card, really=really)


def _propose(config: AppConfig, card: Card, *, really: bool) -> int:
    from ray_app.hub.client import open_hub
    from ray_app.hub.pull_request import open_pull_request, read_readme

    hub = open_hub(config.cache.expanduser())
    before, listing = read_readme(hub, card.model)
    after = merged_readme(before, card)
    files = {README: after.encode()}
    if card.eval_results:
        files[card.eval_file] = as_yaml(card.eval_results).encode()
    title = f"Evaluation results of {card.model} as a base model ({card.arch})"
    if not really:
        _show(before, after, card)
        console.print(
            f"nothing was sent. `make publish ARCH={card.arch} MODEL={card.model} DRY=0` opens this pull request on {hub.endpoint}"
        )
        return 0
    opened = open_pull_request(
        hub,
        card.model,
        files=files,
        parent=listing.commit,
        title=title,
        text="Scores after finetuning this model on many tasks, with intervals, written by Startline.",
    )
    console.print(f"pull request opened: {opened.address}")
    return 0


def merged_readme(text: str, card: Card) -> str:
    """A model card with the results in it: section and ``model-index``; all else stays as it is.

    Raises:
        InputError: the metadata at the top cannot be read, or the marks of an earlier section are broken.
    """
    front = _FRONT.match(text)
    body = text[front.end() :] if front else text
    metadata = _metadata(front["metadata"] if front else "", card.model)
    metadata["model-index"] = _merged_index(metadata.get("model-index"), card)
    try:
        merged = with_section(body, card.section)
    except ValueError as error:
        raise InputError(f"{card.model}: {error}", model=card.model) from error
    return f"---\n{as_yaml(metadata)}---\n{merged}"


def _metadata(text: str, model: str) -> dict[str, Any]:
    try:
        loaded = yaml.safe_load(text) if text.strip() else {}
    except yaml.YAMLError as error:
        raise InputError(
            f"the metadata at the top of the card of {model} is no YAML ({str(error).splitlines()[0]}); correct it on the hub first",
            model=model,
        ) from error
    if not isinstance(loaded, dict):
        raise InputError(
            f"the metadata at the top of the card of {model} is a {type(loaded).__name__}, expected a mapping; correct it first",
            model=model,
        )
    return loaded


def _merged_index(present: object, card: Card) -> list[dict[str, Any]]:
    """The results of others, then ours."""
    if not isinstance(present, list) or not present or not isinstance(present[0], dict):
        return card.index
    first = dict(present[0])
    others = first.get("results")
    kept = without_own([result for result in others if isinstance(result, dict)]) if isinstance(others, list) else []
    first["results"] = [*kept, *card.index[0]["results"]]
    return [first, *present[1:]]


def _show(before: str, after: str, card: Card) -> None:
    """What would change: the text line by line, the metadata by its counts."""
    old, new = _FRONT.sub("", before, count=1), _FRONT.sub("", after, count=1)
    lines = list(difflib.unified_diff(old.splitlines(), new.splitlines(), README, README, lineterm="", n=2))
    for line in lines[:SHOWN]:
        console.print(line, markup=False)
    if len(lines) > SHOWN:
        console.print(f"... and {len(lines) - SHOWN} more lines")
    n_results = len(card.index[0]["results"])
    console.print(
        f"metadata of {README}: model-index with {n_results} results of ours, all else as it is", markup=False
    )
    if card.eval_results:
        console.print(f"{card.eval_file}: {len(card.eval_results)} results", markup=False)
