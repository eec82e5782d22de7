"""The bench of known truths scores what look finds, on a folder of its own with two truths and a control."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tables_made import orders, rng

ROOT = Path(__file__).parent.parent


def truth(name, columns, about, where, is_defect=True, surface="look"):
    return {
        "id": name,
        "split": "visible",
        "dataset": "woods",
        "table": "orders",
        "columns": columns,
        "class": about,
        "where": where,
        "is_defect": is_defect,
        "surface": surface,
        "single_table_blind": True,
    }


@pytest.mark.slow
def test_truths_are_hit_by_table_columns_and_class_and_a_control_stays_quiet(tmp_path):
    columns = orders(3000)
    columns["length_cm"][::60] = 9999.0
    columns["wood"] = np.where(np.arange(3000) % 50 == 0, "?", columns["wood"])
    columns["secret"] = rng(1).random(3000)
    (tmp_path / "woods").mkdir()
    pq.write_table(pa.table(columns), tmp_path / "woods" / "orders.parquet")
    (tmp_path / "woods" / "notes.csv").write_bytes(b"")
    (tmp_path / "KNOWN_TRUTHS.md").write_text("Hide `secret` from the tool for `orders`.")
    truths = [
        truth("W-1", ["length_cm"], "sentinel", "length_cm = 9999"),
        truth("W-2", ["wood"], "missing_disguised", "wood = '?'"),
        truth("W-3", ["customer"], "leak", None, surface="leak"),
        truth("W-4", ["pieces"], "label_error", None, surface="label"),
        truth("W-5", ["price"], "real_event", "price > 100", is_defect=False),
    ]
    (tmp_path / "KNOWN_TRUTHS.json").write_text(json.dumps(truths))

    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "known_truths.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout.splitlines()[-1])
    assert last["defects"] == 3
    assert last["missed"] == ["W-3"]
    assert last["alarms"] == []
    assert last["holds"] is False
    assert last["overlap"] == 1.0
    assert "notes.csv: skipped" in done.stderr


def test_without_a_file_of_truths_the_bench_says_so(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / "known_truths.py"), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.stdout.startswith("no KNOWN_TRUTHS.json")
