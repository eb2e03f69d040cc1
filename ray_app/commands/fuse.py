"""`make fuse MODELS=a,b,c`: checkpoints of one architecture fused into one base model like any other."""

from __future__ import annotations

import dataclasses
import time
from pathlib import Path

import pyarrow as pa
import yaml

from ray_app.commands.console import console, print_table
from ray_app.config import AppConfig, known_names, nearest
from ray_app.fusion.fuse import fuse_checkpoints
from ray_app.fusion.fused import Fused
from ray_app.fusion.fusing_run import fusion_identity, write_fusion_run
from ray_app.fusion.held_out import HeldOut
from ray_app.fusion.settings import FusionConfig, Rule
from ray_app.hub.checkpoints import Checkpoint
from ray_app.hub.digests import folder_revision
from ray_app.hub.tasks import SplitCaps
from ray_app.sweeps.materials import TaskShelf, require_all
from ray_app.sweeps.naming import OWN, fused_folder, named_model
from ray_app.sweeps.progress import spell_time
from ray_app.sweeps.session import SweepSession, check_folder
from tracking.cells import digest
from tracking.errors import ConfigError, InputError, StoreError
from tracking.names import file_name
from tracking.records import write_atomically
from tracking.store import exclusive_writer

OK, SOME_LEFT_OUT, INFRASTRUCTURE = 0, 1, 3
_FEW_ROWS = 8
"""Rows of the splits that an estimate does not look at."""


def run(config: AppConfig) -> int:
    """Fuse, say what is in it, write its candidate list and MLflow run; returns the exit code.

    Raises:
        ConfigError: fewer than two models, or settings that do not fit them.
        CheckpointError: the models cannot be fused.
    """
    if not config.fuse.models:
        raise ConfigError("fuse.models: none given; name two models at least, MODELS=org/a,./b,startline/c")
    if _is_soup(config.fuse.fusion):
        _check_task(config.task)
    check_folder(config.out, min_free_bytes=int(config.cluster.min_free_gb * 1e9))
    with exclusive_writer(config.out):
        return _Fusing(config).run()


class _Fusing:
    """One invocation."""

    def __init__(self, config: AppConfig) -> None:
        self.config = config
        self.started = time.perf_counter()
        self.session = SweepSession(config, console=console)

    def run(self) -> int:
        """Everything in order; a dry run stops after the plan."""
        self.pretrained, self.models = self._find(self.session.open())
        self._print_plan()
        if self.config.dry:
            return OK
        fusion = self._fusion()
        soup = self.config.task if _is_soup(fusion) else None
        identity = fusion_identity(fusion, self.models, self.pretrained, held_out=soup)
        request = self.config.fuse
        plain = request.name or f"{file_name(self.config.arch.name)}-{fusion.rule.value}-{digest(identity)[:8]}"
        fused = fuse_checkpoints(
            fusion,
            {text: model.path for text, model in self.models.items()},
            fused_folder(self.config.out, plain),
            pretrained=self.pretrained.path,
            score=HeldOut(self.session, soup).score if soup else None,
            revisions={text: model.revision for text, model in self.models.items()},
            pretrained_name=self.pretrained.model_id,
        )
        revision = folder_revision(fused.folder, cache_dir=self.session.cache)
        listed = self._write_candidates(fused, OWN + plain)
        self._print(fused, OWN + plain, revision, listed)
        try:
            write_fusion_run(
                self.session.store, fused, identity, name=OWN + plain, revision=revision, tags=self.session.tags
            )
        except StoreError as error:
            console.print(f"the model is there and its run is not in MLflow: {error.message}", markup=False)
            return INFRASTRUCTURE
        # what a soup does without has a score, and is no loss
        return SOME_LEFT_OUT if any(text not in fused.scores for text in fused.left_out) else OK

    def _find(self, table: pa.Table) -> tuple[Checkpoint, dict[str, Checkpoint]]:
        """The pretrained model and the models, found and checked; everything that is missing is named at once."""
        session, config = self.session, self.config
        refs = {
            text: named_model(text, table, out=config.out, storage=session.storage, seeds=config.seeds)
            for text in config.fuse.models
        }
        ids = [ref.id for ref in refs.values()]
        same = sorted({name for name in ids if ids.count(name) > 1})
        if same:
            raise ConfigError(
                [f"fuse.models: two of them are called {name}; name it once, or rename a folder" for name in same]
            )
        shelf = TaskShelf({}, mirror=session.mirror, cache=session.cache, offline=config.offline)
        found, _ = require_all(
            list({ref.id: ref for ref in [config.arch.pretrained, *refs.values()]}.values()),
            [],
            shelf,
            model_types=config.arch.model_types,
            min_free_bytes=int(config.cluster.min_free_gb * 1e9),
        )
        return found[config.arch.pretrained.id], {text: found[ref.id] for text, ref in refs.items()}

    def _fusion(self) -> FusionConfig:
        """The rule with what was given in the order of the models by their names."""
        request = self.config.fuse
        weights = dict(zip(request.models, request.weights, strict=True)) if request.weights else {}
        fisher: dict[str, Path] = {}
        if request.fusion.rule is Rule.FISHER:
            given = request.fisher * len(request.models) if len(request.fisher) == 1 else request.fisher
            fisher = {text: self._fisher(text, one) for text, one in zip(request.models, given, strict=True)}
        return dataclasses.replace(request.fusion, weights=weights, fisher=fisher)

    def _fisher(self, text: str, given: str) -> Path:
        """A file, or an estimate on a task, kept for the next time."""
        if given.endswith(".safetensors"):
            if not Path(given).expanduser().is_file():
                raise InputError(f"there is no file {given}, expected the Fisher of {text}; check FISHER", path=given)
            return Path(given).expanduser()
        _check_task(given, "fuse.fisher")
        from ray_app.fusion.fisher_estimate import estimate_fisher, save_fisher

        model, request = self.models[text], self.config.fuse
        rows, seed = request.fisher_rows, request.fusion.seed
        caps = SplitCaps(train=rows, validation=_FEW_ROWS, test=_FEW_ROWS)
        task = HeldOut(self.session, given, caps=caps).encoded(model.path)
        name = digest([model.revision, task.folder.name, rows, seed])
        path = self.session.cache / "fisher" / f"{given}-{name}.safetensors"
        if not path.is_file():
            console.print(f"estimating the Fisher of {text} on {given}", markup=False)
            family = self.config.arch.family
            save_fisher(estimate_fisher(model.path, task, family=family, rows=rows, seed=seed), path)
        return path

    def _write_candidates(self, fused: Fused, name: str) -> Path:
        """The fused model as a candidate list of one."""
        arch, path = self.config.arch.name, fused.folder.with_name(f"{fused.folder.name}.yaml")
        head = (
            f"# make probe ARCH={arch} CANDIDATES={path.stem}, after cp {path} conf/candidates/\n"
            "# Source: make fuse; the model stays where its path says.\n"
        )
        listed = {"name": path.stem, "source": "make fuse", "models": [{"id": name, "path": str(fused.folder)}]}
        write_atomically(path, (head + yaml.safe_dump(listed, sort_keys=False, width=200)).encode())
        return path

    def _print_plan(self) -> None:
        request = self.config.fuse
        size = sum(model.size_bytes for model in self.models.values())
        console.print(
            f"{self.config.arch.name}: {len(self.models)} models ({size / 1e6:,.0f} MB) fused by {request.fusion.rule.value}: "
            f"{', '.join(self.models)}",
            markup=False,
            highlight=False,
        )

    def _print(self, fused: Fused, name: str, revision: str, listed: Path) -> None:
        lines = [
            [text, f"{fused.weights[text]:.4g}", _score(fused, text), self.models[text].revision] for text in fused.used
        ]
        print_table(f"{name}", ["source", "weight", "held out", "revision"], lines, left=1)
        for text, reason in fused.left_out.items():
            console.print(f"left out: {text}: {reason}", markup=False, highlight=False)
        if fused.score is not None:
            console.print(f"held-out score on {self.config.task}: {100 * fused.score:.2f}", highlight=False)
        console.print(
            f"{fused.n_parameters:,} parameters in {fused.n_tensors} tensors fused in {fused.wall_s:.2f} s of "
            f"{spell_time(time.perf_counter() - self.started)}; {len(fused.dropped)} tensors not fused (heads, parts that a source lacks)\n"
            f"written: {fused.folder} ({revision}), {listed}. To use it: MODEL={name}, or cp {listed} conf/candidates/ and "
            f"CANDIDATES={listed.stem}",
            markup=False,
            highlight=False,
        )


def _check_task(task: str | None, where: str = "task") -> None:
    known = known_names("task")
    if task is None:
        raise ConfigError(
            f"{where}: greedy_soup needs a task to score soups on; name one that no model was trained on, TASK=rte"
        )
    if task not in known:
        raise ConfigError(f"{where}: there is no task {task!r}{nearest(task, known)}")


def _is_soup(fusion: FusionConfig) -> bool:
    return fusion.rule is Rule.GREEDY_SOUP


def _score(fused: Fused, text: str) -> str:
    return f"{100 * fused.scores[text]:.2f}" if text in fused.scores else ""
