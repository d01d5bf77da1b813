import hashlib
import json
import os
import subprocess

import numpy as np
import pytest
from safetensors.numpy import save_file

from videogen.errors import ArtifactCorrupt, ArtifactMissing, ArtifactRefused
from videogen.manifest import FileEntry, Manifest, build_manifest, check_safe, parse_manifest, verify, write_manifest


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "model"
    (folder / "transformer").mkdir(parents=True)
    save_file({"weight": np.arange(1000.0)}, folder / "transformer" / "weights.safetensors")
    (folder / "model_index.json").write_text('{"_class_name": "WanPipeline"}')
    return folder


def test_entries_are_what_sha256sum_says(folder):
    command = ["find", ".", "-type", "f", "-exec", "sha256sum", "{}", ";"]
    listing = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout
    expected = {name.removeprefix("./"): digest for digest, name in (line.split() for line in listing.splitlines())}
    manifest = build_manifest(folder)
    assert {name: entry.sha256 for name, entry in manifest.files.items()} == expected
    assert manifest.size == sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_digest_is_of_the_content_and_of_nothing_else(folder, tmp_path):
    copy = tmp_path / "copy"
    (copy / "transformer").mkdir(parents=True)
    for name in ("transformer/weights.safetensors", "model_index.json"):  # in another order, with another date
        (copy / name).write_bytes((folder / name).read_bytes())
        os.utime(copy / name, (1, 1))
    assert build_manifest(copy).digest == build_manifest(folder).digest
    (copy / "model_index.json").rename(copy / "index.json")
    assert build_manifest(copy).digest != build_manifest(folder).digest


def test_digest_is_stable_between_releases():
    manifest = Manifest({"b.json": FileEntry("b" * 64, 2), "a/ü.txt": FileEntry("a" * 64, 1)})
    canonical = (
        '{"files":{"a/\\u00fc.txt":{"bytes":1,"sha256":"' + "a" * 64 + '"},"b.json":{"bytes":2,"sha256":"' + "b" * 64
        + '"}},"schema":1}'
    )  # fmt: skip
    assert manifest.digest == hashlib.sha256(canonical.encode()).hexdigest()


def test_a_written_manifest_reads_back_and_is_no_file_of_itself(folder):
    manifest = write_manifest(folder)
    assert parse_manifest((folder / "manifest.json").read_text()) == manifest
    assert build_manifest(folder) == manifest
    verify(folder, manifest)


def _tamper(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: _tamper(f / "transformer/weights.safetensors"), r"transformer/weights\.safetensors was changed"),
        (lambda f: os.truncate(f / "transformer/weights.safetensors", 100), r"weights\.safetensors has 100 bytes, 8,"),
        (lambda f: (f / "model_index.json").unlink(), r"model_index\.json is missing"),
        (lambda f: (f / "extra.json").write_text("{}"), r"extra\.json is not in the manifest"),
    ],
    ids=["tampered", "truncated", "missing", "extra"],
)
def test_verify_names_the_file(folder, damage, message):
    manifest = build_manifest(folder)
    damage(folder)
    with pytest.raises(ArtifactCorrupt, match=message):
        verify(folder, manifest)


@pytest.mark.parametrize(
    "name", ["../outside", "a/../../outside", "/etc/passwd", "a//b", "./a", "", "a\\b", "a\0b", "manifest.json", ".."]
)
def test_a_path_that_could_leave_the_folder_is_refused(name):
    with pytest.raises(ArtifactRefused, match="not a path inside a folder"):
        Manifest({name: FileEntry("0" * 64, 1)})
    text = json.dumps({"schema": 1, "files": {name: {"sha256": "0" * 64, "bytes": 1}}, "digest": "0" * 64})
    with pytest.raises(ArtifactRefused):
        parse_manifest(text)


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", '{"schema": 1}', '{"schema": 1, "files": [], "digest": ""}',
        '{"schema": 1, "files": {"a": 1}, "digest": ""}',
        '{"schema": 1, "files": {"a": {"sha256": "x", "bytes": 1}}, "digest": ""}',
        '{"schema": 1, "files": {"a": {"sha256": null, "bytes": true}}, "digest": ""}',
    ],
)  # fmt: skip
def test_what_is_no_manifest_is_called_corrupt(text):
    with pytest.raises(ArtifactCorrupt):
        parse_manifest(text)


def test_a_manifest_changed_by_hand_does_not_fit_its_digest(folder):
    text = write_manifest(folder).to_json()
    with pytest.raises(ArtifactCorrupt, match="was changed"):
        parse_manifest(text.replace('"bytes": 30', '"bytes": 31'))
    with pytest.raises(ArtifactCorrupt, match="got schema 2; known: 1"):
        parse_manifest(text.replace('"schema": 1', '"schema": 2'))


def test_a_link_is_refused(folder):
    (folder / "secret.txt").symlink_to("/etc/passwd")
    with pytest.raises(ArtifactRefused, match=r"secret\.txt is not a plain file"):
        build_manifest(folder)


def test_no_folder_is_missing(tmp_path):
    with pytest.raises(ArtifactMissing):
        build_manifest(tmp_path / "nothing")


def test_a_model_folder_is_safe(folder):
    check_safe(folder)


def test_a_safetensors_file_whose_length_looks_like_a_pickle_is_safe(folder):
    for words in range(200):  # the header's length is its first bytes: some are 0x80 0x02, as a pickle's
        path = folder / "padded.safetensors"
        save_file({"w": np.zeros(1)}, path, metadata={"note": "x" * 8 * words})
        if path.read_bytes()[:2] == b"\x80\x02":
            break
    assert path.read_bytes()[:2] == b"\x80\x02"
    check_safe(folder)


def _pickle_bytes():
    import pickle

    return pickle.dumps({"weight": list(range(100))})


def _torch_save(path):
    import torch

    torch.save({"weight": torch.zeros(3)}, path)


@pytest.mark.parametrize("name", ["weights.safetensors", "notes.txt", "config.json"])
def test_a_pickle_under_another_name_is_refused(folder, name):
    (folder / name).write_bytes(_pickle_bytes())
    with pytest.raises(ArtifactRefused, match=rf"{name} is a pickle"):
        check_safe(folder)


def test_a_checkpoint_of_torch_is_refused_under_any_name(folder):
    _torch_save(folder / "weights.safetensors")
    with pytest.raises(ArtifactRefused, match="pickle or an archive"):
        check_safe(folder)


@pytest.mark.parametrize(
    "name", ["a.bin", "a.pt", "a.pth", "a.ckpt", "a.pkl", "a.py", "a.so", "a.SAFETENSORS", "a", ".pt"]
)
def test_kinds_that_are_never_read(folder, name):
    (folder / name).write_bytes(b"harmless")
    with pytest.raises(ArtifactRefused, match=r"is of kind .*; allowed: .*\.safetensors"):
        check_safe(folder)


@pytest.mark.parametrize("keep", [0, 4, 100, -8], ids=["empty", "four", "hundred", "all but the end"])
def test_a_truncated_safetensors_file_is_corrupt(folder, keep):
    path = folder / "transformer" / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(ArtifactCorrupt, match="not a whole safetensors file"):
        check_safe(folder)


def test_json_that_is_none_is_corrupt(folder):
    (folder / "config.json").write_text("{")
    with pytest.raises(ArtifactCorrupt, match=r"config\.json is not JSON"):
        check_safe(folder)
