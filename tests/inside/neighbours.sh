# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host that counts instructions: what the host's work on
# CPUs 0 and 1 costs before CPU 2 is leased, while it is, and afterwards.
#
#   ROUNDS  of each operation, whose median counts  (1000)

. /host/tests/inside/lib/tap.sh
. /host/tests/inside/lib/lease.sh

ROUNDS=${ROUNDS:-1000}

measure() { "$FILES/host-cost" "$ROUNDS" >"/tmp/$1"; }

cost() { sed -n "s/^cost: $2 //p" "/tmp/$1"; }	# when, operation

compare() {	# when, operation, what it may cost more
	_before=$(cost before "$2") _now=$(cost "$1" "$2")
	echo "$_before instructions before, $_now $1"
	[ "$_now" -le $((_before + $3)) ]
}

ok "the host's work is measured" measure before
ok "CPU 2 is leased" lease hold 2
ok "it is measured again" measure meanwhile
ok "CPU 2 is given back" release
ok "it is measured once more" measure after
# What a CPU that is not leased may pay for one that is: looks at a mask, where
# static keys have been turned on.  docs/internals.md says where.
while read -r operation may_cost; do
	ok "$operation: a leased core elsewhere costs little" \
		compare meanwhile "$operation" "$may_cost"
	ok "$operation: one that was leased costs nothing" \
		compare after "$operation" 4
done <<-END
	syscall 0
	switch 40
	wake 10
	call 60
	timer 12
END
