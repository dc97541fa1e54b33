"""One thread for BLAS, OpenMP and numba's own pools: import this before NumPy.

What a benchmark runs in parallel it starts itself and says so. Variables that are set already are left alone, and the
results state their values. Child processes inherit them.
"""

from __future__ import annotations

import os

VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")

for _name in VARIABLES:
    os.environ.setdefault(_name, "1")
