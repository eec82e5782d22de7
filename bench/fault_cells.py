"""The bench of faults on the small synthetic shop: bench/faults/run.py --quick.

Usage: python bench/fault_cells.py [--quick]. Without --quick it is every system whose data are at hand, which
takes hours; bench/faults/README.md tells more. The last line is JSON: does every goal of the diagnosis hold.
"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

if __name__ == "__main__":
    path = Path(__file__).parent / "faults" / "run.py"
    sys.argv[0] = str(path)
    runpy.run_path(str(path), run_name="__main__")
