import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from videogen.artifacts import Artifacts
from videogen.errors import ArtifactCorrupt, ArtifactError, ArtifactMissing, ArtifactRefused, DiskFull


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(str(tmp_path / "artifacts"))


def _fill(folder: Path) -> None:
    (folder / "deep").mkdir()
    (folder / "engine.bin").write_bytes(b"engine")
    (folder / "deep" / "report.json").write_text("{}")


def _never(folder: Path) -> None:
    raise AssertionError(f"built again in {folder}")


def _leftovers(artifacts: Artifacts) -> list[Path]:
    return list((artifacts.root / ".scratch").iterdir())


def test_built_once_then_reused(artifacts):
    path, built = artifacts.build("engine", "k1", _fill)
    assert built
    assert path == artifacts.path("engine", "k1")
    assert artifacts.build("engine", "k1", _never) == (path, False)
    assert artifacts.get("engine", "k1") == path
    assert artifacts.has("engine", "k1")
    assert not artifacts.has("engine", "k2")
    assert set(artifacts.manifest("engine", "k1").files) == {"engine.bin", "deep/report.json"}
    assert _leftovers(artifacts) == []


def test_missing(artifacts):
    with pytest.raises(ArtifactMissing, match="there is no engine k1"):
        artifacts.get("engine", "k1")


@pytest.mark.parametrize("key", ["../../etc", "..", ".locks", "a/b", "", "a\0b", "x" * 201, "k\n"])
def test_a_key_that_could_leave_the_root_is_refused(artifacts, key):
    for call in (artifacts.get, artifacts.has, artifacts.path, lambda kind, key: artifacts.build(kind, key, _never)):
        with pytest.raises(ArtifactRefused, match="key: got"):
            call("engine", key)
    with pytest.raises(ArtifactRefused, match="kind: got"):
        artifacts.path("../engine", "key")


def test_the_longest_names_fit_a_file_system(artifacts):
    path, _ = artifacts.build("k" * 40, "x" * 200, _fill)
    (path / "engine.bin").write_bytes(b"ruined")
    assert artifacts.build("k" * 40, "x" * 200, _fill)[1]


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: (path / "engine.bin").write_bytes(b"ENGINE"),
        lambda path: (path / "engine.bin").write_bytes(b"eng"),
        lambda path: (path / "engine.bin").unlink(),
        lambda path: (path / "more.bin").write_bytes(b"more"),
        lambda path: (path / "manifest.json").write_text("{}"),
    ],
    ids=["tampered", "truncated", "missing file", "extra file", "manifest"],
)
def test_a_corrupt_artifact_is_never_given_out_and_is_built_again(artifacts, damage):
    path, _ = artifacts.build("engine", "k1", _fill)
    damage(path)
    with pytest.raises(ArtifactCorrupt):
        artifacts.get("engine", "k1")
    assert artifacts.build("engine", "k1", _fill) == (path, True)
    assert (artifacts.get("engine", "k1") / "engine.bin").read_bytes() == b"engine"
    assert len(list((artifacts.root / ".corrupt").iterdir())) == 1


def test_a_folder_that_somebody_left_without_a_manifest_is_not_an_artifact(artifacts):
    artifacts.path("engine", "k1").mkdir(parents=True)
    with pytest.raises(ArtifactMissing):
        artifacts.get("engine", "k1")
    assert artifacts.build("engine", "k1", _fill)[1]


def test_a_failed_build_leaves_nothing_and_says_its_own_error(artifacts):
    def fail(folder: Path) -> None:
        _fill(folder)
        raise RuntimeError("no such layer")

    with pytest.raises(RuntimeError, match="no such layer"):
        artifacts.build("engine", "k1", fail)
    assert not artifacts.has("engine", "k1")
    assert _leftovers(artifacts) == []
    assert artifacts.build("engine", "k1", _fill)[1]


def test_a_build_that_wrote_nothing_is_an_error(artifacts):
    with pytest.raises(ArtifactError, match="wrote no file"):
        artifacts.build("engine", "k1", lambda folder: None)
    assert not artifacts.has("engine", "k1")


_BUILDER = """
import sys, time
from pathlib import Path
from videogen.artifacts import Artifacts

root, log, pause = sys.argv[1], Path(sys.argv[2]), float(sys.argv[3])

def fill(folder):
    (folder / "engine.bin").write_bytes(b"eng")
    with log.open("a") as file:
        file.write("filling\\n")
    time.sleep(pause)
    (folder / "engine.bin").write_bytes(b"engine")

print(Artifacts(root).build("engine", "k1", fill)[1], flush=True)
"""


def _builder(artifacts: Artifacts, log: Path, pause: float) -> subprocess.Popen:
    command = [sys.executable, "-c", _BUILDER, str(artifacts.root), str(log), str(pause)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def _wait_for(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def test_a_builder_killed_in_the_middle_leaves_no_half_artifact_and_no_lock(artifacts, tmp_path):
    log = tmp_path / "log"
    builder = _builder(artifacts, log, pause=600)
    _wait_for(log.exists)
    builder.send_signal(signal.SIGKILL)
    builder.communicate()
    assert len(_leftovers(artifacts)) == 1  # the half of it that the kill left
    assert not artifacts.has("engine", "k1")
    with pytest.raises(ArtifactMissing):
        artifacts.get("engine", "k1")
    path, built = artifacts.build("engine", "k1", _fill)
    assert built
    assert set(artifacts.manifest("engine", "k1").files) == {"engine.bin", "deep/report.json"}
    assert (path / "engine.bin").read_bytes() == b"engine"
    assert _leftovers(artifacts) == []


def test_processes_that_want_the_same_artifact_build_it_once(artifacts, tmp_path):
    log = tmp_path / "log"
    builders = [_builder(artifacts, log, pause=0.3) for _ in range(4)]
    said = sorted(builder.communicate(timeout=60)[0].strip() for builder in builders)
    assert said == ["False", "False", "False", "True"]
    assert log.read_text() == "filling\n"


def test_threads_that_want_the_same_artifact_build_it_once(artifacts):
    built = []

    def fill(folder: Path) -> None:
        time.sleep(0.1)
        _fill(folder)

    threads = [
        threading.Thread(target=lambda: built.append(artifacts.build("engine", "k1", fill)[1])) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(built) == [False, False, False, True]


def test_other_keys_do_not_wait(artifacts):
    def fill(folder: Path) -> None:
        artifacts.build("graph", "k1", _fill)  # an engine's build may need its graph first
        _fill(folder)

    assert artifacts.build("engine", "k1", fill)[1]


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(folder)], capture_output=True, text=True
    )
    if mounted.returncode:
        pytest.skip(f"mounting a small file system is not allowed here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_full_disk_is_said_to_be_full_and_nothing_stays(small_disk):
    artifacts = Artifacts(str(small_disk / "artifacts"))
    with pytest.raises(DiskFull, match=r"engine k1: the disk that holds .*/artifacts is full"):
        artifacts.build("engine", "k1", lambda folder: (folder / "engine.bin").write_bytes(bytes(4 << 20)) and None)
    assert _leftovers(artifacts) == []
    assert artifacts.build("engine", "k1", _fill)[1]


def test_a_full_disk_is_told_from_a_builder_s_vague_error(small_disk):
    def fill(folder: Path) -> None:
        try:
            (folder / "engine.bin").write_bytes(bytes(4 << 20))
        except OSError:
            raise RuntimeError("builder returned null") from None

    with pytest.raises(DiskFull, match="is full"):
        Artifacts(str(small_disk)).build("engine", "k1", fill)


def test_a_file_size_limit_counts_as_a_full_disk(tmp_path):
    script = (
        "import resource, signal, sys; from pathlib import Path; from videogen.artifacts import Artifacts\n"
        "from videogen.errors import DiskFull\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))\n"
        "try: Artifacts(sys.argv[1]).build('engine', 'k1', lambda f: (f / 'e').write_bytes(bytes(100000)))\n"
        "except DiskFull as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, check=True)
    assert "is full" in done.stdout
    assert list((tmp_path / ".scratch").iterdir()) == []
    assert not (tmp_path / "engine").exists()


@pytest.fixture
def remote_url():
    return f"memory://{uuid.uuid4().hex}/artifacts"


def test_what_one_machine_built_another_fetches(remote_url, tmp_path):
    here, there = Artifacts(remote_url, tmp_path / "here"), Artifacts(remote_url, tmp_path / "there")
    with pytest.raises(ArtifactMissing):
        there.get("engine", "k1")
    here.build("engine", "k1", _fill)
    assert there.has("engine", "k1")
    path, built = there.build("engine", "k1", _never)
    assert not built
    assert path.is_relative_to(tmp_path / "there")
    assert (path / "deep" / "report.json").read_text() == "{}"


def test_a_remote_copy_that_rotted_is_not_used(remote_url, tmp_path):
    import fsspec

    Artifacts(remote_url, tmp_path / "here").build("engine", "k1", _fill)
    files, root = fsspec.core.url_to_fs(remote_url)
    (rotten,) = files.glob(f"{root}/engine/k1/*/engine.bin")
    files.pipe_file(rotten, b"ENGINE")
    there = Artifacts(remote_url, tmp_path / "there")
    with pytest.raises(ArtifactCorrupt, match=r"engine\.bin was changed"):
        there.get("engine", "k1")
    assert not there.path("engine", "k1").exists()
    assert there.build("engine", "k1", _fill)[1]
    assert (Artifacts(remote_url, tmp_path / "third").get("engine", "k1") / "engine.bin").read_bytes() == b"engine"


def test_a_remote_artifact_without_its_manifest_is_not_there_yet(remote_url, tmp_path):
    import fsspec

    here = Artifacts(remote_url, tmp_path / "here")
    here.build("engine", "k1", _fill)
    files, root = fsspec.core.url_to_fs(remote_url)
    files.rm_file(f"{root}/engine/k1/manifest.json")  # as if killed before the last write
    there = Artifacts(remote_url, tmp_path / "there")
    assert not there.has("engine", "k1")
    here.build("engine", "k1", _never)  # the builder comes back and finishes what it had begun to send
    assert there.get("engine", "k1")


def test_a_file_url_is_a_local_path(tmp_path):
    artifacts = Artifacts(f"file://{tmp_path}/artifacts")
    assert artifacts.build("engine", "k1", _fill)[0] == Path(tmp_path, "artifacts", "engine", "k1")
    assert [path.name for path in tmp_path.iterdir()] == ["artifacts"]
