# SPDX-License-Identifier: GPL-2.0-or-later
"""
Pins: which versions are asked for, and which were built.

The former are in BUILDDIR/pins, the latter in BUILDDIR/versions, with lines of
one form, so that what one build notes another can ask for:

    NAME VERSION [WAY FILE=SHA256...]

This module knows that form and --pin's; what an archive has is versions.py's.
"""

import dataclasses
import os
import re

import versions
from versions import PROJECTS, SOURCE, VersionError

DIRECTORY = "directory"     # the way of a source tree that the user gave
HASH = re.compile(r"[0-9a-f]{64}")


@dataclasses.dataclass(frozen=True)
class Pin:
    """A line of pins or versions: a version, or exactly these files of it."""
    version: str                # upstream's or Debian's
    way: str = ""
    files: tuple = ()

    def fits(self, package, files=True):
        return (self.version in (package.version, package.upstream,
                                 package.version.split(":", 1)[-1]) and
                self.way in ("", package.way) and
                (not files or not self.files or
                 sorted(self.files) == sorted(package.files)))

    def __str__(self):
        return "%s (%s)" % (self.version, versions.way_title(self.way)) \
            if self.way else self.version

    def line(self, project):
        return " ".join([project, self.version, *([self.way] * bool(self.way)),
                         *("%s=%s" % (name, digest)
                           for digest, name in self.files)])


def check(project, version):
    """A pin on a version; VersionError when there can be no such one."""
    if project not in PROJECTS:
        raise VersionError("no project is called '%s'; there are %s" % (
            project, ", ".join(PROJECTS)))
    what = PROJECTS[project]
    if not re.fullmatch(r"\d[\w.+:~-]*", version) or \
       not versions.is_ours(project, versions.upstream_of(version)):
        raise VersionError(
            "'%s' is no version of %s %s; right is upstream's, like %s, or "
            "all of Debian's, like %s" % (
                version, project, what.series,
                versions.upstream_of(what.example), what.example))
    versions.refuse_too_old(project, versions.upstream_of(version))
    return Pin(version)


def parse_line(line):
    """(project, Pin) of one line."""
    project, _, rest = line.partition(" ")
    version, *rest = rest.split() or [""]
    if project in PROJECTS and rest and rest[0] == DIRECTORY:
        return project, Pin(version, DIRECTORY)
    pin = check(project, version)
    if not rest:
        return project, pin
    way, *files = rest
    files = tuple(tuple(reversed(f.split("=", 1))) for f in files)
    if way not in (SOURCE, PROJECTS[project].binary) or not files or \
       not all(len(f) == 2 and HASH.fullmatch(f[0]) for f in files):
        raise VersionError("'%s' is not NAME VERSION [WAY FILE=SHA256...]" %
                           line)
    return project, Pin(version, way, files)


def read(path):
    """The pins of a file by project, {} when there is no file."""
    try:
        with open(path, encoding="utf-8") as f:
            lines = f.read().splitlines()
    except FileNotFoundError:
        return {}
    except (OSError, UnicodeDecodeError) as error:
        raise VersionError("%s: %s" % (path, error)) from error
    found = {}
    for number, line in enumerate(lines, 1):
        if line.strip() and not line.startswith("#"):
            try:
                project, pin = parse_line(line.strip())
            except VersionError as error:
                raise VersionError("%s:%d: %s" % (path, number,
                                                  error)) from error
            found[project] = pin
    return found


def write(path, pins, comment):
    with open(path + ".new", "w", encoding="utf-8") as f:
        f.write("# %s\n" % comment)
        f.writelines(pins[name].line(name) + "\n" for name in PROJECTS
                     if name in pins)
    os.replace(path + ".new", path)


def parse_option(value):
    """The pins of --pin=VALUE, by project: NAME=VERSION or a file of lines."""
    name, equals, version = value.partition("=")
    if equals and (name in PROJECTS or not os.path.exists(value)):
        return {name: check(name, version)}
    if not os.path.isfile(value):
        raise VersionError("'%s' is neither NAME=VERSION nor a file like the "
                           "one that make writes, BUILDDIR/versions" % value)
    pins = read(value)
    if not pins:
        raise VersionError("%s pins nothing" % value)
    return pins
