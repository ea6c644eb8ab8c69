# SPDX-License-Identifier: GPL-2.0-or-later
#
# Waiting, for use inside the emulated host.  Sourced by tap.sh and vm.sh, never
# run.

# within SECONDS COMMAND...: COMMAND succeeds, or will before they are over.
within() {
	local end=$(($(date +%s) + $1))
	shift
	until "$@"; do
		[ "$(date +%s)" -lt $end ] || return 1
		sleep 0.2
	done
}

not() { ! "$@"; }
