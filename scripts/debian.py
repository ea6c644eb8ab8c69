# SPDX-License-Identifier: GPL-2.0-or-later
"""
Debian's archive, seen through an apt configuration of our own.

The mirror is the one the system itself uses, so this repository names no
host; signatures are checked by apt against Debian's keyring.  Lists, caches
and settings lie under a directory of the caller's: this module must never
change the system's own apt state.
"""

import contextlib
import functools
import os
import re
import subprocess

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
APT_HELPER = "/usr/lib/apt/apt-helper"


class DebianError(Exception):
    """No apt, no mirror, or the archive did not give what was asked."""


@contextlib.contextmanager
def output_to_stderr():
    """What apt says is no output of the program that has it fetch."""
    saved = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(saved, 1)
        os.close(saved)


def codename():
    """The system's own release, "bookworm" for instance; "" if unknown."""
    try:
        with open("/etc/os-release", encoding="utf-8") as f:
            match = re.search(r"^VERSION_CODENAME=(\S+)", f.read(), re.M)
    except OSError:
        match = None
    return match.group(1) if match else ""


def mirror():
    """The URI that the system's sources give for its own release."""
    try:
        out = subprocess.run(
            ["apt-get", "indextargets", "--no-release-info",
             "--format", "$(REPO_URI)|$(RELEASE)|$(COMPONENT)"],
            check=True, stdout=subprocess.PIPE, text=True).stdout
    except (OSError, subprocess.CalledProcessError) as error:
        raise DebianError("apt-get does not run here: %s" % error) from error
    release = codename()
    for line in out.splitlines():
        uri, suite, component = line.split("|")
        if component == "main" and suite in (release, "stable"):
            return uri
    raise DebianError("the system's apt sources have no entry for '%s main' "
                      "to take a mirror from" % release)


class Apt:
    """A private apt: its own sources, lists and caches under directory."""

    def __init__(self, directory, sources, system_status=False):
        """sources: lines like "deb-src trixie main".

        system_status: know what is installed (for installing packages).
        """
        self.dir = os.path.abspath(directory)
        self.conf = os.path.join(self.dir, "apt.conf")
        for sub in ("lists/partial", "cache/archives/partial"):
            os.makedirs(os.path.join(self.dir, sub), exist_ok=True)
        uri = mirror()
        with open(os.path.join(self.dir, "sources.list"), "w",
                  encoding="utf-8") as f:
            for line in sources:
                kind, rest = line.split(" ", 1)
                f.write("%s [signed-by=%s] %s %s\n" %
                        (kind, KEYRING, uri, rest))
        settings = {
            "Dir::State::Lists": self.dir + "/lists",
            "Dir::Cache": self.dir + "/cache",
            "Dir::Etc::SourceList": self.dir + "/sources.list",
            "Dir::Etc::SourceParts": "-",
            # The directory may be one that apt's own user cannot enter.
            "APT::Sandbox::User": "root",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
        }
        if not system_status:
            settings["Dir::State"] = self.dir
            settings["Dir::State::status"] = self.dir + "/status"
            with open(self.dir + "/status", "w", encoding="utf-8"):
                pass
        with open(self.conf, "w", encoding="utf-8") as f:
            for key, value in settings.items():
                f.write('%s "%s";\n' % (key, value))

    def run(self, *command, quiet=False):
        """Run an apt program with this configuration; False on failure."""
        return subprocess.run(
            (command[0], "-c", self.conf) + command[1:], check=False,
            stdout=subprocess.DEVNULL if quiet else None,
            stderr=subprocess.STDOUT if quiet else None).returncode == 0

    def update(self):
        if not self.run("apt-get", "-q", "update"):
            raise DebianError("apt-get update failed with " + self.conf)

    def sources(self, package):
        """The versions of a source package, newest first.

        Each is (version, directory, [(sha256, file name), ...]).
        """
        out = subprocess.run(
            ["apt-cache", "-c", self.conf, "showsrc", "--only-source",
             package], check=False, stdout=subprocess.PIPE, text=True).stdout
        found = []
        for stanza in out.split("\n\n"):
            fields = dict(re.findall(r"^([\w-]+): *((?:.*)(?:\n .*)*)",
                                     stanza, re.M))
            if fields.get("Package") != package:
                continue
            files = re.findall(r"([0-9a-f]{64}) \d+ (\S+)",
                               fields.get("Checksums-Sha256", ""))
            found.append((fields["Version"], fields["Directory"], files))

        def compare(a, b):
            newer = subprocess.run(["dpkg", "--compare-versions", a[0], "gt",
                                    b[0]], check=False).returncode == 0
            return -1 if newer else 1

        return sorted(found, key=functools.cmp_to_key(compare))

    def download(self, path, sha256, target):
        """Fetch a file of the archive; True when it came and its hash fits.

        path: below the mirror's root.
        """
        return self.run(APT_HELPER, "download-file",
                        mirror().rstrip("/") + "/" + path, target,
                        "SHA256:" + sha256, quiet=True)
