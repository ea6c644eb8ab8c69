# SPDX-License-Identifier: GPL-2.0-or-later
"""
From a source's files to its tree: all of it, or only some files.

Debian's own patches come first.  For QEMU they are applied here: without
them the source package, which leaves out firmware blobs, does not configure.
linux-source-X.Y has them in it; Linux from the source package stays
upstream's own stable release, which is what the series is made for.

This module writes below the target it is given and decides no version.
"""

import os
import re
import shlex
import shutil
import subprocess
import tarfile

import versions

DECOMPRESS = {"xz": "xz -dcT0", "gz": "gzip -dc", "bz2": "bzip2 -dc"}


class UnpackError(Exception):
    """The tree cannot be made; the message is for the user."""


def run(command, **kw):
    return subprocess.run(command, check=False, text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          **kw)


def must_run(command, **kw):
    done = run(command, **kw)
    if done.returncode:
        raise UnpackError("%s failed:\n%s" % (" ".join(command), done.stdout))


def apply_patch(tree, patch_file, version):
    """Apply one patch, without fuzz; name what failed."""
    done = run(["patch", "-p1", "-F0", "--batch", "--forward",
                "--no-backup-if-mismatch", "-r", "-",
                "-i", os.path.abspath(patch_file)], cwd=tree)
    if done.returncode == 0:
        return
    failed = []
    current = "?"
    for line in done.stdout.splitlines():
        match = re.match(r"(?:patching file|can't find file to patch.*) ?(.*)",
                         line)
        if match:
            current = match.group(1).strip("'") or current
        match = re.match(r"\|\+\+\+ b/(\S+)", line)
        if match:
            current = match.group(1)
        if re.search(r"FAILED|ignored|No file to patch|previously applied",
                     line):
            failed.append("%s: %s" % (current, line))
    raise UnpackError("%s does not apply to %s\n  %s" % (
        patch_file, version, "\n  ".join(failed) or done.stdout))


def directory(source, target):
    """A copy of a source tree, without its history, with the time of now."""
    must_run(["sh", "-c", 'tar -C "$1" --exclude=./.git -cf - . | '
              'tar -C "$2" -xmf -', "sh", source, target])


def split(paths):
    """(the file with upstream's tree, Debian's tar file or None)."""
    debian = [p for p in paths if ".debian.tar." in p]
    main, = [p for p in paths if p not in debian]
    return main, debian[0] if debian else None


def tar_stream(package, path):
    """A bash command that writes the tree as a tar to its output."""
    if package.way == versions.SOURCE:
        return "%s %s" % (DECOMPRESS[path.rpartition(".")[2]],
                          shlex.quote(path))
    return "set -o pipefail; dpkg-deb --fsys-tarfile %s | tar -xO %s | %s" % (
        shlex.quote(path), shlex.quote("./usr/src/%s.tar.xz" % package.way),
        DECOMPRESS["xz"])


def whole(package, paths, target):
    """All of a package's source; paths: of its files.

    Every file has the time of now: objects of another version that lie in the
    build directory are older, and are made again.
    """
    main, debian = split(paths)
    must_run(["bash", "-c", "set -o pipefail; (%s) | tar -xm -C %s "
              "--strip-components=1" % (tar_stream(package, main),
                                        shlex.quote(target))])
    if debian:
        unpack_debian(debian, target)
        apply_debian(target, package)


def some(package, paths, wanted, target):
    """Those of the wanted files that there are, as whole() makes them.

    What Debian's patches need comes along.
    """
    main, debian = split(paths)
    if debian:
        unpack_debian(debian, target)
        wanted = set(wanted).union(*map(touched, debian_series(target)))
    with subprocess.Popen(["bash", "-c", tar_stream(package, main)],
                          stdout=subprocess.PIPE) as stream:
        with tarfile.open(fileobj=stream.stdout, mode="r|") as tar:
            for member in tar:
                path = member.name.removeprefix("./").partition("/")[2]
                if path in wanted and member.isfile():
                    write(tar.extractfile(member), member.mode,
                          os.path.join(target, path))
                tar.members.clear()     # or it keeps them all
        stream.stdout.read()            # the padding after the tar's end
    if stream.returncode:
        raise UnpackError("%s does not unpack" % main)
    if debian:
        apply_debian(target, package)


def write(source, mode, target):
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "wb") as f:
        shutil.copyfileobj(source, f)
    os.chmod(target, mode)


def unpack_debian(path, target):
    must_run(["tar", "-C", target, "-xf", path])


def debian_series(tree):
    """The paths of Debian's patches, in order."""
    patches = os.path.join(tree, "debian/patches")
    with open(os.path.join(patches, "series"), encoding="utf-8") as f:
        names = [line.split("#")[0].strip() for line in f]
    return [os.path.join(patches, name) for name in names if name]


def touched(patch):
    """The paths that a patch of Debian's reads or writes."""
    with open(patch, encoding="utf-8", errors="replace") as f:
        return set(re.findall(r"^(?:---|\+\+\+) [^/\s]+/(\S+)", f.read(),
                              re.M))


def apply_debian(tree, package):
    for patch in debian_series(tree):
        apply_patch(tree, patch, package)
