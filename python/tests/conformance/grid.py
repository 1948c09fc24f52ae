"""Comparisons that ask for more than fp16 can hold.

With an fp32 program coremltools compares at an absolute tolerance of 1e-4 even where the operation under test takes and
gives fp16, whose values lie up to 4.9e-4 apart between 0.5 and 1. Such a comparison fails for every runtime: no fp16
number is as near to the expected value as the case demands, or the expected value is the exact one rounded to fp16 and
the exact one is not near enough to it. This module tells those failures from others.
"""

import numpy as np


def steps(found, expected) -> float:
    """The largest difference, in steps that fp16 has at the largest expected element."""
    exact, wanted = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    if exact.shape != wanted.shape:
        return float("inf")
    if not exact.size:
        return 0.0
    with np.errstate(all="ignore"):
        difference = np.where(exact == wanted, 0.0, np.abs(exact - wanted)).max()
        step = np.spacing(np.abs(wanted).max().astype(np.float16)).astype(np.float64)
    return float(np.nan_to_num(difference / step, nan=np.inf))


def unmeetable(found, expected, atol: float, rtol: float) -> bool:
    """Whether some element of an expectation cannot be met: by no fp16 number where the result is fp16 (or was, before
    a cast to the fp32 that an older model gives), by no exact result where the expectation was rounded to fp16."""
    found, expected = np.asarray(found), np.asarray(expected)
    if found.shape != expected.shape or found.dtype.kind != "f" or expected.dtype.kind != "f":
        return False
    exact, wanted = found.astype(np.float64), expected.astype(np.float64)
    with np.errstate(all="ignore"):
        nearest, halves = wanted.astype(np.float16), exact.astype(np.float16)
    if (halves == exact).all():
        return not np.allclose(nearest.astype(np.float64), wanted, atol=atol, rtol=rtol)
    if expected.dtype == np.float16:
        outside = ~np.isclose(exact, wanted, atol=atol, rtol=rtol)
        return bool((outside & (halves == nearest)).any())
    return False
