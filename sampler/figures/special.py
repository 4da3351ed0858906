"""The quantiles and logarithms behind the intervals: the one door to ``scipy.special``.

It is loaded with the first figure, not with the gateway: loading it takes a third of a second of processor time, and
most processes never compute a rate.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def beta_quantile(a: float, b: float, share: float) -> float:
    """The value below which ``share`` of a beta distribution lies."""
    from scipy.special import betaincinv  # noqa: PLC0415

    return float(betaincinv(a, b, share))


def binomial_share(most: float, n: int, p: float) -> float:
    """The probability of at most ``most`` successes of ``n``."""
    from scipy.special import bdtr  # noqa: PLC0415

    return float(bdtr(most, n, p))


def t_share(degrees: float, value: float) -> float:
    """The share of Student's distribution below ``value``."""
    from scipy.special import stdtr  # noqa: PLC0415

    return float(stdtr(degrees, value))


def t_quantile(degrees: float, share: float) -> float:
    """The value below which ``share`` of Student's distribution lies."""
    from scipy.special import stdtrit  # noqa: PLC0415

    return float(stdtrit(degrees, share))


def log_gamma(values: NDArray[np.generic] | float) -> NDArray[np.float64]:
    """The logarithm of the gamma function, value by value."""
    from scipy.special import gammaln  # noqa: PLC0415

    found: NDArray[np.float64] = gammaln(values)
    return found
