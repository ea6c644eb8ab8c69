# SPDX-License-Identifier: GPL-2.0-or-later
"""
Which upstream versions are ours, and where each can come from.

Debian gives a source in two ways: as a source package, and for Linux also in
the binary package linux-source-X.Y, which holds the tree with Debian's
patches.  An index may list versions whose files the mirror has dropped, one
way or both, so every version is looked for in both.

The record of a source that was fetched is BUILDDIR/fetch/NAME.json.

This module unpacks nothing, and takes no hash from anywhere but the signed
index: one in a pin (pins.py) can only narrow the choice.
"""

import dataclasses
import functools
import hashlib
import json
import os
import re

import debian

SUITE = "trixie"
SOURCE = "source"   # the way that is Debian's source package


class VersionError(Exception):
    """A version that cannot be used or had; the message is for the user."""


@dataclasses.dataclass(frozen=True)
class Project:
    """What we want of one upstream project."""
    title: str
    versions: str               # a pattern of upstream's version
    series: str                 # the same for people
    files: str                  # which files of the source package
    example: str                # a Debian version, for messages
    binary: str = ""            # a binary package that holds the source, too
    oldest: str = ""            # older ones our patches do not fit


PROJECTS = {
    "qemu": Project("QEMU", r"10\.0(\.\d+)?", "10.0.y",
                    r"\.(orig|debian)\.tar\.\w+$", "1:10.0.13+ds-0+deb13u1"),
    "linux": Project("Linux", r"6\.12(\.\d+)?", "6.12.y",
                     r"\.orig\.tar\.\w+$", "6.12.107-1",
                     "linux-source-6.12", "6.12.107"),
    "bochs": Project("Bochs", r"3\.0", "3.0", r"\.orig\.tar\.\w+$",
                     "3.0+dfsg-1"),
}


def upstream_of(version):
    """Upstream's part of a Debian version: no epoch, revision or repacking."""
    version = version.split(":", 1)[-1].rpartition("-")
    return re.sub(r"\+(ds|dfsg).*", "", version[0] or version[2])


def numbers(version):
    return tuple(int(n) for n in re.findall(r"\d+", version))


def is_ours(project, upstream):
    return bool(re.fullmatch(PROJECTS[project].versions, upstream))


def is_too_old(project, upstream):
    return numbers(upstream) < numbers(PROJECTS[project].oldest)


def refuse_too_old(project, upstream):
    """upstream: None for a tree that does not say, which may try."""
    if upstream and is_too_old(project, upstream):
        raise VersionError(
            "%s %s is too old: %s is the oldest version that the patches fit" %
            (project, upstream, PROJECTS[project].oldest))


def of_tree(project, tree):
    """The version that a source tree gives itself; None when it has none."""
    try:
        with open(os.path.join(tree, "VERSION" if project == "qemu"
                               else "Makefile"), encoding="utf-8") as f:
            text = f.read(4096)
    except OSError:
        return None
    if project == "qemu":
        return text.strip() or None
    parts = dict(re.findall(r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION) *="
                            r"[ \t]*(\S*)", text, re.M))
    if len(parts) < 4:
        return None
    return "%(VERSION)s.%(PATCHLEVEL)s.%(SUBLEVEL)s%(EXTRAVERSION)s" % parts


@dataclasses.dataclass(frozen=True)
class Package:
    """One version of a project, in one of the ways it comes."""
    project: str
    version: str                # Debian's
    way: str                    # SOURCE or the binary package's name
    files: tuple                # ((sha256, file name), ...)
    directory: str = ""         # below the mirror's root, if known

    @property
    def upstream(self):
        return upstream_of(self.version)

    def __str__(self):
        return "%s (%s)" % (self.version, way_title(self.way))


def way_title(way):
    return "Debian source" if way == SOURCE else way


def open_index(builddir):
    """The archive, its index just read.  DebianError when there is none."""
    print("reading the index of %s" % SUITE, flush=True)
    apt = debian.Apt(os.path.join(builddir, "fetch/apt"),
                     ["deb-src %s main" % SUITE, "deb %s main" % SUITE])
    apt.update()
    return apt


def packages(apt, project):
    """What the index lists of a project: newest first, the source package
    before the binary one."""
    what = PROJECTS[project]
    found = [Package(project, version, SOURCE,
                     tuple(f for f in files if re.search(what.files, f[1])),
                     directory)
             for version, directory, files in apt.sources(project)]
    if what.binary:
        found += [Package(project, version, what.binary, tuple(files),
                          directory)
                  for version, directory, files in apt.binaries(what.binary)]
    return sorted(
        (p for p in found if p.files and is_ours(project, p.upstream)),
        key=lambda p: (numbers(p.upstream), p.way == SOURCE,
                       functools.cmp_to_key(debian.compare)(p.version)),
        reverse=True)


def record_path(builddir, project):
    return os.path.join(builddir, "fetch", project + ".json")


def read_record(builddir, project):
    """The package that was fetched; None when there is none."""
    try:
        with open(record_path(builddir, project), encoding="utf-8") as f:
            record = json.load(f)
    except (OSError, ValueError):
        return None
    # Records were without a way when there was only one.
    return Package(project, record["version"], record.get("way", SOURCE),
                   tuple((digest, name) for digest, name in record["files"]))


def write_record(builddir, package):
    path = record_path(builddir, package.project)
    with open(path + ".new", "w", encoding="utf-8") as f:
        json.dump({"version": package.version, "upstream": package.upstream,
                   "way": package.way, "files": package.files}, f)
    os.replace(path + ".new", path)


def locate(digest, name, directories):
    """The path of a whole file in one of the directories, or None."""
    for directory in directories:
        path = os.path.join(directory, name)
        if os.path.isfile(path):
            with open(path, "rb") as f:
                if hashlib.file_digest(f, "sha256").hexdigest() == digest:
                    return path
    return None


class Missing(Exception):
    """A file of a version that nobody has; the message says why."""


def bring(apt, package, directory, near=()):
    """The paths of a package's files, in directory, near ones or fetched."""
    paths = []
    for digest, name in package.files:
        path = locate(digest, name, [directory, *near])
        if not path:
            path = os.path.join(directory, name)
            print("fetching " + name, flush=True)
            why = apt.download(package.directory + "/" + name, digest, path)
            if why is None and not locate(digest, name, [directory]):
                why = "its hash is not the index's"
            if why:
                if os.path.exists(path):
                    os.unlink(path)
                raise Missing("no %s from the mirror: %s" % (name, why))
        paths.append(path)
    return paths


def choose(apt, project, pin, directory, near=()):
    """The newest package that is really there and fits the pin; its paths."""
    listed = packages(apt, project)
    tried = {}
    for package in listed:
        if is_too_old(project, package.upstream) or \
           (pin and not pin.fits(package)):
            continue
        try:
            return package, bring(apt, package, directory, near)
        except Missing as why:
            tried[package] = str(why)
            print("%s %s: skipped, %s" % (project, package, why), flush=True)
    raise VersionError(explain(project, pin, listed, tried))


def explain(project, pin, listed, tried):
    """Why choose() found nothing, in lines."""
    lines = ["  tried %s: %s" % (package, why)
             for package, why in tried.items()]
    old = [p for p in listed if is_too_old(project, p.upstream)]
    rest = [p for p in listed if p not in old and p not in tried]
    if old:
        lines.append("  too old, %s is the oldest that the patches fit: %s" %
                     (PROJECTS[project].oldest, ", ".join(map(str, old))))
    if not pin:
        head = "%s main has no usable version of %s %s" % (
            SUITE, project, PROJECTS[project].series)
        return "\n".join([head] + (lines or ["  it lists none at all"]))
    head = "%s is pinned to %s, which %s main does not give" % (
        project, pin, SUITE)
    if not tried:
        same = [p for p in rest if pin.fits(p, files=False)]
        lines.insert(0, "  listed, but with files of other hashes: " +
                     ", ".join(map(str, same)) if same else "  not listed")
    lines.append("  apt lists instead: " +
                 (", ".join(map(str, rest)) or "nothing else"))
    return "\n".join([head] + lines)
