"""Every MLflow name and every result column, once.

Identity of a run is in its params, its state in tags, what was measured in metrics. A literal of such a name in any other
file fails tests/unit/test_architecture.py. The result table (MLflow runs -> one Arrow table -> Parquet) is described column
by column below; the reader, the validation and docs/results.md are made from that description.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum

import pyarrow as pa

PREFIX = "startline"
SCHEMA_VERSION = 1
"""Version of the stored result table; files of every old version in tests/golden must load for ever."""


class Kind(StrEnum):
    """What a run is (tag ``startline.kind``)."""

    CELL = "cell"
    SWEEP = "sweep"
    BASE = "base"
    PUBLISHED = "published"
    FUSION = "fusion"
    SELECTION = "selection"
    ANALYSIS = "analysis"


class State(StrEnum):
    """State of an attempt at a cell (tag ``startline.state``)."""

    COMPLETE = "complete"
    DIVERGED = "diverged"
    """Loss or weights became non-finite; scored by what the model then predicts, so it is a result."""
    FAILED = "failed"


SCORED_STATES = (State.COMPLETE, State.DIVERGED)


class Method(StrEnum):
    """How a base model was tried on a task (param ``method``)."""

    FINETUNE = "finetune"
    PROBE = "probe"


class Tag:
    """Tags: the state of a run."""

    KIND = f"{PREFIX}.kind"
    KEY = f"{PREFIX}.key"
    ATTEMPT = f"{PREFIX}.attempt"
    STATE = f"{PREFIX}.state"
    COMPLETE = f"{PREFIX}.complete"
    """Written with the last metrics; a run without it, or without an end, is half-written and is redone."""
    BASELINE = f"{PREFIX}.baseline"
    """'true' on cells of the pretrained model, which gains are measured against."""
    WRITER = f"{PREFIX}.writer"
    """Which of the writers that share a store wrote it (one an output folder)."""
    SWEEP = f"{PREFIX}.sweep"
    ROLE = f"{PREFIX}.role"
    """'target' for cells that are ranked, 'source' for cells that only make a base model, 'held_out' for probes that a loop of
    fusion decides by."""
    FAILED_STAGE = f"{PREFIX}.failed_stage"
    REASON = f"{PREFIX}.reason"
    NODE = f"{PREFIX}.node"
    COMMIT = f"{PREFIX}.git_commit"
    ENVIRONMENT = f"{PREFIX}.environment"
    CLASS_COUNTS = f"{PREFIX}.class_counts"
    """JSON: per class name [true, predicted, correct] on the test set."""
    CURVE = f"{PREFIX}.curve"
    """JSON: [[training examples seen, validation score], ...] (its full history is in the metrics)."""
    MODEL_LICENCE = f"{PREFIX}.model_licence"
    TASK_LICENCE = f"{PREFIX}.task_licence"
    SOURCE_FILE = f"{PREFIX}.source_file"
    SOURCE_SHA256 = f"{PREFIX}.source_sha256"
    SOURCE_ROW = f"{PREFIX}.source_row"
    """Line of the source file on which the row begins; the header is line 1."""
    SOURCE_COLUMN = f"{PREFIX}.source."
    """Prefix: any other column of the source file (metadata of a published model)."""
    CHECKPOINT = f"{PREFIX}.checkpoint"
    """Folder of the finetuned model, where the cell kept it."""
    LEFT_OUT = f"{PREFIX}.left_out"
    """JSON of a fused model: source that is not in it -> why."""
    CONTRIBUTIONS = f"{PREFIX}.contributions"
    """JSON of an iteration of a loop of fusion: [[task, key of its cell, what became of it, share], ...]."""
    PARENT = f"{PREFIX}.parent"
    """Revision of the base model that an iteration began with."""


class ModelTag:
    """Tags of a version in the model registry: what was known of the base model when it was registered; gains in points."""

    ARCH = f"{PREFIX}.arch"
    PRETRAINED = f"{PREFIX}.pretrained"
    BASE_MODEL = f"{PREFIX}.base_model"
    BASE_REVISION = f"{PREFIX}.base_revision"
    SETTINGS = f"{PREFIX}.settings"
    RANK = f"{PREFIX}.rank"
    N_RANKED = f"{PREFIX}.n_ranked"
    N_TASKS = f"{PREFIX}.n_tasks"
    GAIN = f"{PREFIX}.avg_gain"
    GAIN_SE = f"{PREFIX}.avg_gain_se"
    GAIN_LOW = f"{PREFIX}.gain_low"
    GAIN_HIGH = f"{PREFIX}.gain_high"
    GAIN_SHRUNKEN = f"{PREFIX}.gain_shrunken"
    P_ADJUSTED = f"{PREFIX}.p_adjusted"
    VERDICT = f"{PREFIX}.verdict"
    TRAINED_ON = f"{PREFIX}.trained_on"
    """Tasks it was finetuned on before, where that is known."""
    SOURCE_RUNS = f"{PREFIX}.source_runs"
    """MLflow runs that made the base model."""
    FORCED = f"{PREFIX}.forced"
    """'true' where it was registered although it is not significantly better than the pretrained model."""


class Param:
    """Params: the identity of a cell."""

    ARCH = "arch"
    BASE_MODEL = "base_model"
    BASE_REVISION = "base_revision"
    TASK = "task"
    TASK_REVISION = "task_revision"
    SPLIT_RULE = "split_rule"
    METRIC = "metric"
    METHOD = "method"
    SEED = "seed"
    RECIPE = "recipe"
    SETTINGS = "settings"
    """16 hex of everything besides base model, task and seed: cells with equal settings may be compared."""
    SERIES = "series"
    """16 hex of the settings but the cap on training rows: cells that differ in nothing but the size of the training set."""
    SET = "set"
    """Which part of the cells an analysis run is about."""
    CAP = "cap."
    """Prefix of the caps on rows, by split; 'None' where there is none."""
    VARIANT = "variant"
    """Way in which a loop of fusion is run."""
    RULE = "rule"
    """Rule of fusing."""
    SOURCES = "sources"
    """JSON of a fused model: [[source, its revision, weight], ...]."""
    ITERATION = "iteration"
    """Number of an iteration of a loop of fusion, from 1."""
    HYPERPARAMETER = "hp."
    """Prefix of every hyperparameter."""


class Metric:
    """Metrics: what was measured."""

    SCORE = "score"
    N_CORRECT = "n_correct"
    N_EVAL = "n_eval"
    N_TRAIN = "n_train"
    N_INVALID = "n_invalid"
    VALIDATION_SCORE = "validation_score"
    VALIDATION_LOSS = "validation_loss"
    BEST_VALIDATION_SCORE = "best_validation_score"
    EXAMPLES_SEEN = "examples_seen"
    TRAIN_EXAMPLES_PER_S = "train_examples_per_s"
    WALL_S = "wall_s"
    TRAIN_S = "train_s"
    VALIDATE_S = "validate_s"
    TEST_S = "test_s"
    LOAD_S = "load_s"
    PEAK_MEM_BYTES = "peak_mem_bytes"
    FORWARD_S = "forward_s"
    """Seconds of the forward passes behind a probe, whenever they were made."""
    L2 = "l2"
    """Penalty of the probe's head that validated best."""
    UPLOADED_MS = "uploaded_ms"
    """When the run was written to MLflow, ms since epoch by the writer's clock, never earlier than what it wrote before."""
    AVG_SCORE = "avg_score"
    AVG_GAIN = "avg_gain"
    AVG_GAIN_SE = "avg_gain_se"
    RANK = "rank"
    N_TASKS = "n_tasks"
    N_CELLS = "n_cells"
    PROBE_MNLI = "probe_mnli"
    """Linear-probe score on MNLI of a published model."""
    EPOCHS_SPENT = "epochs_spent"
    """Epochs of a selection, half of one for each candidate that a transferability score was computed of."""
    EPOCHS_BRUTE_FORCE = "epochs_brute_force"
    EPOCHS_SUCCESSIVE_HALVING = "epochs_successive_halving"
    N_CANDIDATES = "n_candidates"
    TASK_SCORE = "score."
    """Prefix: score on one task (published and base runs)."""
    TASK_GAIN = "gain."
    """Prefix: gain on one task in points (base runs)."""
    N_CONTRIBUTIONS = "n_contributions"
    """Contributions that an iteration of a loop of fusion asked for."""
    N_USED = "n_used"
    """Those of them that are in its base model."""
    ACCEPTED = "accepted"
    """1 where the update was taken, 0 where it was refused."""
    PROBE_BEFORE = "held_out_before"
    PROBE_AFTER = "held_out_after"
    """Mean held-out score of the base model before an iteration, and of its update."""
    WAITED_S = "waited_s"
    """Seconds from asking for contributions to having them."""
    FUSE_S = "fuse_s"
    N_PARAMETERS = "n_parameters"
    BYTES_READ = "bytes_read"
    CLASS = "class."
    ANALYSIS = "analysis."
    """Prefix: a number of `make analyze` (analysis runs)."""


class Unit(StrEnum):
    """Unit of a result column."""

    NONE = ""
    FRACTION = "fraction"
    POINTS = "points"
    COUNT = "count"
    SECONDS = "s"
    BYTES = "bytes"
    EXAMPLES = "examples"
    PER_SECOND = "examples/s"
    MILLISECONDS = "ms since epoch"


@dataclass(frozen=True)
class Column:
    """One column of the result table."""

    name: str
    type: pa.DataType
    source: str
    """Where it comes from: 'param X', 'metric X', 'tag X' or 'run'."""
    text: str
    unit: Unit = Unit.NONE
    direction: str = ""
    """'higher' or 'lower' is better; empty where there is no better."""
    required: bool = False


def _param(name: str, text: str, *, kind: pa.DataType | None = None, required: bool = False) -> Column:
    return Column(name, kind or pa.string(), f"param {name}", text, required=required)


CELL_COLUMNS: tuple[Column, ...] = (
    Column("run_id", pa.string(), "run", "MLflow run", required=True),
    Column("kind", pa.string(), f"tag {Tag.KIND}", "cell (own run) or published (imported)", required=True),
    Column("key", pa.string(), f"tag {Tag.KEY}", "identity of the cell, 16 hex", required=True),
    Column("attempt", pa.string(), f"tag {Tag.ATTEMPT}", "which attempt at the cell wrote this row", required=True),
    Column("state", pa.string(), f"tag {Tag.STATE}", "complete, diverged (both scored) or failed", required=True),
    Column("baseline", pa.string(), f"tag {Tag.BASELINE}", "'true': a cell of the pretrained model"),
    Column("source_row", pa.int64(), f"tag {Tag.SOURCE_ROW}", "line of the published file (the header is line 1)"),
    Column("role", pa.string(), f"tag {Tag.ROLE}", "target, source (made a base model), or held_out"),
    Column("sweep", pa.string(), f"tag {Tag.SWEEP}", "sweep that ran it"),
    Column("failed_stage", pa.string(), f"tag {Tag.FAILED_STAGE}", "stage at which it failed"),
    Column("reason", pa.string(), f"tag {Tag.REASON}", "why it failed"),
    Column("class_counts", pa.string(), f"tag {Tag.CLASS_COUNTS}", "JSON: class -> [true, predicted, correct]"),
    Column("curve", pa.string(), f"tag {Tag.CURVE}", "JSON: [[examples seen, validation score], ...]"),
    Column("checkpoint", pa.string(), f"tag {Tag.CHECKPOINT}", "folder of the finetuned model, where kept"),
    _param(Param.ARCH, "architecture", required=True),
    _param(Param.BASE_MODEL, "base model", required=True),
    _param(Param.BASE_REVISION, "its revision"),
    _param(Param.TASK, "task", required=True),
    _param(Param.TASK_REVISION, "revision of the data"),
    _param(Param.SPLIT_RULE, "split rule"),
    _param(Param.METRIC, "accuracy or spearman"),
    _param(Param.METHOD, "finetune or probe", required=True),
    _param(Param.SEED, "seed", kind=pa.int64()),
    _param(Param.RECIPE, "version of the code's recipe"),
    _param(Param.SETTINGS, "hash of all settings besides base model, task and seed"),
    _param(Param.SERIES, "hash of all settings but the cap on training rows"),
    Column("cap_train", pa.int64(), f"param {Param.CAP}train", "most training rows; null: all", Unit.EXAMPLES),
    Column("n_train", pa.int64(), f"metric {Metric.N_TRAIN}", "rows of the training set", Unit.EXAMPLES),
    Column("score", pa.float64(), f"metric {Metric.SCORE}", "score on the test set", Unit.FRACTION, "higher"),
    Column(
        "n_correct", pa.int64(), f"metric {Metric.N_CORRECT}", "right answers on the test set", Unit.COUNT, "higher"
    ),
    Column("n_eval", pa.int64(), f"metric {Metric.N_EVAL}", "rows of the test set", Unit.COUNT),
    Column(
        "n_invalid",
        pa.int64(),
        f"metric {Metric.N_INVALID}",
        "generated answers that are no label",
        Unit.COUNT,
        "lower",
    ),
    Column(
        "best_validation_score",
        pa.float64(),
        f"metric {Metric.BEST_VALIDATION_SCORE}",
        "score of the weights that were tested, on the validation set",
        Unit.FRACTION,
        "higher",
    ),
    Column("examples_seen", pa.int64(), f"metric {Metric.EXAMPLES_SEEN}", "training examples used", Unit.EXAMPLES),
    Column("wall_s", pa.float64(), f"metric {Metric.WALL_S}", "time of the cell, all attempts", Unit.SECONDS, "lower"),
    Column("train_s", pa.float64(), f"metric {Metric.TRAIN_S}", "time in training steps", Unit.SECONDS, "lower"),
    Column(
        "train_examples_per_s",
        pa.float64(),
        f"metric {Metric.TRAIN_EXAMPLES_PER_S}",
        "training throughput",
        Unit.PER_SECOND,
        "higher",
    ),
    Column("peak_mem_bytes", pa.int64(), f"metric {Metric.PEAK_MEM_BYTES}", "peak memory", Unit.BYTES, "lower"),
    Column("uploaded_ms", pa.int64(), f"metric {Metric.UPLOADED_MS}", "when it was uploaded", Unit.MILLISECONDS),
    Column("end_time_ms", pa.int64(), "run", "end of the run", Unit.MILLISECONDS, required=True),
)


def cell_schema() -> pa.Schema:
    """Arrow schema of the result table, its version in the metadata."""
    fields = [pa.field(column.name, column.type, nullable=not column.required) for column in CELL_COLUMNS]
    return pa.schema(fields, metadata={f"{PREFIX}.schema_version": str(SCHEMA_VERSION)})


def experiment_name(arch: str) -> str:
    """MLflow experiment of an architecture: ``startline/<arch>``."""
    return f"{PREFIX}/{arch}"


_UNSAFE = re.compile(r"[^A-Za-z0-9_\-. /]")


def metric_name(prefix: str, name: str) -> str:
    """MLflow metric for a named thing (task, class): characters MLflow refuses become '_'."""
    return prefix + _UNSAFE.sub("_", name)
