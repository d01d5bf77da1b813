"""`make clean`: the demo's state goes, all of it; what was trained stays."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = ("mlflow.db", "mlflow.db.lock", "mlflow.db.making", "mlflow.db-journal")
FOLDERS = ("artifacts", "dagster", "demo", "logs", "media", "mlartifacts", "store", "training", "videos")


def test_clean_leaves_nothing_of_the_state_but_what_was_trained(tmp_path):
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    for name in FOLDERS:
        (tmp_path / "var" / name).mkdir(parents=True)
    for name in FILES:
        (tmp_path / "var" / name).touch()
    subprocess.run(["make", "clean"], cwd=tmp_path, check=True, capture_output=True)
    assert [path.name for path in (tmp_path / "var").iterdir()] == ["training"]
