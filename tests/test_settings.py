import pickle
from pathlib import Path

import pytest

from videogen.errors import InvalidSetting
from videogen.settings import read_settings


def test_defaults_lie_under_one_home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = read_settings({})
    assert settings.home == tmp_path / "var"
    assert settings.store_url == f"embedded:{tmp_path}/var/store"
    assert settings.artifacts_url == f"{tmp_path}/var/artifacts"
    assert settings.tracking_uri == f"sqlite:///{tmp_path}/var/mlflow.db"
    assert settings.dagster_home == tmp_path / "var" / "dagster"
    assert settings.targets == ("cpu",)
    assert settings.threads >= 1


def test_home_moves_everything_and_a_single_url_only_itself():
    settings = read_settings({"VIDEOGEN_HOME": "/srv/videogen", "MLFLOW_TRACKING_URI": "http://mlflow:5000"})
    assert settings.artifacts_url == "/srv/videogen/artifacts"
    assert settings.tracking_uri == "http://mlflow:5000"
    assert settings.tracking_artifacts == Path("/srv/videogen/mlartifacts")


def test_a_service_is_none_or_a_host_and_a_port():
    assert read_settings({}).service_url is None
    given = read_settings({"VIDEOGEN_SERVICE_URL": "[::1]:50051", "VIDEOGEN_SERVICE_API_KEY": "vg_secret"})
    assert given.service_url == "[::1]:50051" and "vg_secret" not in repr(given)


def test_all_that_use_a_device_may_share_the_folder_of_its_leases(tmp_path):
    assert read_settings({"VIDEOGEN_HOME": str(tmp_path)}).device_locks == tmp_path / "devices"
    assert read_settings({"VIDEOGEN_DEVICE_LOCKS": "/srv/locks"}).device_locks == Path("/srv/locks")


def test_a_secret_that_cannot_sign_is_refused_without_being_told():
    assert read_settings({"VIDEOGEN_WEBHOOK_SECRET": "whsec_c2lnbiBtZQ=="}).webhook_secret == "whsec_c2lnbiBtZQ=="
    assert read_settings({"VIDEOGEN_WEBHOOK_SECRET": "any text"}).webhook_secret == "any text"
    with pytest.raises(InvalidSetting, match="VIDEOGEN_WEBHOOK_SECRET") as refused:
        read_settings({"VIDEOGEN_WEBHOOK_SECRET": "whsec_secre"})
    assert "secre" not in str(refused.value).replace("WEBHOOK_SECRET", "")


def test_an_empty_variable_counts_as_unset():
    assert read_settings({"VIDEOGEN_THREADS": "", "VIDEOGEN_HOME": ""}) == read_settings({})


def test_targets_are_read_in_a_fixed_order():
    assert read_settings({"VIDEOGEN_TARGETS": "tensorrt-rtx, cpu"}).targets == ("cpu", "tensorrt-rtx")


@pytest.mark.parametrize(
    ("variable", "given"),
    [
        ("VIDEOGEN_TARGETS", "cuda"),
        ("VIDEOGEN_TARGETS", "cpu,"),
        ("VIDEOGEN_TARGETS", "cpu,cpu"),
        ("VIDEOGEN_THREADS", "0"),
        ("VIDEOGEN_STORE_CACHE_BYTES", "64M"),
        ("VIDEOGEN_SERVICE_URL", "127.0.0.1"),
        ("VIDEOGEN_SERVICE_URL", "http://127.0.0.1:50051"),
        ("VIDEOGEN_SERVICE_URL", ":50051"),
        ("VIDEOGEN_SERVICE_URL", "127.0.0.1:0"),
        ("VIDEOGEN_THREADS", "many"),
        ("VIDEOGEN_THREADS", "²"),
        ("VIDEOGEN_THREADS", "5000"),
        ("VIDEOGEN_PRICE_PER_HOUR", "free"),
        ("VIDEOGEN_PRICE_PER_HOUR", "-1"),
        ("VIDEOGEN_PRICE_PER_HOUR", "nan"),
        ("VIDEOGEN_SHARE_BETWEEN_TENANTS", "maybe"),
        ("VIDEOGEN_TENANT_WEIGHTS", "acme"),
        ("VIDEOGEN_TENANT_WEIGHTS", "=2"),
        ("VIDEOGEN_TENANT_WEIGHTS", "acme=0"),
        ("VIDEOGEN_TENANT_WEIGHTS", "acme=1,acme=2"),
        ("VIDEOGEN_TENANT_WEIGHTS", "acme=inf"),
        ("VIDEOGEN_TENANT_WEIGHTS", "acme=1e-12"),
        ("VIDEOGEN_TENANT_WEIGHTS", "acme=101"),
        ("VIDEOGEN_TENANT_WEIGHTS", "ac me=2"),
    ],
)
def test_a_bad_value_names_variable_value_and_what_is_allowed(variable, given):
    with pytest.raises(InvalidSetting) as raised:
        read_settings({variable: given})
    assert variable in str(raised.value)
    assert repr(given) in str(raised.value)
    assert "allowed: " in str(raised.value)
    assert str(pickle.loads(pickle.dumps(raised.value))) == str(raised.value)


def test_the_cache_in_front_of_the_store_may_be_of_any_size_or_none(tmp_path):
    from videogen.opening import open_store

    url = {"VIDEOGEN_STORE_URL": f"embedded:{tmp_path}"}
    assert read_settings({}).store_cache_bytes == 64 * 1024 * 1024
    with open_store(read_settings(url | {"VIDEOGEN_STORE_CACHE_BYTES": "1000"})) as store:
        assert store.limits.local_cache_bytes == 1000
    with open_store(read_settings(url | {"VIDEOGEN_STORE_CACHE_BYTES": "0"})) as store:
        assert store.cache_stats() is None


def test_the_store_shares_and_weighs_as_the_settings_say(tmp_path):
    from videogen.opening import open_store

    url = {"VIDEOGEN_STORE_URL": f"embedded:{tmp_path}"}
    with open_store(read_settings(url)) as store:
        assert not store.limits.share_between_tenants and store.limits.tenant_weights == {}
    told = {"VIDEOGEN_SHARE_BETWEEN_TENANTS": "yes", "VIDEOGEN_TENANT_WEIGHTS": "acme = 2.5, zenith=1"}
    with open_store(read_settings(url | told)) as store:
        assert store.limits.share_between_tenants
        assert store.limits.tenant_weights == {"acme": 2.5, "zenith": 1.0}
