"""Candidates from the hub: searched, filtered and looked into without fetching any weights.

The hub's list tells downloads, tags and dates; what passes these filters costs three small requests: the files of its main branch with
their sizes and SHA-256, its config.json, and the first kilobytes of its safetensors file, which name every tensor.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import huggingface_hub
from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

from ray_app.hub.client import HubClient
from ray_app.hub.model_files import VISION_TYPES, VOCABULARY_FILES
from ray_app.hub.model_folder import check_architecture, embedding_rows, parse_config
from ray_app.hub.refusals import RepoKind
from ray_app.hub.safetensors_header import (
    INDEX_NAME,
    LENGTH_BYTES,
    SINGLE_NAME,
    Weights,
    header_size,
    no_safetensors,
    parse_header,
    shard_names,
)
from ray_app.hub.search_settings import SearchConfig
from tracking.errors import CheckpointError, StartlineError

_SHAPE_KEYS = {
    "width": ("hidden_size", "d_model", "dim"),
    "number of layers": ("num_hidden_layers", "num_layers", "n_layers"),
    "vocabulary": ("vocab_size",),
}
"""How configurations call what must agree for two models to be compared."""
_FIRST_BYTES = 100_000
"""Bytes of a safetensors file that are asked for at once; nearly every header is shorter."""
_AT_ONCE = 8
_EXPANDED = ["author", "downloads", "gated", "lastModified", "library_name", "sha", "siblings", "tags"]


@dataclass(frozen=True, kw_only=True)
class Reference:
    """The pretrained model that candidates are compared with."""

    model_id: str
    config: dict[str, object]
    """Its config.json."""
    weights: tuple[str, ...]
    """SHA-256 of its weight files, sorted."""
    model_types: tuple[str, ...]
    """``model_type`` values that may be compared with it."""


@dataclass(frozen=True, kw_only=True)
class SearchHit:
    """One model that was looked at."""

    model_id: str
    downloads: int
    last_modified: str
    """Day, YYYY-MM-DD; empty where the hub does not tell."""
    licence: str
    languages: tuple[str, ...]
    revision: str = ""
    """Commit that was looked at."""
    reason: str = ""
    """Why it is no candidate; empty for a candidate."""
    model_type: str = ""
    n_parameters: int | None = None
    size_bytes: int | None = None
    weights: tuple[str, ...] = ()
    """SHA-256 of its weight files, sorted."""


def search_hub(hub: HubClient, reference: Reference, config: SearchConfig) -> Iterator[SearchHit]:
    """Models of the hub in the order of their downloads, candidates and those left out, until there are enough candidates.

    Of several models with the same weights the first is a candidate.

    Raises:
        UnreachableError: the hub's list cannot be read. What is wrong with one model is its ``reason``.
    """
    seen = {reference.weights: reference.model_id}
    kept = 0
    listed = itertools.islice(_listed(hub, reference, config), config.most_looked_at)
    while kept < config.limit:
        chunk = list(itertools.islice(listed, _AT_ONCE))
        if not chunk:
            return
        with ThreadPoolExecutor(max_workers=_AT_ONCE) as pool:
            hits = list(pool.map(lambda hit: hit if hit.reason else look_into(hub, hit, reference, config), chunk))
        for hit in hits:
            if not hit.reason and hit.weights in seen:
                hit = replace(hit, reason=f"the same weights as {seen[hit.weights]}")
            elif not hit.reason:
                seen[hit.weights] = hit.model_id
                kept += 1
            yield hit
            if kept >= config.limit:
                return


def _listed(hub: HubClient, reference: Reference, config: SearchConfig) -> Iterator[SearchHit]:
    """The hub's list, most downloaded first, with a reason on what the list alone rules out."""
    for model_type in reference.model_types:
        with hub.asking(RepoKind.MODEL, model_type, wanted="the list of models"):
            found = iter(
                huggingface_hub.HfApi(endpoint=hub.endpoint).list_models(
                    filter=model_type,
                    author=config.author,
                    search=config.text,
                    sort="downloads",
                    expand=_EXPANDED,  # type: ignore[arg-type]
                )
            )
        while True:
            with hub.asking(RepoKind.MODEL, model_type, wanted="the list of models"):
                model = next(found, None)  # asks for the next page where it must
            if model is None:
                break
            hit = _as_hit(model)
            yield replace(hit, reason=_ruled_out(model, hit, reference, config))


def _as_hit(model: Any) -> SearchHit:
    tags = [str(tag) for tag in model.tags or []]
    changed = model.last_modified
    return SearchHit(
        model_id=str(model.id),
        downloads=int(model.downloads or 0),
        last_modified=changed.date().isoformat() if changed is not None else "",
        licence=next((tag.removeprefix("license:") for tag in tags if tag.startswith("license:")), ""),
        languages=tuple(sorted(tag for tag in tags if len(tag) in (2, 3) and tag.isalpha() and tag.islower())),
        revision=str(model.sha or ""),
    )


def _ruled_out(model: Any, hit: SearchHit, reference: Reference, config: SearchConfig) -> str:
    """Why the list alone rules a model out; empty where it does not."""
    if hit.model_id == reference.model_id:
        return "it is the pretrained model itself"
    if model.gated:
        return "it is gated: its conditions must be accepted first"
    if hit.downloads < config.min_downloads:
        return f"{hit.downloads} downloads, fewer than {config.min_downloads}"
    if config.languages and not set(config.languages) & set(hit.languages):
        return f"its card states {', '.join(hit.languages) or 'no language'}, wanted {', '.join(config.languages)}"
    if config.licences and hit.licence not in config.licences:
        return f"its card states licence {hit.licence or 'none'}, wanted {', '.join(config.licences)}"
    if (config.since or config.until) and not hit.last_modified:
        return "the hub does not tell when it was last changed"
    if config.since and hit.last_modified < config.since:
        return f"last changed {hit.last_modified}, before {config.since}"
    if config.until and hit.last_modified > config.until:
        return f"last changed {hit.last_modified}, after {config.until}"
    names = [file.rfilename for file in model.siblings or []]
    if names and SINGLE_NAME not in names and INDEX_NAME not in names:
        return no_safetensors(names, where="it").message
    return ""


def look_into(hub: HubClient, hit: SearchHit, reference: Reference, config: SearchConfig) -> SearchHit:
    """Look at files, configuration and tensors of one model; whatever is wrong becomes its reason."""
    try:
        return _looked_into(hub, hit, reference, config)
    except StartlineError as error:
        return replace(hit, reason=error.message)


def _looked_into(hub: HubClient, hit: SearchHit, reference: Reference, config: SearchConfig) -> SearchHit:
    name = hit.model_id
    with hub.asking(RepoKind.MODEL, name, wanted="its files"):
        info = huggingface_hub.HfApi(endpoint=hub.endpoint).model_info(name, files_metadata=True)
        files = {file.rfilename: file for file in info.siblings or []}
        commit = str(info.sha)
    hit = replace(hit, revision=commit)
    if "config.json" not in files:
        raise CheckpointError(f"{name} has no config.json, expected a checkpoint in hub format; leave it out.")
    path = hub.fetch(RepoKind.MODEL, name, commit=commit, name="config.json")
    stated = parse_config(path.read_bytes(), model_id=name)
    model_type = check_architecture(stated, model_id=name, expected_model_types=reference.model_types)
    check_shape(stated, reference, model_id=name, same_vocabulary=config.same_vocabulary)
    if model_type not in VISION_TYPES and not VOCABULARY_FILES & set(files):
        raise CheckpointError(
            f"{name} has no tokenizer, expected one of {', '.join(sorted(VOCABULARY_FILES))}; leave it out."
        )
    weights, digests = _read_weights(hub, name, commit, files)
    embedding_rows(weights, stated, model_id=name)
    if config.max_parameters is not None and weights.n_parameters > config.max_parameters:
        raise CheckpointError(f"{name} has {weights.n_parameters:,} parameters, more than {config.max_parameters:,}.")
    return replace(
        hit, model_type=model_type, n_parameters=weights.n_parameters, size_bytes=weights.size_bytes, weights=digests
    )


def check_shape(
    stated: dict[str, object], reference: Reference, *, model_id: str, same_vocabulary: bool = True
) -> None:
    """Refuse a model of another width, depth or vocabulary than the pretrained one.

    Raises:
        CheckpointError: with what it has and what is expected.
    """
    for what, names in _SHAPE_KEYS.items():
        if what == "vocabulary" and not same_vocabulary:
            continue
        here, there = _first(stated, names), _first(reference.config, names)
        if here is not None and there is not None and here != there:
            raise CheckpointError(
                f"{model_id}: its {what} is {here}, expected {there} as of {reference.model_id}; leave it out or compare it "
                "under an architecture of its own.",
                model_id=model_id,
            )


def _first(config: dict[str, object], names: Sequence[str]) -> object | None:
    return next((config[name] for name in names if name in config), None)


def _read_weights(hub: HubClient, name: str, commit: str, files: dict[str, Any]) -> tuple[Weights, tuple[str, ...]]:
    """Tensors from the headers of the weight files, and the files' SHA-256, sorted."""
    if SINGLE_NAME in files:
        shards = [SINGLE_NAME]
    elif INDEX_NAME in files:
        index = hub.fetch(RepoKind.MODEL, name, commit=commit, name=INDEX_NAME)
        shards = sorted(set(shard_names(index.read_bytes(), where=name).values()))
    else:
        raise no_safetensors(sorted(files), where=name)
    missing = [shard for shard in shards if shard not in files or files[shard].size is None]
    if missing:
        raise CheckpointError(
            f"{name}: {INDEX_NAME} names {', '.join(missing)}, which the hub does not have; leave it out."
        )
    tensors: dict[str, Any] = {}
    for shard in shards:
        tensors |= _read_header(hub, name, commit, shard, size=int(files[shard].size))
    if not tensors:
        raise CheckpointError(f"{name}: its weights hold no tensor; leave it out.")
    digests = tuple(
        sorted(files[shard].lfs.sha256 if files[shard].lfs else str(files[shard].blob_id) for shard in shards)
    )
    return Weights(tensors=tensors, files=()), digests


def _read_header(hub: HubClient, name: str, commit: str, file: str, *, size: int) -> dict[str, Any]:
    """Tensors of one safetensors file on the hub: one request for its beginning, a second for a long header."""
    begun = _bytes_of(hub, name, commit, file, last=min(_FIRST_BYTES, size) - 1)
    length = header_size(begun, name=f"{file} of {name}", file_size=size)
    end = LENGTH_BYTES + length
    if len(begun) < end:
        begun += _bytes_of(hub, name, commit, file, first=len(begun), last=end - 1)
    if len(begun) < end:
        raise CheckpointError(
            f"{file} of {name}: the hub sent {len(begun)} bytes of a header of {end}; try again, or leave this model out."
        )
    return parse_header(begun[LENGTH_BYTES:end], name=f"{file} of {name}", file_size=size)


def _bytes_of(hub: HubClient, name: str, commit: str, file: str, *, last: int, first: int = 0) -> bytes:
    address = huggingface_hub.hf_hub_url(name, file, revision=commit, endpoint=hub.endpoint)
    with hub.asking(RepoKind.MODEL, name, wanted=f"the header of {file}"):
        answer = get_session().get(address, headers={**build_hf_headers(), "Range": f"bytes={first}-{last}"})
        hf_raise_for_status(answer)
        return bytes(answer.content[: last - first + 1])


def read_reference(model_id: str, config: bytes, weights: Sequence[str], model_types: Sequence[str]) -> Reference:
    """The pretrained model from the text of its configuration and the SHA-256 of its weight files."""
    return Reference(
        model_id=model_id,
        config=dict(json.loads(config)),
        weights=tuple(sorted(weights)),
        model_types=tuple(model_types),
    )
