"""Makes the embedded default: a folder with a pretrained model and tasks, that the app reads like any other mirror."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from ray_app.embedded.config import EmbeddedConfig
from ray_app.embedded.corpus import Passage, build_corpus, library_versions, read_corpus, write_corpus
from ray_app.embedded.pretrain import PretrainReport, pretrain
from ray_app.embedded.split import Part, split_corpus
from ray_app.embedded.tasks import TASKS, EmbeddedTask, Row, make_rows
from ray_app.embedded.tokenizer import train_tokenizer
from tracking.errors import ConfigError, InputError

MODEL_ID = "startline/embedded-base"
"""Id of the pretrained model in the mirror."""
CORPUS = "corpus.parquet"
"""The text that everything was made from, with its provenance."""
MANIFEST = "embedded.json"
"""Written last; says what the folder holds and what it was made from."""
RECIPE = "1"
"""Version of this code; raised whenever the same config would make something else."""
_TRAINED_ON = (Part.SOURCE_TRAIN, Part.TARGET_TRAIN)


@dataclass(frozen=True, kw_only=True)
class EmbeddedMirror:
    """What was made, and how long it took."""

    folder: Path
    """The mirror: holds tasks/ and models/."""
    key: str
    """Hash of the config, the library versions and the recipe."""
    model_id: str
    """Id of the pretrained model."""
    source_tasks: tuple[str, ...]
    target_tasks: tuple[str, ...]
    heldout_loss: float
    """Masked-token cross-entropy on text not trained on, nats a token."""
    unigram_loss: float
    """The same without context, nats a token."""
    seconds: dict[str, float]
    """Wall seconds of each step when it was made."""
    made: bool
    """False where the folder was there already."""


def make_embedded_mirror(folder: Path, config: EmbeddedConfig, progress: Callable[[str], None]) -> EmbeddedMirror:
    """The mirror in ``folder``: the one there if it was made from the same config and libraries, else a new one in its place.

    It is made under a temporary name beside ``folder`` and renamed when whole, so that an interrupted making leaves nothing
    half done: the next call starts anew. Two callers at once: the second waits for the first.

    Args:
        folder: absent, or made by this function before; its parent need not exist.
        config: sizes.
        progress: gets one line of text now and then.

    Raises:
        ConfigError: a value of ``config`` is wrong.
        InputError: a library is missing, the text is too little, or ``folder`` holds something else.

    Cost: see docs/embedded.md.
    """
    from filelock import FileLock

    faults = config.faults()
    if faults:
        raise ConfigError([f"embedded.{fault}" for fault in faults])
    key = mirror_key(config)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_name(f".{folder.name}.lock")):
        present = read_embedded_mirror(folder)
        if present is not None and present.key == key:
            return present
        if present is None and folder.exists() and any(folder.iterdir()):
            raise InputError(
                f"{folder} holds files that are no embedded mirror; name another folder, or empty this one",
                folder=folder,
            )
        fresh = folder.with_name(f".{folder.name}.partial")
        shutil.rmtree(fresh, ignore_errors=True)
        _make(fresh, config, key=key, older=folder, progress=progress)
        _put_in_place(fresh, folder)
    made = read_embedded_mirror(folder)
    if made is None:
        raise InputError(f"{folder} was changed by somebody else while it was made; run it again", folder=folder)
    return EmbeddedMirror(**{**made.__dict__, "made": True})


def mirror_key(config: EmbeddedConfig) -> str:
    """Hash of everything that decides the content: config, versions of the libraries read and used, recipe (16 hex digits)."""
    stated = {
        "recipe": RECIPE,
        "config": asdict(config),
        "read": library_versions(config.libraries),
        "used": {name: importlib.metadata.version(name) for name in ("torch", "transformers", "tokenizers", "numpy")},
    }
    return hashlib.sha256(json.dumps(stated, sort_keys=True).encode()).hexdigest()[:16]


def read_embedded_mirror(folder: Path) -> EmbeddedMirror | None:
    """What an embedded mirror holds, or None where the folder is no whole one."""
    try:
        stated = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
        return EmbeddedMirror(
            folder=folder,
            key=stated["key"],
            model_id=stated["model_id"],
            source_tasks=tuple(stated["source_tasks"]),
            target_tasks=tuple(stated["target_tasks"]),
            heldout_loss=stated["pretraining"]["heldout_loss"],
            unigram_loss=stated["pretraining"]["unigram_loss"],
            seconds=stated["seconds"],
            made=False,
        )
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _make(folder: Path, config: EmbeddedConfig, *, key: str, older: Path, progress: Callable[[str], None]) -> None:
    folder.mkdir(parents=True)
    seconds: dict[str, float] = {}
    started = time.perf_counter()
    corpus = _corpus(folder, config, older=older, progress=progress)
    parts = split_corpus(corpus, seed=config.seed)
    seconds["corpus"] = time.perf_counter() - started

    started = time.perf_counter()
    for task in TASKS.values():
        write_task(folder / "tasks" / task.name, task, parts, config)
    seconds["tasks"] = time.perf_counter() - started
    progress(f"wrote {len(TASKS)} tasks")

    started = time.perf_counter()
    model_folder = folder / "models" / MODEL_ID
    texts = [" ".join(passage.sentences) for part in _TRAINED_ON for passage in parts[part]]
    heldout = [" ".join(passage.sentences) for passage in parts[Part.SOURCE_VALIDATION]]
    train_tokenizer(texts, vocab_size=config.vocab_size, max_tokens=config.max_positions, folder=model_folder)
    seconds["tokenizer"] = time.perf_counter() - started

    report = pretrain(texts, heldout, config, folder=model_folder, progress=progress)
    seconds["pretraining"] = report.train_s
    (model_folder / "README.md").write_text(model_card(config, report), encoding="utf-8")
    manifest = {
        "key": key,
        "config": asdict(config),
        "libraries": library_versions(config.libraries),
        "model_id": MODEL_ID,
        "source_tasks": [task.name for task in TASKS.values() if task.role == "source"],
        "target_tasks": [task.name for task in TASKS.values() if task.role == "target"],
        "pretraining": asdict(report),
        "corpus": _counts(corpus),
        "seconds": {name: round(value, 2) for name, value in seconds.items()},
    }
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def _corpus(folder: Path, config: EmbeddedConfig, *, older: Path, progress: Callable[[str], None]) -> list[Passage]:
    """The corpus, written to ``folder``: that of the older mirror where it was made from the same, else a new one."""
    stated = {"recipe": RECIPE, "read": library_versions(config.libraries), "max_bytes": config.max_bytes}
    key = json.dumps(stated)
    corpus = read_corpus(older / CORPUS, key=key)
    if corpus is None:
        progress(f"reading docstrings of {', '.join(config.libraries)}")
        corpus = build_corpus(max_bytes=config.max_bytes, libraries=config.libraries)
    write_corpus(corpus, folder / CORPUS, key=key)
    return corpus


def write_task(folder: Path, task: EmbeddedTask, parts: dict[Part, list[Passage]], config: EmbeddedConfig) -> None:
    """Write train, validation and test of one task as Parquet, with the class names in the schema as ``datasets`` has them."""
    folder.mkdir(parents=True)
    for part, passages in parts.items():
        if part.role == task.role:
            pq.write_table(_table(task, make_rows(task, part, passages, config)), folder / f"{part.split}.parquet")


def model_card(config: EmbeddedConfig, report: PretrainReport) -> str:
    """README.md of the pretrained model."""
    return (
        f"# {MODEL_ID}\n\n"
        "A small BERT that Startline pretrained on this machine, from docstrings of the Python libraries installed here, so that\n"
        "a sweep can be tried without any network. It is no general-purpose model.\n\n"
        f"- shape: {config.layers} layers, width {config.hidden}, {config.heads} heads, {report.n_parameters:,} parameters\n"
        f"- text: prose of the docstrings of {', '.join(config.libraries)}: {report.n_tokens_corpus:,} tokens\n"
        f"- training: masked-language modelling, {config.steps} steps of {config.batch_rows} rows of {config.row_tokens} tokens, "
        f"seed {config.seed}\n"
        f"- masked-token cross-entropy on text not trained on: {report.heldout_loss:.2f} nats "
        f"(token frequencies alone: {report.unigram_loss:.2f})\n"
        "- licence: the text falls under the licences of the installed libraries; the model is not redistributed\n"
    )


def _table(task: EmbeddedTask, rows: list[Row]) -> pa.Table:
    columns: dict[str, Any] = {
        name: pa.array([texts[place] for texts, _ in rows], pa.string()) for place, name in enumerate(task.text_columns)
    }
    columns["label"] = pa.array([label for _, label in rows], pa.int64())
    features: dict[str, Any] = {name: {"dtype": "string", "_type": "Value"} for name in task.text_columns}
    features["label"] = {"names": list(task.label_names), "_type": "ClassLabel"}
    return pa.table(columns).replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})


def _counts(corpus: list[Passage]) -> dict[str, int]:
    return {
        "passages": len(corpus),
        "sentences": sum(len(passage.sentences) for passage in corpus),
        "bytes": sum(len(sentence) for passage in corpus for sentence in passage.sentences),
        "modules": len({(passage.library, passage.module) for passage in corpus}),
    }


def _put_in_place(fresh: Path, folder: Path) -> None:
    """Rename ``fresh`` to ``folder``; what stood there (an older embedded mirror, or an empty folder) goes."""
    old = folder.with_name(f".{folder.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    fresh.replace(folder)
    shutil.rmtree(old, ignore_errors=True)
