"""TransRate: how many nats the features spend on telling classes apart."""

from __future__ import annotations

import numpy as np

from analysis.proxies.rows import FloatArray, LabelledRows

DISTORTION = 1e-4


def score_transrate(rows: LabelledRows) -> float:
    """Coding rate of all features minus that within classes, nats; higher is better.

    R(Z) = (1/2) log det(I + Z'Z / (n e)), result R(Z) - sum_c (n_c / n) R(Z_c), with Z centred as a whole and e = 1e-4.

    Raises:
        RefusalError: regression.
    Source: Huang et al., "Frustratingly Easy Transferability Estimation", ICML 2022, section 3. Differs: features are scaled to unit
        mean variance first, for the rate depends on the unit of the features otherwise; classes are weighted by their rows (the
        official code weights them equally, which is the same for balanced classes).
    Cost: O(n d min(n, d)).
    """
    rows.require_classes("TransRate")
    centred = rows.features - rows.features.mean(axis=0)
    centred = centred / np.sqrt((centred**2).mean())
    within = sum(
        np.mean(rows.codes == code) * _coding_rate(centred[rows.codes == code]) for code in range(rows.n_classes)
    )
    return float(_coding_rate(centred) - within)


def _coding_rate(part: FloatArray) -> float:
    """R of rows, from the smaller of the two Gram matrices."""
    gram = part.T @ part if part.shape[0] >= part.shape[1] else part @ part.T
    return float(0.5 * np.linalg.slogdet(np.eye(len(gram)) + gram / (len(part) * DISTORTION))[1])
