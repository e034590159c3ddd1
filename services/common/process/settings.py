"""Settings: defaults < YAML file < environment < flags, read once in `main.py`, then frozen.

A service's settings are one class with one section per concern:

    class IpamSettings(ServiceSettings, env_prefix="ROMANA_IPAM__"):
        listen: ListenSettings = ListenSettings(address="127.0.0.1:9602")
        etcd: EtcdSettings = EtcdSettings()

    settings = load_settings(IpamSettings, file=path, overrides={"listen": {"insecure": True}})

In the environment, `__` separates sections: `ROMANA_IPAM__LISTEN__ADDRESS`. What operators change
at run time is a resource, not a setting.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, ClassVar, Final, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails
from pydantic_settings import (
    BaseSettings,
    EnvSettingsSource,
    NoDecode,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)
from pydantic_settings import SettingsError as PydanticSettingsError

from services.common.errors import InvalidInput, Violation
from services.common.process.logs import LogFormat, LogLevel
from services.common.socket_address import parse_address
from services.common.tls import TlsFiles
from services.common.tracing.collector import Collector, CollectorFiles, collector

SEPARATOR = "__"

_PASSWORD = re.compile(r"(//[^/@:]*:)[^/@]*@")


class SettingsError(InvalidInput):
    """Settings cannot be read; each violation's message says where the value came from."""


def _address(text: object) -> object:
    if isinstance(text, str):
        try:
            parse_address(text)
        except InvalidInput as error:
            raise ValueError(error.message) from error
    return text


def _listed(value: object) -> object:
    """Lists may be written with commas, for the environment's sake."""
    if isinstance(value, str):
        return [part.strip() for part in value.split(",") if part.strip()]
    return value


Address = Annotated[str, BeforeValidator(_address)]
Listed = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_listed)]
Addresses = Annotated[tuple[Address, ...], NoDecode, BeforeValidator(_listed)]


class Section(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True, extra="forbid")


class TlsSettings(Section):
    """Files of mutual TLS, all PEM: either all three or none."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""
    """What peers' certificates have to bear in place of the address by which they are called."""

    @model_validator(mode="after")
    def _all_or_none(self) -> TlsSettings:
        if len({self.ca is None, self.certificate is None, self.key is None}) > 1:
            raise ValueError("ca, certificate and key come together")
        return self

    def files(self) -> TlsFiles | None:
        """The files; None when they are not set."""
        if self.ca is None or self.certificate is None or self.key is None:
            return None
        return TlsFiles(self.ca, self.certificate, self.key, self.server_name)


class EtcdSettings(Section):
    endpoints: Addresses = ("127.0.0.1:2379",)
    """host:port each, tried in turn."""
    root: str = Field("/romana", pattern=r"^(/[a-z0-9._-]+)+$")
    """Before every key: several installations can share an etcd."""
    tls: TlsSettings = TlsSettings()
    timeout: float = Field(5.0, gt=0)
    """Seconds for one request."""


class ListenSettings(Section):
    address: Address
    tls: TlsSettings = TlsSettings()
    insecure: bool = False
    """Serve other machines without TLS."""
    advertise: Address | None = None
    """Where other replicas reach this one; the listen address unless set."""


class MetricsSettings(Section):
    """Where metrics are served, in the clear."""

    address: Address = "127.0.0.1:0"


class AuditSettings(Section):
    file: Path | None = None
    """Changes are written to it besides, as JSON lines; it may be renamed at any time."""


class LogSettings(Section):
    """What is logged, to standard error."""

    level: LogLevel = "info"
    format: LogFormat = "auto"


class TracesTlsSettings(Section):
    """Files of TLS to a collector, all PEM; certificate and key if it asks for them."""

    ca: Path | None = None
    certificate: Path | None = None
    key: Path | None = None
    server_name: str = ""
    """What the collector's certificate has to bear in place of its address."""


class TracesSettings(Section):
    """Where spans are sent, by OTLP over gRPC. It takes the extra `tracing`."""

    endpoint: str = ""
    """host:port or https://host:port of a collector; empty: nothing is traced."""
    share: float = Field(1.0, ge=0, le=1)
    """Of the traces that begin here; those that a caller began are followed as it says."""
    tls: TracesTlsSettings = TracesTlsSettings()
    insecure: bool = False
    """Reach other machines in the clear."""

    @model_validator(mode="after")
    def _right(self) -> TracesSettings:
        try:
            self.collector()
        except InvalidInput as error:
            raise ValueError(error.message) from error
        return self

    def collector(self) -> Collector | None:
        """Where to; None: nothing is traced."""
        if not self.endpoint:
            return None
        tls = self.tls
        return collector(
            self.endpoint,
            CollectorFiles(tls.ca, tls.certificate, tls.key),
            server_name=tls.server_name,
            insecure=self.insecure,
        )


class ServiceSettings(BaseSettings):
    """What every process has. Subclasses set `env_prefix`."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="forbid",
        env_nested_delimiter=SEPARATOR,
        nested_model_default_partial_update=True,
    )

    metrics: MetricsSettings = MetricsSettings()
    log: LogSettings = LogSettings()
    traces: TracesSettings = TracesSettings()

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the signature is pydantic's
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Only what is given: `load_settings` reads the sources, and knows what came from where."""
        return (init_settings,)

    def redacted(self) -> dict[str, object]:
        """For the log: without secrets, which are SecretStr fields and passwords in URLs."""
        dumped: dict[str, object] = self.model_dump(mode="json", exclude_none=True)
        return {name: without_passwords(value) for name, value in dumped.items()}


_Settings = TypeVar("_Settings", bound=ServiceSettings)
_Values = Mapping[str, object]
_WORDS: Final = {
    "extra_forbidden": "no such setting",
    "model_type": "is a section: its settings are fields of it",
    "path_type": "must be a path",
}
"""What pydantic finds, where its own words are of Python."""


def load_settings(
    kind: type[_Settings], *, file: Path | None = None, overrides: _Values | None = None
) -> _Settings:
    """Reads the settings of a service.

    Args:
        kind: The service's class.
        file: YAML, a mapping of sections.
        overrides: Sections and fields that flags were given for; None values are not set.

    Raises:
        SettingsError: With the path and the source of everything that is wrong.
    """
    sources = {
        "flags": _without_unset(overrides or {}),
        "environment": _read_environment(kind),
        str(file): {} if file is None else _without_empty_sections(kind, _read_file(file)),
    }
    merged: dict[str, object] = {}
    for values in reversed(sources.values()):
        merged = _merged(merged, values)
    try:
        return kind.model_validate(merged)
    except ValidationError as error:
        raise _failed([_violation(kind, sources, details) for details in error.errors()]) from error


def _read_file(file: Path) -> _Values:
    try:
        document = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise _failed([Violation("", f"cannot read {file}: {error.strerror}")]) from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        why = f"{place}{error.problem or error.context}"
        raise _failed([Violation("", f"{file} is not YAML: {why}")]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        why = " ".join(str(error).split())
        raise _failed([Violation("", f"{file} is not YAML: {why}")]) from error
    if document is None:
        return {}
    if not isinstance(document, dict) or not all(isinstance(key, str) for key in document):
        raise _failed([Violation("", f"{file} is no mapping of sections")])
    return document


def _without_empty_sections(kind: type[ServiceSettings], values: _Values) -> _Values:
    """A section of which every field is commented out says nothing."""
    sections = {
        name
        for name, field in kind.model_fields.items()
        if isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
    }
    return {
        name: value for name, value in values.items() if not (value is None and name in sections)
    }


def _read_environment(kind: type[ServiceSettings]) -> _Values:
    prefix = str(kind.model_config.get("env_prefix", ""))
    if not prefix:
        return {}
    unknown = [
        Violation(_path(section.lower().split(SEPARATOR)), f"no such setting (environment: {name})")
        for name in sorted(os.environ)
        if name.upper().startswith(prefix)
        and (section := name[len(prefix) :]).split(SEPARATOR)[0].lower() not in kind.model_fields
    ]
    if unknown:
        raise _failed(unknown)
    try:
        values: dict[str, object] = EnvSettingsSource(kind)()
    except PydanticSettingsError as error:
        raise _failed([Violation("", f"{error} (environment)")]) from error
    return values


def _violation(
    kind: type[ServiceSettings], sources: Mapping[str, _Values], details: ErrorDetails
) -> Violation:
    keys = [str(part) for part in details["loc"]]
    message = _WORDS.get(details["type"], details["msg"])
    message = message.removeprefix("Value error, ")
    saying = {name: values for name, values in sources.items() if _has(values, keys)}
    if details["type"] == "model_type":  # another source's fields of it are right
        saying = {name: values for name, values in saying.items() if not _is_section(values, keys)}
    source = next(iter(saying), "defaults")
    if source == "environment":
        names = itertools.takewhile(str.isidentifier, keys)  # a list is in one variable
        variable = str(kind.model_config.get("env_prefix", "")) + SEPARATOR.join(names).upper()
        source = f"environment: {variable}"
    return Violation(_path(keys), f"{message} ({source})")


def _failed(violations: list[Violation]) -> SettingsError:
    lines = [f"{item.path}: {item.message}" if item.path else item.message for item in violations]
    return SettingsError("settings: " + "; ".join(lines), "BAD_SETTINGS", violations=violations)


def _path(keys: list[str]) -> str:
    return ".".join(keys)


def _has(values: object, keys: list[str]) -> bool:
    """Whether the source says something about this field, or about the list that it is in."""
    for key in keys:
        if not isinstance(values, Mapping):
            return not key.isidentifier()
        if key not in values:
            return False
        values = values[key]
    return True


def _is_section(values: object, keys: list[str]) -> bool:
    for key in keys:
        values = values.get(key) if isinstance(values, Mapping) else None
    return isinstance(values, Mapping)


def _merged(below: _Values, above: _Values) -> dict[str, object]:
    result = dict(below)
    for key, value in above.items():
        under = result.get(key)
        if not isinstance(value, Mapping) or under is None:
            result[key] = value
        elif isinstance(under, Mapping):
            result[key] = _merged(under, value)
        # else what is no section stays, to be found wrong
    return result


def _without_unset(values: _Values) -> _Values:
    return {
        key: _without_unset(value) if isinstance(value, Mapping) else value
        for key, value in values.items()
        if value is not None
    }


def without_passwords(value: object) -> object:
    """A value as JSON or YAML has it, with passwords in URLs replaced."""
    if isinstance(value, str):
        return _PASSWORD.sub(r"\1***@", value)
    if isinstance(value, list):
        return [without_passwords(item) for item in value]
    if isinstance(value, dict):
        return {key: without_passwords(item) for key, item in value.items()}
    return value
