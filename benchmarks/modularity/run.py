"""Brings eight features to some 700 experiments and counts lines; writes a table and a chart.

    python benchmarks/modularity/run.py [--jobs 2] [--models 24] [--write]

With --write the table goes to benchmarks/results/modularity.md, and the chart to docs/images/. It
ends with an error where a feature changed a line of packages/ or is not right somewhere.
"""

import os
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).parents[1])  # `modularity` is a package in there
os.environ["JAX_PLATFORMS"] = "cpu"

from modularity.command import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
