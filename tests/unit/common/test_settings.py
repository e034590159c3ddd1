from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from services.common.process.settings import (
    EtcdSettings,
    ListenSettings,
    ServiceSettings,
    SettingsError,
    load_settings,
)


class ProbeSettings(ServiceSettings, env_prefix="ROMANA_PROBE__"):
    listen: ListenSettings = ListenSettings(address="127.0.0.1:9699")
    etcd: EtcdSettings = EtcdSettings()
    password: SecretStr = SecretStr("hunter2")
    limits: tuple[int, ...] = (1,)
    url: str = ""


def write(folder: Path, text: str) -> Path:
    file = folder / "probe.yaml"
    file.write_text(text)
    return file


def problems(caught: pytest.ExceptionInfo[SettingsError]) -> dict[str, str]:
    return {violation.path: violation.message for violation in caught.value.violations}


def test_defaults_alone_are_enough() -> None:
    settings = load_settings(ProbeSettings)

    assert settings.listen.address == "127.0.0.1:9699"
    assert settings.etcd.endpoints == ("127.0.0.1:2379",)


def test_each_source_overrides_those_below_it_field_by_field(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(
        tmp_path,
        "listen: {insecure: true, address: '127.0.0.1:1', advertise: 'file:1'}\n"
        "etcd: {root: /file, timeout: 1}\n",
    )
    monkeypatch.setenv("ROMANA_PROBE__LISTEN__ADDRESS", "127.0.0.1:2")
    monkeypatch.setenv("ROMANA_PROBE__ETCD__ROOT", "/environment")
    overrides = {"etcd": {"root": "/flags", "timeout": None}}
    settings = load_settings(ProbeSettings, file=file, overrides=overrides)

    assert settings.etcd.root == "/flags"
    assert settings.etcd.timeout == 1
    assert settings.listen.address == "127.0.0.1:2"
    assert settings.listen.advertise == "file:1"
    assert settings.listen.insecure
    assert settings.log.level == "info"


def test_one_field_of_a_section_leaves_the_services_own_defaults(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ROMANA_PROBE__LISTEN__INSECURE", "true")
    settings = load_settings(ProbeSettings)

    assert settings.listen.insecure
    assert settings.listen.address == "127.0.0.1:9699"


@pytest.mark.parametrize("text", ["a:1,b:2", "a:1, b:2,"])
def test_endpoints_are_written_with_commas_in_the_environment(
    monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("ROMANA_PROBE__ETCD__ENDPOINTS", text)

    assert load_settings(ProbeSettings).etcd.endpoints == ("a:1", "b:2")


def test_endpoints_are_a_list_in_the_file(tmp_path: Path) -> None:
    file = write(tmp_path, "etcd:\n  endpoints: [a:1, b:2]\n")

    assert load_settings(ProbeSettings, file=file).etcd.endpoints == ("a:1", "b:2")


def test_errors_name_the_field_and_the_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, "listen: {addres: '127.0.0.1:1'}\nlimits: [1, x]\nlogs: {}\n")
    monkeypatch.setenv("ROMANA_PROBE__ETCD__TIMEOUT", "soon")
    with pytest.raises(SettingsError) as caught:
        load_settings(ProbeSettings, file=file, overrides={"log": {"level": "loud"}})

    found = problems(caught)
    assert found["listen.addres"] == f"no such setting ({file})"
    assert found["logs"] == f"no such setting ({file})"
    assert f"({file})" in found["limits.1"]
    assert "(environment: ROMANA_PROBE__ETCD__TIMEOUT)" in found["etcd.timeout"]
    assert "(flags)" in found["log.level"]
    assert "listen.addres: no such setting" in str(caught.value)


@pytest.mark.parametrize("name", ["ETCDS__TIMEOUT", "ETCD__TIME_OUT"])
def test_a_misspelt_variable_is_an_error(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv(f"ROMANA_PROBE__{name}", "1")
    with pytest.raises(SettingsError, match=f"no such setting .*ROMANA_PROBE__{name}"):
        load_settings(ProbeSettings)


def test_variables_of_other_services_do_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROMANA_OTHER__X", "1")

    load_settings(ProbeSettings)


def test_a_list_that_is_no_json_names_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROMANA_PROBE__LIMITS", "1;2")
    with pytest.raises(SettingsError, match=r"limits.*environment"):
        load_settings(ProbeSettings)


@pytest.mark.parametrize("text", ["- a\n", "a: [", "1: 2\n"])
def test_a_file_that_is_no_mapping_is_an_error_with_its_name(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"probe\.yaml"):
        load_settings(ProbeSettings, file=write(tmp_path, text))


def test_a_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot read"):
        load_settings(ProbeSettings, file=tmp_path / "none.yaml")


def test_an_empty_file_says_nothing(tmp_path: Path) -> None:
    assert load_settings(ProbeSettings, file=write(tmp_path, "# nothing\n")) == ProbeSettings()


def test_an_address_is_checked() -> None:
    with pytest.raises(SettingsError, match=r"listen.address: .*host:port"):
        load_settings(ProbeSettings, overrides={"listen": {"address": "nowhere"}})


def test_tls_files_come_together() -> None:
    with pytest.raises(SettingsError, match="come together"):
        load_settings(ProbeSettings, overrides={"etcd": {"tls": {"ca": "/ca.pem"}}})


def test_tls_files_are_made_of_all_three() -> None:
    tls = {"ca": "/ca.pem", "certificate": "/cert.pem", "key": "/key.pem"}
    settings = load_settings(ProbeSettings, overrides={"etcd": {"tls": tls}})
    files = settings.etcd.tls.files()

    assert files is not None
    assert files.key == Path("/key.pem")
    assert settings.listen.tls.files() is None


def test_settings_are_frozen() -> None:
    settings = load_settings(ProbeSettings)
    with pytest.raises(ValidationError):
        settings.etcd = EtcdSettings()
    with pytest.raises(ValidationError):
        settings.etcd.root = "/x"


def test_what_is_logged_has_no_secrets() -> None:
    overrides = {"url": "https://root:hunter3@a:1"}
    logged = str(load_settings(ProbeSettings, overrides=overrides).redacted())

    assert "hunter" not in logged
    assert "root:***@a:1" in logged


def test_an_address_is_no_url_and_what_is_wrong_with_it_has_no_secrets() -> None:
    overrides = {"etcd": {"endpoints": "https://root:hunter3@a:1"}}
    with pytest.raises(SettingsError) as caught:
        load_settings(ProbeSettings, overrides=overrides)
    assert "host:port, without https://" in caught.value.message
    assert "hunter" not in caught.value.message


def test_each_address_of_a_list_is_one(tmp_path: Path) -> None:
    file = write(tmp_path, "etcd: {endpoints: ['127.0.0.1:2379', nonsense]}\n")
    with pytest.raises(SettingsError) as caught:
        load_settings(ProbeSettings, file=file)
    (found,) = problems(caught).items()
    assert found[0].startswith("etcd.endpoints")
    assert "host:port" in found[1]


@pytest.mark.parametrize("text", ["listen: [\n", "a: b: c\n", "\t- x\n"])
def test_a_file_that_is_not_yaml_is_said_in_one_line_with_the_place(
    tmp_path: Path, text: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_settings(ProbeSettings, file=write(tmp_path, text))
    message = caught.value.message
    assert "is not YAML: line " in message
    assert "\n" not in message


@pytest.mark.parametrize("text", ["5", "[]", "127.0.0.1:1"])
def test_what_is_written_in_place_of_a_section_is_refused_whoever_says_fields_of_it(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path, f"listen: {text}\n")
    overrides = {"listen": {"insecure": None}}
    for variable in ("", "127.0.0.1:2"):
        if variable:
            monkeypatch.setenv("ROMANA_PROBE__LISTEN__ADDRESS", variable)
        with pytest.raises(SettingsError) as caught:
            load_settings(ProbeSettings, file=file, overrides=overrides)
        assert problems(caught) == {
            "listen": f"is a section: its settings are fields of it ({file})"
        }


def test_a_section_whose_fields_are_all_commented_out_says_nothing(tmp_path: Path) -> None:
    file = write(tmp_path, "listen:\n  # address: 127.0.0.1:1\netcd: {root: /file}\n")
    settings = load_settings(ProbeSettings, file=file)
    assert settings.listen.address == "127.0.0.1:9699"
    assert settings.etcd.root == "/file"


def test_of_a_list_the_variable_is_named_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROMANA_PROBE__ETCD__ENDPOINTS", "a:1,nonsense")
    with pytest.raises(SettingsError) as caught:
        load_settings(ProbeSettings)
    (message,) = problems(caught).values()
    assert message.endswith("(environment: ROMANA_PROBE__ETCD__ENDPOINTS)")
