# SPDX-License-Identifier: GPL-2.0-or-later
#
# Shell functions, for use inside the emulated host, that read what the kernel
# counts of interrupts.  Sourced, never run.

# interrupts ROW CPU: how often, of a named row of /proc/interrupts.
interrupts() {
	sed -n "s/^ *$1: *//p" /proc/interrupts |
		awk -v column=$(($2 + 1)) '{ print $column }'
}
