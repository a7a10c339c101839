"""Zip files that travel: written the same bytes for the same content, and read as if anybody might have made them.

Each has a manifest: what the file is, and the SHA-256 of every other member. Nothing of a file is kept or run before
all of it is checked.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from stn_bench.settings import explain
from stn_bench.system.errors import ArchiveError, StnBenchError
from stn_bench.system.files import is_clutter, write_whole
from stn_bench.system.text import DEVICES, hidden_character, printable, quote

MANIFEST = "manifest.json"
CUT = "is damaged: it was cut short; copy or download it again"
MOST_BYTES = 1 << 30  # of a zip file, packed and unpacked
DAWN = (1980, 1, 1, 0, 0, 0)  # the time of every member; a zip file knows no earlier one
UNIX, RIGHTS = 3, 0o644 << 16
PACKED = (
    b"PK\x03\x04",
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"GIF8",
    b"\x1f\x8b",
)  # how what is packed begins
STRANGE = frozenset('\\:*?"<>|')  # what a system takes for something else than a part of a name
KINDS = {
    "stn-bench runs": "one of runs, which `stn-bench import` reads",
    "stn-bench results": "one of results, which `stn-bench import` reads",
    "stn-bench work": "one of work, which `stn-bench work` trains",
}
"""Kind in a manifest -> what a person is told who gives such a file to another command."""

LONGEST, LONGEST_PART = 1000, 255

Kind = TypeVar("Kind", bound=BaseModel)


# Written ---------------------------------------------------------------------------------------------------------


def zipped(members: Mapping[str, bytes], manifest: BaseModel) -> bytes:
    """Return members behind their manifest as the bytes of a zip file: the same bytes for the same members."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        told = f"{manifest.model_dump_json(indent=1)}\n".encode()
        for name, content in ((MANIFEST, told), *sorted(members.items())):
            file.writestr(_member(name, content), content, compresslevel=9)
    return buffer.getvalue()


def digests_of(members: Mapping[str, bytes]) -> dict[str, str]:
    """Return name -> SHA-256 of each member, sorted."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(members.items())}


def _member(name: str, content: bytes) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, DAWN)
    info.compress_type = zipfile.ZIP_STORED if content.startswith(PACKED) else zipfile.ZIP_DEFLATED
    info.create_system, info.external_attr = UNIX, RIGHTS
    return info


def write_zip(path: Path, content: bytes) -> int:
    """Write a zip file, whole or not at all, and return its size in bytes.

    Raises:
        ArchiveError: if the file cannot be written.
    """
    check_home(path)
    try:
        write_whole(path, content)
    except OSError as error:
        raise ArchiveError(f"{path}: cannot be written ({error.strerror or error})") from None
    return len(content)


def check_home(path: Path) -> None:
    """Check that the folder of a file is there: one that is made for a misspelt path is not found again.

    Raises:
        ArchiveError: if it is not.
    """
    if not path.expanduser().absolute().parent.is_dir():
        raise ArchiveError(f"{path.parent}: no such folder; make it first, or name another")


def check_target(path: Path, kind: str) -> None:
    """Check that a file may be written: its folder is there, and it is new, empty, or one that the same command wrote.

    Raises:
        ArchiveError: if it is not, so that no table of somebody's is lost for a slip of the hand.
    """
    check_home(path)
    if path.is_dir():
        raise ArchiveError(f"{path}: is a folder; name a file in it")
    if path.is_file() and path.stat().st_size and kind_of(path) != kind:
        raise ArchiveError(
            f"{path}: is there already, and no file that this command wrote; name another, or remove it"
        )


def kind_of(path: Path) -> str:
    """Return the kind that the manifest of a zip file tells; "" for any other file."""
    try:
        with zipfile.ZipFile(path) as file:
            return str(_tree(file.read(MANIFEST)).get("kind", ""))
    except Exception:  # a damaged zip file makes Python raise almost anything
        return ""


# Read ------------------------------------------------------------------------------------------------------------


def read_zip(path: Path, made_by: str) -> bytes:
    """Return the bytes of a file that may be one of ours; `made_by` is the command that writes such a file.

    Raises:
        ArchiveError: if it cannot be read.
    """
    try:
        if path.stat().st_size > MOST_BYTES:
            raise ArchiveError(f"is larger than {MOST_BYTES >> 20} MiB")
        return path.read_bytes()
    except FileNotFoundError:
        raise ArchiveError(f"no such file (`{made_by}` writes one)") from None
    except OSError as error:
        raise ArchiveError(f"cannot be read ({error.strerror or error})") from None


def unzip(content: bytes) -> dict[str, bytes]:
    """Return the members of a zip file by name; their checksums are compared on the way.

    Raises:
        ArchiveError: if it is damaged, or would unpack to too much.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            members = file.infolist()
            if min((member.header_offset for member in members), default=0):
                raise ArchiveError(CUT)  # what was found is the end of a file inside this one
            if sum(member.file_size for member in members) > MOST_BYTES:
                raise ArchiveError(f"would unpack to more than {MOST_BYTES >> 20} MiB")
            found = {_slashed(member.filename): file.read(member) for member in members}
            if len(found) < len(members):
                raise ArchiveError("has two members of one name")
            return found
    except StnBenchError:
        raise
    except Exception as error:  # a damaged zip file makes Python raise almost anything
        raise ArchiveError(f"is damaged, or not a zip file ({first_line(error)})") from None


def _slashed(name: str) -> str:
    """Return the name of a member as zip files should have it: some programs write backslashes, or `./` before it."""
    return name.replace("\\", "/").removeprefix("./")


def without_clutter(members: Mapping[str, bytes], noun: str) -> dict[str, bytes]:
    """Return the members of an archive that a file manager may have zipped again: in a folder, with files of its own.

    What is left is checked as strictly as if no file manager had touched it.

    Args:
        members: name -> content.
        noun: what the file should be, such as "archive of runs".

    Raises:
        ArchiveError: if a member lies elsewhere, or the file is inside another one.
    """
    paths = {name: name.split("/") for name in members}
    ours = [name for name, parts in paths.items() if parts[-1] and not any(map(is_clutter, parts))]
    manifest = min((name for name in ours if paths[name][-1] == MANIFEST), key=len, default=MANIFEST)
    outer = manifest.removesuffix(MANIFEST)
    if {"", ".", ".."} & set(outer.split("/")[:-1]):
        outer = ""
    for name in ours:
        if len(ours) == 1 and name.casefold().endswith(".zip"):
            raise ArchiveError(f"holds another zip file, {name!a}; unpack it first, and take that one")
        if not name.startswith(outer) or not is_place(name.removeprefix(outer)):
            raise stranger(name, noun)
    return {name.removeprefix(outer): members[name] for name in ours}


def stranger(name: str, noun: str) -> ArchiveError:
    """Return what is said of a member that a file of this noun never has."""
    return ArchiveError(f"has a member {name!a}, which no {noun} has")


def read_manifest(content: bytes, schema: type[Kind], formats: Mapping[str, int], noun: str) -> Kind:
    """Return a manifest.

    Args:
        content: its bytes.
        schema: its fields, `kind` and `format` among them.
        formats: kind -> the format that is read.
        noun: what the file should be, such as "archive of runs".

    Raises:
        ArchiveError: if the file is something else, or of another format.
    """
    tree = _tree(content)
    kind = tree.get("kind")
    if not isinstance(kind, str) or kind not in formats:
        other = next((f"; it is {told}" for known, told in KINDS.items() if known == kind), "")
        raise ArchiveError(f"is a zip file, but not an {noun}{other}")
    if tree.get("format") != formats[kind]:
        received = quote(tree.get("format"))
        raise ArchiveError(f"has format {received}, and this stn-bench reads {formats[kind]}; try a newer one")
    try:
        return schema.model_validate(tree)
    except ValidationError as error:
        raise ArchiveError(f"`{MANIFEST}` is not ours ({explain(error)})") from None


def _tree(content: bytes) -> dict[str, Any]:
    try:
        tree = json.loads(content)
    except (ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}


def check_digests(members: Mapping[str, bytes], digests: Mapping[str, str], needed: Iterable[str]) -> None:
    """Check that members are those of a manifest, and as they were.

    Raises:
        ArchiveError: if one is missing, too many, or another.
    """
    for name in sorted({*needed, *members, *digests}):
        if name not in members or name not in digests:
            raise ArchiveError(f"{name!a} must be both in the file and in its manifest")
        if hashlib.sha256(members[name]).hexdigest() != digests[name]:
            raise ArchiveError(f"`{printable(name)}` is damaged: its SHA-256 is not the one in the manifest")


def is_place(name: str) -> bool:
    """Return whether a name leads to one place inside the folder that it is unpacked to, on every system."""
    return len(name) <= LONGEST and all(map(_is_part, name.split("/")))


def _is_part(part: str) -> bool:
    is_plain = 0 < len(part) <= LONGEST_PART and part == part.strip() and not part.endswith(".")
    is_device = part.partition(".")[0].lower() in DEVICES
    return is_plain and not is_device and not STRANGE & set(part) and not hidden_character(part)


def first_line(error: Exception) -> str:
    """Return what an error says, in a line."""
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
