"""The base models of an experiment tried on the targets: finetuned, frozen and on few rows, through the cells of any sweep."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import pyarrow as pa

from ray_app.config import AppConfig
from ray_app.fusion.experiment import Experiment
from ray_app.fusion.products import Product
from ray_app.hub.checkpoints import ModelRef
from ray_app.sweeps.plan import PlannedCell, in_running_order, source_name
from ray_app.sweeps.settings import SourcesConfig
from tracking.table import scored_cells


class How(StrEnum):
    """How a base model is tried."""

    FINETUNED = "finetuned"
    FROZEN = "frozen"
    """A linear probe on its features."""
    FEW_SHOT = "few_shot"
    """Finetuned on few rows."""


@dataclass(kw_only=True)
class Evaluation:
    """What is to be tried on what, and the scores that came of it.

    A base model of run seed s is tried under seed s alone, as an in-house intermediate model is; two products of equal content
    are one base model, tried under the name of the first.
    """

    experiment: Experiment
    products: list[Product]
    settings: str | None = None
    """Settings hash of the finetunes; None before ``plan``."""
    todo: list[PlannedCell] = field(default_factory=list)
    """Cells that must be run."""
    _keys: dict[tuple[How, str, str, int], str] = field(default_factory=dict)
    _scores: dict[str, float] = field(default_factory=dict)

    @property
    def singles(self) -> list[str]:
        """Tasks of the single intermediate models that are tried."""
        seen = self.experiment.split.seen
        return seen if self.experiment.config.cold_fusion.baselines.singles else []

    def plan(self) -> None:
        """Work out the cells, and which of them must be run."""
        config = self.experiment.config
        todo: dict[str, PlannedCell] = {}
        for seed in config.seeds:
            for how in How:
                if self._asked(how):
                    for cell in self._cells(how, seed):
                        todo.setdefault(cell.key, cell)
        self.todo = in_running_order(list(todo.values()))

    def _asked(self, how: How) -> bool:
        asked = self.experiment.config.cold_fusion.evaluate
        return {How.FINETUNED: True, How.FROZEN: asked.probe, How.FEW_SHOT: asked.few_shot is not None}[how]

    def _cells(self, how: How, seed: int) -> list[PlannedCell]:
        session = self.experiment.session
        study = session.study(self._request(how, seed), probe=how is How.FROZEN)
        plan = session.plan(study)
        for cell in plan.cells:
            if cell.role == "target":
                self._keys[how, cell.identity.base_model, cell.identity.task, seed] = cell.key
        if how is How.FINETUNED:
            self.settings = plan.settings
        return plan.todo

    def _request(self, how: How, seed: int) -> AppConfig:
        """The request of an ordinary sweep or probe that holds these cells."""
        config = self.experiment.config
        cold = config.cold_fusion
        models = [ModelRef(id=product.name, path=str(product.base.folder)) for product in self._tried(how, seed)]
        sources = [SourcesConfig(tasks=self.singles, caps=cold.caps, method=cold.method)] if self.singles else []
        candidates = dataclasses.replace(config.candidates, name=cold.name, models=models, sources=sources)
        sizes = [cold.evaluate.few_shot] if how is How.FEW_SHOT and cold.evaluate.few_shot else []
        suite = dataclasses.replace(config.suite, train_sizes=sizes)
        return dataclasses.replace(config, candidates=candidates, suite=suite, seeds=[seed])

    def _tried(self, how: How, seed: int) -> list[Product]:
        """Products of a seed that are tried in a way, each content once."""
        curve = self.experiment.config.cold_fusion.evaluate.curve
        first = self.experiment.first
        chosen = [
            self.canonical(product)
            for product in self.products
            if product.seed == seed
            and not product.base.pretrained
            and (how is How.FROZEN or product.last or (how is How.FINETUNED and curve and product.label == first))
        ]
        return list({product.name: product for product in chosen}.values())

    def canonical(self, product: Product) -> Product:
        """The first product of the same content and seed."""
        same = [one for one in self.products if one.seed == product.seed and one.base.revision == product.base.revision]
        return same[0]

    def read(self, table: pa.Table) -> None:
        """Take up the scores that are in the result table."""
        wanted = set(self._keys.values())
        rows = scored_cells(table).select(["key", "score"]).to_pylist()
        self._scores = {row["key"]: row["score"] for row in rows if row["key"] in wanted and row["score"] is not None}

    def score(self, how: How, name: str, *, task: str, seed: int) -> float | None:
        """Score of a base model by name, fraction; None where it was not tried or failed."""
        return self._scores.get(self._keys.get((how, name, task, seed), ""))

    def score_of(self, how: How, product: Product, task: str) -> float | None:
        """Score of a product, fraction; where its update was refused from the start it is the pretrained model's."""
        pretrained = self.experiment.config.arch.pretrained.id
        name = pretrained if product.base.pretrained else self.canonical(product).name
        return self.score(how, name, task=task, seed=product.seed)

    def single_name(self, task: str) -> str:
        """Name of the intermediate model of one dataset."""
        return source_name(self.experiment.config.arch.name, task, SourcesConfig(tasks=[task]), 0)

    def missing(self) -> Sequence[tuple[How, str, str, int]]:
        """What was asked for and has no score."""
        return [what for what, key in self._keys.items() if key not in self._scores]
