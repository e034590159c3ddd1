"""Usage: extract_vmlinux.py BZIMAGE VMLINUX. Writes the ELF kernel inside a bzImage.

The setup header (Linux Documentation/arch/x86/boot.rst) gives setup_sects at 0x1f1, payload_offset
at 0x248 and payload_length at 0x24c; the payload is packed by xz, gzip, zstd or lz4.
"""

import lzma
import struct
import subprocess
import sys
import zlib
from pathlib import Path

image = Path(sys.argv[1]).read_bytes()
setup_sectors = image[0x1F1] or 4
offset, length = struct.unpack("<II", image[0x248:0x250])
start = (setup_sectors + 1) * 512 + offset
payload = image[start : start + length]
if payload.startswith(b"\xfd7zXZ\0"):
    kernel = lzma.LZMADecompressor().decompress(payload)
elif payload.startswith(b"\x1f\x8b"):
    kernel = zlib.decompressobj(31).decompress(payload)
else:
    tool = {b"\x28\xb5\x2f\xfd": "zstd", b"\x02\x21\x4c\x18": "lz4"}[payload[:4]]
    # its status says that what follows the payload is none of it
    kernel = subprocess.run(
        [tool, "-dc"], input=payload[:-4], stdout=subprocess.PIPE, check=False
    ).stdout
Path(sys.argv[2]).write_bytes(kernel)
