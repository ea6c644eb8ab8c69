# SPDX-License-Identifier: GPL-2.0-or-later
"""
Debian's archive, seen through an apt configuration of our own.

The mirror is the one the system itself uses, so this repository names no
host; signatures are checked by apt against Debian's keyring.  Lists, caches
and settings lie under a directory of the caller's: this module must never
change the system's own apt state.
"""

import contextlib
import fcntl
import os
import re
import subprocess

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
APT_HELPER = "/usr/lib/apt/apt-helper"


class DebianError(Exception):
    """No apt, no mirror, or the archive did not give what was asked."""


def compare(a, b):
    """Debian's order of two version strings, as -1, 0 or 1."""
    def holds(relation):
        return subprocess.run(["dpkg", "--compare-versions", a, relation, b],
                              check=False).returncode == 0
    return holds("gt") - holds("lt")


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
        with self._alone():
            self._configure(sources, system_status)

    @contextlib.contextmanager
    def _alone(self):
        """Others that use the same directory wait: apt does not, it fails."""
        with open(os.path.join(self.dir, "lock"), "w",
                  encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def _configure(self, sources, system_status):
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

    def update(self):
        # Without --error-on, apt-get calls it success when nothing came.
        with self._alone():
            done = subprocess.run(
                ["apt-get", "-c", self.conf, "-q", "--error-on=any",
                 "update"],
                check=False, stderr=subprocess.PIPE, text=True)
        if done.returncode:
            raise DebianError("apt-get update failed with %s: %s" % (
                self.conf, " ".join(done.stderr.split())))

    def stanzas(self, *command):
        """What an apt-cache command prints, as one dict per stanza."""
        with self._alone():
            out = subprocess.run(
                ["apt-cache", "-c", self.conf, *command], check=False,
                stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                text=True).stdout
        return [dict(re.findall(r"^([\w-]+): *((?:.*)(?:\n .*)*)", stanza,
                                re.M))
                for stanza in out.split("\n\n")]

    def sources(self, package):
        """The versions of a source package, in no order.

        Each is (version, directory, [(sha256, file name), ...]).
        """
        return [(fields["Version"], fields["Directory"],
                 re.findall(r"([0-9a-f]{64}) \d+ (\S+)",
                            fields.get("Checksums-Sha256", "")))
                for fields in self.stanzas("showsrc", "--only-source",
                                           package)
                if fields.get("Package") == package]

    def binaries(self, package):
        """The versions of a binary package, in the form of sources()."""
        found = []
        for fields in self.stanzas("show", package):
            if fields.get("Package") == package and "SHA256" in fields:
                directory, name = os.path.split(fields["Filename"])
                found.append((fields["Version"], directory,
                              [(fields["SHA256"], name)]))
        return found

    def download(self, path, sha256, target):
        """Fetch a file of the archive; None, or why it did not come whole.

        path: below the mirror's root.
        """
        done = subprocess.run(
            [APT_HELPER, "-c", self.conf, "download-file",
             mirror().rstrip("/") + "/" + path, target, "SHA256:" + sha256],
            check=False, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True)
        if done.returncode == 0:
            return None
        # "Err:1 URI", and the reason below it.
        match = re.search(r"^Err:.*\n +(.*?)(?: \[IP: .*)?$", done.stdout,
                          re.M)
        return " ".join((match.group(1) if match else done.stdout).split())
