"""Keys of calls' metadata that clients set, too; a module that imports nothing, for the command."""

from __future__ import annotations

from typing import Final

REQUEST_ID_KEY: Final = "x-request-id"
