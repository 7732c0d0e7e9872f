#!/usr/bin/env python3
"""Writes an image of one layer as a docker-archive, without a daemon or a registry: for tests.

usage: docker-archive.py [--sys-time] OUT.tar NAME CONFIG.json SOURCE=/DESTINATION...

CONFIG.json is the image's own "config": Entrypoint, Cmd, User, Labels … The same input gives the same bytes. With
--sys-time, programs carry what `setcap cap_sys_time+ep` gives them.
"""

import hashlib
import io
import json
import os
import platform
import struct
import sys
import tarfile

# struct vfs_cap_data of revision 2, effective; bit 25 is CAP_SYS_TIME.
SYS_TIME = struct.pack("<5I", 0x02000001, 1 << 25, 0, 0, 0).decode("ascii")
EPOCH = "1970-01-01T00:00:00Z"


def layer(files, sys_time):
    """The layer: each file with its folders, owned by root."""
    buffer = io.BytesIO()
    folders = set()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for source, destination in files:
            parts = destination.strip("/").split("/")
            for depth in range(1, len(parts)):
                folder = "/".join(parts[:depth])
                if folder not in folders:
                    folders.add(folder)
                    entry = tarfile.TarInfo(folder)
                    entry.type, entry.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(entry)
            entry = tarfile.TarInfo("/".join(parts))
            entry.size = os.path.getsize(source)
            entry.mode = 0o755 if os.access(source, os.X_OK) else 0o644
            if sys_time and entry.mode & 0o111:
                entry.pax_headers["SCHILY.xattr.security.capability"] = SYS_TIME
            with open(source, "rb") as content:
                tar.addfile(entry, content)
    return buffer.getvalue()


def main(out, name, config, *files, sys_time):
    content = layer([file.split("=", 1) for file in files], sys_time)
    digest = hashlib.sha256(content).hexdigest()
    image = json.dumps({
        "architecture": {"x86_64": "amd64", "aarch64": "arm64"}[platform.machine()],
        "os": "linux",
        "created": EPOCH,
        "config": json.loads(config),
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest}"]},
        "history": [{"created": EPOCH}],
    }).encode()
    image_name = hashlib.sha256(image).hexdigest() + ".json"
    layer_name = f"{digest}/layer.tar"
    manifest = json.dumps([{"Config": image_name, "RepoTags": [name], "Layers": [layer_name]}]).encode()
    with tarfile.open(out, "w") as tar:
        for path, data in ((image_name, image), (layer_name, content), ("manifest.json", manifest)):
            entry = tarfile.TarInfo(path)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


if __name__ == "__main__":
    arguments = [argument for argument in sys.argv[1:] if argument != "--sys-time"]
    if len(arguments) < 4:
        sys.exit(__doc__)
    main(*arguments, sys_time=len(arguments) < len(sys.argv) - 1)
