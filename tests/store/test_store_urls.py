"""A URL of a store that is misspelt is refused before any server is asked."""

import pytest
from typer.testing import CliRunner

from videogen.cli import app
from videogen.errors import InvalidStoreUrl
from videogen.store.backends.catalog import open_records


@pytest.mark.parametrize(
    ("url", "named", "allowed"),
    [
        ("redis://127.0.0.1:1/abc", "/abc", "<number>"),
        ("redis://127.0.0.1:1/0/1", "/0/1", "<number>"),
        ("redis:///0", "redis:///0", "<host>"),
        ("redis://127.0.0.1:1/0?foo=1", "'foo' is unknown", "namespace"),
        ("redis://127.0.0.1:1/0?Namespace=a", "'Namespace' is unknown", "namespace"),
        ("redis://127.0.0.1:1/0?namespace=", "'namespace' is empty", "namespace"),
        ("redis://127.0.0.1:1/0?namespace=a&namespace=b", "'namespace' is given twice", "namespace"),
        ("aerospike://127.0.0.1:1/videogen?foo=1", "'foo' is unknown", "media and prefix"),
        ("aerospike://127.0.0.1:1/videogen?prefix=", "'prefix' is empty", "media and prefix"),
        ("aerospike://127.0.0.1:1/videogen/0", "videogen/0", "<namespace>"),
        ("embedded:var/store?foo=1", "foo=1", "no options"),
        ("memory:x", "memory:x", "memory:"),
    ],
)
def test_a_misspelt_url_is_refused_by_name(url, named, allowed, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    if url.startswith("aerospike"):
        pytest.importorskip("aerospike")
    with pytest.raises(InvalidStoreUrl) as refused:
        open_records(url)
    assert url in str(refused.value) and named in str(refused.value) and allowed in str(refused.value)
    assert not list(tmp_path.iterdir())


def test_the_command_ends_with_the_code_for_bad_input():
    result = CliRunner().invoke(app, ["store", "doctor", "redis://127.0.0.1:1/0?foo=1"])
    assert result.exit_code == 2 and "'foo' is unknown" in result.stderr
