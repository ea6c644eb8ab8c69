# SPDX-License-Identifier: GPL-2.0-or-later
#
# Runs inside an emulated host that counts instructions: what the host's work on
# CPUs 0 and 1 costs before CPU 2 is leased, while it is, and afterwards.
#
#   ROUNDS  of each operation, the cheapest of which counts  (300)

. /host/tests/inside/lib/tap.sh

ROUNDS=${ROUNDS:-300}
# What a CPU that is not leased may pay for one that is: a look at a mask where
# a static key has been turned on, some times on the longest way.
MAY_COST=40

measure() { "$FILES/host-cost" "$ROUNDS" >"/tmp/$1"; }

lease() {
	mkfifo /tmp/lease.in
	"$FILES/lease" hold 2 </tmp/lease.in >/tmp/lease 2>&1 &
	exec 4>/tmp/lease.in
	within 60 grep -q '^leased' /tmp/lease
}

release() {
	exec 4>&-
	wait $!
}

cost() { sed -n "s/^cost: $2 //p" "/tmp/$1"; }	# when, operation

compare() {	# when, operation, what it may cost more
	_before=$(cost before "$2") _now=$(cost "$1" "$2")
	echo "$_before instructions before, $_now $1"
	[ "$_now" -le $((_before + $3)) ]
}

ok "the host's work is measured" measure before
ok "CPU 2 is leased" lease
ok "it is measured again" measure meanwhile
ok "CPU 2 is given back" release
ok "it is measured once more" measure after
for operation in syscall switch wake call timer; do
	ok "$operation: a leased core elsewhere costs next to nothing" \
		compare meanwhile $operation $MAY_COST
	ok "$operation: one that was leased costs nothing" \
		compare after $operation 4
done
