# SPDX-License-Identifier: GPL-2.0-or-later
#
# Sourced by the build-* scripts: one environment for every compiler run.
#
# Owns PATH and the ccache settings.  Callers set $build (the build directory,
# absolute) first.  It must not decide what is built.

# Debian's own tools: another python3 or gcc earlier in PATH breaks QEMU's
# configure, and would not be the one that the dependencies were checked for.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
export LC_ALL=C.UTF-8

cc=gcc
if command -v ccache >/dev/null; then
	cc="ccache gcc"
	# A clone elsewhere on the machine must hit the same entries: paths
	# below the build directory count as relative, and the directory that
	# debug information would name does not count at all.
	export CCACHE_BASEDIR=$build
	export CCACHE_NOHASHDIR=1
	# Three kernels and QEMU must fit side by side.
	: "${CCACHE_MAXSIZE:=10G}"
	export CCACHE_MAXSIZE
fi

jobs=${HP_JOBS:-$(nproc)}
