"""Storing a finetune between two steps and taking it up again, bit for bit; no pickle.

A checkpoint is a folder: ``tensors.safetensors`` (weights, AdamW moments, best weights) and ``state.json`` with the digest of
the tensors' file. It is made under a temporary name, flushed to disk and renamed; all others are removed afterwards. A
damaged one is told apart by its digest and left aside: training then starts from another one, if a crash left it there, or
from the beginning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ray_app.training.finetune import Finetuning
from ray_app.training.models import distinct_tensors
from ray_app.training.progress import CurvePoint, Progress, Seconds
from tracking.errors import StorageError

logger = logging.getLogger(__name__)

_TENSORS, _STATE = "tensors.safetensors", "state.json"


def save_checkpoint(run: Finetuning, folder: Path) -> Path:
    """Store ``run`` under ``folder``; returns the checkpoint's own folder. All others there are removed.

    Raises:
        StorageError: disk full or folder unwritable; the checkpoints that were there stay.
    """
    target = folder / f"step-{run.progress.step:08d}-{len(run.progress.curve):05d}"
    temporary = folder / f".{target.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        temporary.mkdir(parents=True)
        save_file(_tensors(run), temporary / _TENSORS)
        state = {"progress": asdict(run.progress), "sha256": _sha256(temporary / _TENSORS)}
        (temporary / _STATE).write_text(json.dumps(state))
        for name in (_TENSORS, _STATE):
            _flush(temporary / name)
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
    except (OSError, SafetensorError) as error:
        raise StorageError(
            f"cannot write the checkpoint {target} ({error}); free space or choose another folder", path=str(target)
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for other in folder.glob("step-*"):
        if other != target:  # also one of a later step: it was damaged, or this would have gone on from it
            shutil.rmtree(other, ignore_errors=True)
    return target


def load_checkpoint(run: Finetuning, folder: Path) -> bool:
    """Put ``run`` where the newest whole checkpoint under ``folder`` left off; False, and ``run`` untouched, without one."""
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        try:
            state = json.loads((candidate / _STATE).read_text())
            if state["sha256"] != _sha256(candidate / _TENSORS):
                raise ValueError("its tensors do not have the digest noted with them")
            progress = _read_progress(state["progress"])
            tensors = _read_tensors(candidate / _TENSORS)
            _check(run, tensors)
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            logger.warning("checkpoint %s left aside: %s", candidate, error)
            continue
        _restore(run, tensors, progress)
        return True
    return False


def discard_checkpoints(folder: Path) -> None:
    """Remove what a finished cell no longer needs."""
    shutil.rmtree(folder, ignore_errors=True)


def _tensors(run: Finetuning) -> dict[str, torch.Tensor]:
    """Everything to store, by '<kind>/<name>': model, best, and optimizer.<slot>."""
    tensors = {f"model/{name}": tensor.cpu() for name, tensor in distinct_tensors(run.model).items()}
    tensors |= {f"best/{name}": tensor for name, tensor in run.best_weights.items()}
    for name, parameter in run.model.named_parameters():
        for slot, value in run.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer.{slot}/{name}"] = value.detach().cpu()
    return {name: tensor.contiguous() for name, tensor in tensors.items()}


def _read_tensors(path: Path) -> dict[str, dict[str, torch.Tensor]]:
    """Stored tensors by kind, then by name."""
    found: dict[str, dict[str, torch.Tensor]] = defaultdict(dict)
    with safe_open(path, framework="pt") as file:
        for key in file.keys():  # noqa: SIM118 - not a dict
            kind, _, name = key.partition("/")
            found[kind][name] = file.get_tensor(key)
    return found


def _read_progress(stored: dict[str, Any]) -> Progress:
    curve = [CurvePoint(**point) for point in stored["curve"]]
    return Progress(**{**stored, "curve": curve, "seconds": Seconds(**stored["seconds"])})


def _check(run: Finetuning, tensors: dict[str, dict[str, torch.Tensor]]) -> None:
    """Refuse tensors of another model before anything is changed."""
    shapes = {name: tensor.shape for name, tensor in distinct_tensors(run.model).items()}
    for kind in ("model", "best"):
        if (kind == "model" or kind in tensors) and {n: t.shape for n, t in tensors[kind].items()} != shapes:
            raise ValueError(f"its {kind} weights are not those of this model")


def _restore(run: Finetuning, tensors: dict[str, dict[str, torch.Tensor]], progress: Progress) -> None:
    run.model.load_state_dict(tensors["model"], strict=False)  # tied weights have one name here
    run.best_weights = dict(tensors.get("best", {}))
    for name, parameter in run.model.named_parameters():
        slots = {
            kind.removeprefix("optimizer."): held[name].to(parameter.device)
            for kind, held in tensors.items()
            if kind.startswith("optimizer.") and name in held
        }
        if slots:
            run.optimizer.state[parameter] = slots
    run.progress = progress


def _flush(path: Path) -> None:
    """Make sure that a file is on disk before it gets its name."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
