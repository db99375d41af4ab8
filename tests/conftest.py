"""What all tests share: how hypothesis looks for counterexamples, and how many threads NumPy takes."""

import os

from hypothesis import HealthCheck, settings

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # features are ten times slower where threads fight for cores

settings.register_profile(
    "cesar",
    max_examples=40,
    deadline=None,  # a busy machine is not a fault
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
)
settings.load_profile("cesar")
