"""H-score: how much of the features' spread lies between classes, with a covariance that is shrunken so that it can be inverted."""

from __future__ import annotations

import numpy as np

from analysis.proxies.rows import FloatArray, LabelledRows


def score_h(rows: LabelledRows) -> float:
    """Shrunken H-score; at least 0, at most about the number of classes minus 1; higher is better.

    H = tr( S_a^{-1} (1 - a) G ), S_a = (1 - a) S + a (tr S / d) I the Ledoit-Wolf covariance of the features (S with divisor n) and G
    = (1 / (n - 1)) sum_c n_c (m_c - m)(m_c - m)' that of the class means m_c.

    Raises:
        RefusalError: regression.
    Source: Ibrahim, Ponomareva and Mazumder, "Newer is not always better: Rethinking transferability metrics, their peculiarities,
        stability and performance", ECML PKDD 2022, section 3 (shrinkage); Bao et al., ICIP 2019 (H-score). The divisors are those of
        the published implementations.
    Cost: O(n d^2 + d^3).
    """
    rows.require_classes("H-score")
    centred = rows.features - rows.features.mean(axis=0)
    n_rows = len(centred)
    covariance = centred.T @ centred / n_rows
    shrinkage = ledoit_wolf_shrinkage(centred, covariance)
    if shrinkage >= 1:
        return 0.0
    sums = rows.one_hot().T @ centred
    spread = sums / np.sqrt(np.bincount(rows.codes))[:, None]
    variances, basis = np.linalg.eigh(covariance)
    variances = (1 - shrinkage) * np.maximum(variances, 0.0) + shrinkage * np.trace(covariance) / len(covariance)
    kept = variances > 1e-15 * variances.max()
    along = ((spread @ basis[:, kept]) ** 2).sum(axis=0)
    return float((1 - shrinkage) * (along / variances[kept]).sum() / (n_rows - 1))


def ledoit_wolf_shrinkage(centred: FloatArray, covariance: FloatArray) -> float:
    """Weight a of the scaled identity, in [0, 1].

    a = min(b, c) / c with c = |S - mu I|^2 / d, b = (1 / (n d)) ((1/n) sum_i |x_i|^4 - |S|^2), mu = tr S / d (Frobenius norms).

    Args:
        centred: (n_rows, n_features) with column means 0.
        covariance: (n_features, n_features) S, divisor n.
    Source: Ledoit and Wolf, "A well-conditioned estimator for large-dimensional covariance matrices", J. Multivariate Analysis 88
        (2004) 365-411, section 3.3.
    """
    n_rows, n_features = centred.shape
    norm = float((covariance**2).sum())
    mean = float(np.trace(covariance)) / n_features
    distance = (norm - n_features * mean**2) / n_features
    fourth = float((np.einsum("ij,ij->i", centred, centred) ** 2).mean())
    noise = (fourth - norm) / (n_rows * n_features)
    return 1.0 if distance <= 0 else float(np.clip(noise / distance, 0.0, 1.0))
