"""Compilers for chips that are not here: what they need to know before JAX starts."""

import os

os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")  # this machine is no TPU's host
os.environ.setdefault("ALLOW_MULTIPLE_LIBTPU_LOAD", "1")  # several processes compile at once
os.environ.setdefault("JAX_SKIP_CUDA_CONSTRAINTS_CHECK", "1")  # nor has it NVIDIA's driver
