"""`make assess MODEL=...`: what a linear probe alone says of a new base model, before any finetune."""

from __future__ import annotations

import dataclasses
import json
import math

import pyarrow as pa
import pyarrow.compute as pc

from analysis.new_model import ModelExpectation, expect_model, model_as_plain
from analysis.noise import POINTS
from analysis.report.analysis_json import finite
from analysis.study import GainStudy
from ray_app.commands.console import console
from ray_app.commands.probe import SITE_TASK, probe_bases
from ray_app.config import AppConfig, known_names
from ray_app.studies import load_study
from ray_app.sweeps.naming import named_model
from ray_app.sweeps.orders import Storage
from ray_app.sweeps.session import SweepSession, check_folder
from ray_app.sweeps.settings import CandidatesConfig
from tracking.errors import ConfigError, InputError, StartlineError, TableError
from tracking.names import file_name
from tracking.records import write_atomically
from tracking.schema import Method
from tracking.store import exclusive_writer
from tracking.table import read_table, scored_cells


def run(config: AppConfig) -> int:
    """Find or make the model's probe, print what to expect of it, write it as JSON; returns the exit code.

    Raises:
        ConfigError: MODEL is not given.
        TableError: nothing to compare with.
        InputError: the model has no probe score and none can be made.
    """
    if config.model is None:
        raise ConfigError("MODEL: not given; name the base model to assess, MODEL=org/name")
    study = load_study(config).study
    gain, origin = _probe_gain(config, config.model, study)
    found = expect_model(study, config.model, probe_gain=gain)
    if found.expected.reason:
        raise TableError(
            f"{study.arch}: no expectation from a probe: {found.expected.reason}; probe the ranked base models first "
            f"(make probe ARCH={study.arch})",
            arch=study.arch,
        )
    _print(found, study, origin)
    name = f"{file_name(study.arch)}-{file_name(config.model)}.json"
    path = config.out / "assess" / name
    plain = {"arch": study.arch, **model_as_plain(found), "probe_from": origin}
    write_atomically(path, json.dumps(finite(plain), indent=1, ensure_ascii=False, allow_nan=False).encode())
    console.print(f"written: {path}")
    return 0


def _probe_gain(config: AppConfig, model: str, study: GainStudy) -> tuple[float, str]:
    """The model's probe gain in points, and where it is from."""
    if config.probe_score is not None:
        if math.isnan(study.probe_pretrained):
            raise TableError(_no_reference(study), arch=study.arch)
        return config.probe_score - POINTS * study.probe_pretrained, "PROBE"
    if model in study.bases and math.isfinite(study.probe[study.bases.index(model)]):
        return float(study.probe[study.bases.index(model)]), "results"
    recorded = _recorded(config, model)
    if recorded is not None and math.isfinite(study.probe_pretrained):
        return POINTS * (recorded - study.probe_pretrained), "results"
    return _made_now(config, model), "probed now"


def _no_reference(study: GainStudy) -> str:
    return (
        f"the pretrained model of {study.arch} has no linear-probe score on {SITE_TASK}, so PROBE= cannot be held against it; "
        f"run make probe ARCH={study.arch}"
    )


def _recorded(config: AppConfig, model: str) -> float | None:
    """Mean score of probes that are in the results, of a model that was not finetuned."""
    cells = scored_cells(read_table(config.table_path))
    wanted = {"method": str(Method.PROBE), "task": SITE_TASK, "base_model": model}
    for column, value in wanted.items():
        cells = cells.filter(pc.equal(cells[column], pa.scalar(value)))
    return float(pc.mean(cells["score"]).as_py()) if cells.num_rows else None


def _made_now(config: AppConfig, model: str) -> float:
    """Probe the model and the pretrained one, and take the gain."""
    hint = "give the score of a probe made elsewhere, PROBE=<points>"
    if config.arch.name not in known_names("arch"):
        raise InputError(
            f"{model} has no linear-probe score on {SITE_TASK} in the results, and {config.arch.name} has no conf/arch YAML to probe "
            f"it with; {hint}",
            model=model,
        )
    ref = named_model(
        model, read_table(config.table_path), out=config.out, storage=Storage(root=config.storage), seeds=config.seeds
    )
    part = dataclasses.replace(config, candidates=CandidatesConfig(name="assess", models=[ref]))
    part.suite = dataclasses.replace(config.suite, tasks=[SITE_TASK], train_sizes=[])
    check_folder(config.out, min_free_bytes=int(config.cluster.min_free_gb * 1e9))
    try:
        with exclusive_writer(config.out):
            session = SweepSession(part, console=console)
            session.open()
            probing = probe_bases(session, session.plan(session.study(part, probe=True)))
    except StartlineError as error:
        if error.exit_code != InputError.exit_code:
            raise
        message = f"{model} has no linear-probe score on {SITE_TASK} and cannot be probed: {error.message}; {hint}"
        raise InputError(message, model=model) from error
    row = next((row for row in probing.rows if row.base_model == ref.id), None)
    if row is None or row.gain is None:
        reason = row.reason if row is not None else "it was not run"
        raise InputError(f"{model} cannot be probed on {SITE_TASK}: {reason}; {hint}", model=model)
    return row.gain


def _print(found: ModelExpectation, study: GainStudy, origin: str) -> None:
    expected = found.expected
    console.print(
        f"{found.model}: linear-probe gain on {SITE_TASK} {found.probe_gain:+.2f} points ({origin}), expected average gain over "
        f"{found.n_targets} targets {expected.mean:+.2f} points (95 % {expected.low:+.2f} to {expected.high:+.2f})"
    )
    console.print(
        f"it would rank {expected.rank} of {found.n_ranked + 1} ({expected.rank_best} to {expected.rank_worst}) among the base models "
        f"of {study.arch}"
    )
    console.print(f"reliability: {found.sentence}")
    if found.observed_rank:
        console.print(
            f"finetuned already: average gain {found.observed_gain:+.2f}, rank {found.observed_rank} of {found.n_ranked + 1}"
        )
