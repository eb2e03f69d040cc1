"""Storing a finetune between two steps and taking it up again, bit for bit; no pickle.

A checkpoint is a folder: ``tensors.safetensors`` (weights, AdamW moments, best weights) and ``state.json`` with the digest of
the tensors' file. It is made under a temporary name and renamed; the one before it is removed afterwards. A damaged one is
told apart by its digest and left aside: training then starts from the one before, or from the beginning.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ray_app.training.finetune import CurvePoint, Finetuning, Progress, Seconds

logger = logging.getLogger(__name__)

_TENSORS, _STATE = "tensors.safetensors", "state.json"


def save_checkpoint(run: Finetuning, folder: Path) -> Path:
    """Store ``run`` under ``folder``; returns the checkpoint's own folder. Older checkpoints there are removed."""
    target = folder / f"step-{run.progress.step:08d}-{len(run.progress.curve):05d}"
    temporary = folder / f".{target.name}.{os.getpid()}.tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        save_file(_tensors(run), temporary / _TENSORS)
        state = {"progress": asdict(run.progress), "sha256": _sha256(temporary / _TENSORS)}
        (temporary / _STATE).write_text(json.dumps(state))
        shutil.rmtree(target, ignore_errors=True)
        temporary.replace(target)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for older in sorted(folder.glob("step-*"))[:-1]:
        shutil.rmtree(older, ignore_errors=True)
    return target


def load_checkpoint(run: Finetuning, folder: Path) -> bool:
    """Put ``run`` where the newest whole checkpoint under ``folder`` left off; False when there is none."""
    for candidate in sorted(folder.glob("step-*"), reverse=True):
        try:
            state = json.loads((candidate / _STATE).read_text())
            if state["sha256"] != _sha256(candidate / _TENSORS):
                raise ValueError("its tensors do not have the digest noted with them")
            _restore(run, candidate / _TENSORS, state["progress"])
        except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
            logger.warning("checkpoint %s left aside: %s", candidate, error)
            continue
        return True
    return False


def discard_checkpoints(folder: Path) -> None:
    """Remove what a finished cell no longer needs."""
    shutil.rmtree(folder, ignore_errors=True)


def _tensors(run: Finetuning) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for name, tensor in run.model.state_dict().items():
        tensors[f"model/{name}"] = tensor.detach().cpu().clone()
    for name, parameter in run.model.named_parameters():
        for slot, value in run.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{slot}/{name}"] = torch.as_tensor(value).detach().cpu().clone()
    for name, tensor in run.best_weights.items():
        tensors[f"best/{name}"] = tensor.clone()
    return tensors


def _restore(run: Finetuning, path: Path, stored: dict[str, Any]) -> None:
    with safe_open(path, framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    weights = {name.removeprefix("model/"): tensor for name, tensor in tensors.items() if name.startswith("model/")}
    run.model.load_state_dict(weights)
    run.best_weights = {n.removeprefix("best/"): t for n, t in tensors.items() if n.startswith("best/")}
    for name, parameter in run.model.named_parameters():
        slots = {
            key.split("/", 2)[1]: tensors[key]
            for key in tensors
            if key.startswith("optimizer/") and key.split("/", 2)[2] == name
        }
        if slots:
            run.optimizer.state[parameter] = {
                slot: value.to(parameter.device) if slot != "step" else value for slot, value in slots.items()
            }
    run.progress = Progress(
        **{
            **stored,
            "curve": [CurvePoint(**point) for point in stored["curve"]],
            "seconds": Seconds(**stored["seconds"]),
        }
    )


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()
