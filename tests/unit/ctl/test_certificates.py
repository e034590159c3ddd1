"""`romana certificates`: an authority's folder, as a person uses it."""

from __future__ import annotations

import json
import stat
import subprocess
from pathlib import Path

import pytest

from services.common.certificates.revocation import revoked
from services.ctl.main import run


class Folder:
    def __init__(self, path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.path = path
        self._capsys = capsys

    def __call__(self, verb: str, *arguments: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            run(["certificates", verb, *arguments, "--dir", str(self.path)])
        captured = self._capsys.readouterr()
        return int(ended.value.code or 0), captured.out, captured.err

    def listed(self) -> dict[str, dict[str, object]]:
        _, out, _ = self("list", "-o", "json")
        return {item["name"]: item for item in json.loads(out)}

    def content(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in self.path.iterdir()}


@pytest.fixture
def romana(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Folder:
    made = Folder(tmp_path / "certificates", capsys)
    assert made("init")[0] == 0
    return made


def test_issued_certificates_are_listed_with_their_roles(romana: Folder) -> None:
    assert romana("issue", "qa-1", "--role", "node")[0] == 0
    assert romana("issue", "ipam-1", "--role", "service", "--host", "192.0.2.7")[0] == 0
    listed = romana.listed()
    assert list(listed) == ["ca", "ipam-1", "qa-1"]
    assert listed["qa-1"]["roles"] == ["romana:node:qa-1"]
    assert (listed["ipam-1"]["roles"], listed["ipam-1"]["hosts"]) == (
        ["romana:service"],
        ["192.0.2.7"],
    )
    assert "365 days" in romana("list")[1] or "364 days" in romana("list")[1]


def test_an_operator_is_limited_to_tenants_and_is_none_of_all(romana: Folder) -> None:
    limited = ("--tenant", "qa", "--tenant", "test")
    assert romana("issue", "bob", "--role", "operator", *limited)[0] == 0
    assert romana.listed()["bob"]["roles"] == ["romana:tenant:qa", "romana:tenant:test"]
    assert romana("renew", "bob")[0] == 0
    assert romana.listed()["bob"]["roles"] == ["romana:tenant:qa", "romana:tenant:test"]


def test_keys_are_their_owners_alone(romana: Folder) -> None:
    romana("issue", "alice", "--role", "operator")
    for path in romana.path.glob("*.key"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(romana.path.stat().st_mode) == 0o700


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("init",), 4, "has an authority already"),
        (("issue", "ipam-1", "--role", "service"), 2, "--host"),
        (("issue", "ca", "--role", "node"), 2, "cannot be the name"),
        (("issue", "bob", "--role", "reader", "--tenant", "qa"), 2, "knows no tenants"),
        (("issue", "bob", "--role", "node", "--tenant", "qa"), 2, "knows no tenants"),
        (("issue", "bob", "--role", "tenant"), 2, "needs --tenant"),
        (("issue", "bob", "--role", "operator", "--tenant", "a b"), 2, "'a b' is not"),
        (("issue", "bob", "--role", "operator", "--tenant", ""), 2, "is missing"),
        (("issue", "../x", "--role", "node"), 2, "cannot be the name"),
        (("renew", "nobody"), 3, "no certificate of nobody"),
        (("renew", "ca"), 2, "not renewed in place"),
    ],
)
def test_what_is_refused_changes_nothing(
    romana: Folder, arguments: tuple[str, ...], code: int, says: str
) -> None:
    before = romana.content()
    got, _, err = romana(*arguments)
    assert got == code, err
    assert says in err
    assert romana.content() == before


def test_a_name_has_one_certificate_until_it_is_renewed(romana: Folder) -> None:
    romana("issue", "qa-1", "--role", "node", "--days", "10")
    before = romana.listed()["qa-1"]
    assert romana("issue", "qa-1", "--role", "node")[0] == 4
    assert romana("renew", "--within", "5")[2].strip() == "nothing ends within 5 days"
    assert romana("renew", "--within", "30")[0] == 0
    after = romana.listed()["qa-1"]
    assert after["roles"] == before["roles"]
    assert after["serial"] != before["serial"]
    assert str(after["notAfter"]) > str(before["notAfter"])


def test_a_key_that_stays_on_its_node_is_signed(romana: Folder, tmp_path: Path) -> None:
    request = tmp_path / "n1.csr"
    subprocess.run(
        [
            *("openssl", "req", "-new", "-newkey", "ec", "-pkeyopt"),
            *("ec_paramgen_curve:prime256v1", "-nodes", "-subj", "/CN=anybody", "-keyout"),
            *(str(tmp_path / "n1.key"), "-addext", "subjectAltName=URI:romana:operator"),
            *("-out", str(request)),
        ],
        check=True,
        capture_output=True,
    )
    assert romana("issue", "n1", "--role", "node", "--csr", str(request))[0] == 0
    assert romana.listed()["n1"]["roles"] == ["romana:node:n1"]
    code, _, err = romana("renew", "n1")
    assert code == 2
    assert "signing request" in err


def test_one_authority_replaces_another_in_three_steps(romana: Folder) -> None:
    romana("issue", "qa-1", "--role", "node")
    before = romana.listed()["qa-1"]["serial"]
    assert romana("authority", "switch")[0] != 0
    assert romana("authority", "prepare")[0] == 0
    assert romana("authority", "prepare")[0] != 0
    assert list(romana.listed()) == ["ca", "ca-next", "qa-1"]
    assert romana("authority", "switch")[0] == 0
    assert list(romana.listed()) == ["ca", "ca-old", "qa-1"]
    assert romana.listed()["qa-1"]["serial"] != before
    assert romana("authority", "finish")[0] == 0
    assert list(romana.listed()) == ["ca", "qa-1"]
    assert romana.path.joinpath("ca.pem").read_bytes().count(b"BEGIN CERTIFICATE") == 1


def test_an_authority_stays_while_its_certificates_do(romana: Folder) -> None:
    romana("issue", "qa-1", "--role", "node")
    romana("authority", "prepare")
    (romana.path / "qa-1.key").unlink()  # it is elsewhere
    romana("authority", "switch")
    code, _, err = romana("authority", "finish")
    assert code != 0
    assert "qa-1" in err
    assert list(romana.listed()) == ["ca", "ca-old", "qa-1"]


def test_what_a_name_had_before_is_revoked_with_it(romana: Folder) -> None:
    romana("issue", "qa-1", "--role", "node")
    romana("issue", "qa-2", "--role", "node")
    serials = [int(str(romana.listed()["qa-1"]["serial"]), 16)]
    romana("renew", "qa-1")
    serials.append(int(str(romana.listed()["qa-1"]["serial"]), 16))
    code, out, err = romana("revoke", "qa-1", "--yes")
    assert code == 0, err
    assert out.count("revoked") == 2
    assert romana("issue", "qa-1", "--role", "node")[0] == 0
    assert romana("revoke", "qa-2", "--yes")[0] == 0
    assert romana("revoke", "ca", "--yes")[0] == 2
    found = {one.serial for one in revoked((romana.path / "ca.pem").read_bytes())}
    assert len(found) == 3
    assert set(serials) <= found
    romana("authority", "prepare")
    romana("authority", "switch")
    romana("revoke", "qa-1", "--yes")  # of both authorities
    assert len(revoked((romana.path / "ca.pem").read_bytes())) == 5
