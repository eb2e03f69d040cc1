"""Features in fewer dimensions, for scores that fit densities."""

from __future__ import annotations

import numpy as np

from analysis.proxies.rows import FloatArray


def principal_components(features: FloatArray, *, share: float = 1.0, most: int | None = None) -> FloatArray:
    """Coordinates on the first principal components, scaled together to unit total variance.

    Args:
        features: (n_rows, n_features), not constant.
        share: share of the variance that is kept, in (0, 1].
        most: most components.

    Returns:
        (n_rows, n_kept).
    Cost: O(n d^2 + d^3).
    """
    centred = features - features.mean(axis=0)
    variances, basis = np.linalg.eigh(centred.T @ centred / len(features))
    variances, basis = np.maximum(variances[::-1], 0.0), basis[:, ::-1]
    total = variances.sum()
    kept = int(np.searchsorted(np.cumsum(variances) / total, share - 1e-12)) + 1
    kept = min(kept, int((variances > 1e-12 * variances[0]).sum()), most or len(variances))
    return np.asarray(centred @ basis[:, :kept] / np.sqrt(total))
