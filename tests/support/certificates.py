"""Authorities and certificates for tests, made by the openssl program."""

from __future__ import annotations

import subprocess
from pathlib import Path

from services.common.tls import TlsFiles

_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
_DAYS = ("-days", "2")


class Authority:
    """Issues certificates for this machine, each for servers and clients alike."""

    def __init__(self, folder: Path) -> None:
        """Makes a new one in a new folder; its common name is the folder's."""
        folder.mkdir()
        self._folder = folder
        self.certificate = folder / "ca.pem"
        self._key = folder / "ca.key"
        _openssl(
            *("req", "-x509", *_NEW_KEY, *_DAYS, "-subj", f"/CN={folder.name}"),
            *("-keyout", str(self._key), "-out", str(self.certificate)),
        )

    def issue(self, name: str, *, usage: str = "serverAuth,clientAuth", uri: str = "") -> TlsFiles:
        """A certificate for 127.0.0.1 and localhost; `uri` is a role, or several with blanks."""
        names = ["IP:127.0.0.1", "DNS:localhost", *(f"URI:{one}" for one in uri.split())]
        request, key, certificate, extensions = (
            self._folder / f"{name}.{end}" for end in ("csr", "key", "pem", "ext")
        )
        extensions.write_text(
            f"subjectAltName={','.join(names)}\nextendedKeyUsage={usage}\n"
            "basicConstraints=CA:FALSE\n"
        )
        _openssl(
            *("req", "-new", *_NEW_KEY, "-subj", f"/CN={name}"),
            *("-keyout", str(key), "-out", str(request)),
        )
        _openssl(
            *("x509", "-req", "-in", str(request), *_DAYS),
            *("-CA", str(self.certificate), "-CAkey", str(self._key), "-CAcreateserial"),
            *("-extfile", str(extensions), "-out", str(certificate)),
        )
        return TlsFiles(self.certificate, certificate, key)


def _openssl(*arguments: str) -> None:
    done = subprocess.run(["openssl", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
