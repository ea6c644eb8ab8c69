/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An interrupt between its senders and a vCPU that is promoted and demoted: it
 * is in the one local APIC or in the other, and the guest sees it.
 *
 *   Sender    __kvm_hpkvm_deliver(), dedicated_cpu_send_guest(): a CPU of the
 *             host's
 *   Fast      HPKVM_SEND_IPI: another vCPU's, without C
 *   Bus       what is between two local APICs
 *   Vcpu      hpkvm_promote(), kvm_hpkvm_enter(), hpkvm_flush_pending(), the
 *             guest, __kvm_hpkvm_demote(), hpkvm_stop_senders(),
 *             hpkvm_await_arrivals(), hpkvm_take_snapshot(),
 *             dedicated_cpu_release(); and dedicated_capture(), which may come
 *             whenever the host's gate is ajar
 *
 * Interrupts of one vector merge, as in any IRR: what may not be lost is that
 * the guest's handler runs after the sender wrote what it is to see.
 *
 * Faults:
 *   NO_COUNT   a demotion does not wait for senders
 *   NO_FLIGHT  ... nor for what they have sent
 *   NO_BUSY    ... nor for those without C
 *   LATE_MAP   those find the vCPU in the map until the core was emptied
 *   CAPTURED   a demotion forgets what was captured
 *   MERGE      what was captured is handed over before it can be sent again
 *   NO_FLUSH   a promotion leaves KVM's IRR where it is
 */

#define SENDS 2

bool leased;
bool passthrough;		/* kvm_vcpu_hpkvm.passthrough */
bool map;			/* the vCPU is in its VM's hpkvm_ipi_map */
bool virr;			/* the vector is in KVM's IRR */
bool pirr;			/* ... in the core's */
bool captured;			/* ... in dedicated_cpu.captured */
bool flight;			/* an interrupt is on its way to the core */
bool counted[2];		/* a sender is in kvm_vcpu_hpkvm.senders */
bool busy;			/* hpkvm_ipi_sender.busy */
bool owed[2];			/* written for the handler, and not seen by it */
byte done;

inline send_guest()
{
	if
	:: captured
	:: !captured -> flight = true
	fi
}

active proctype Bus()
{
end:
	do
	:: atomic { flight -> assert(leased); flight = false; pirr = true }
	od
}

active proctype Sender()
{
	byte n;

	do
	:: n < SENDS ->
		n++;
		owed[0] = true;
		counted[0] = true;
		if
		:: passthrough -> send_guest()
		:: !passthrough -> virr = true
		fi;
		counted[0] = false
	:: else -> break
	od;
	done++
}

active proctype Fast()
{
	byte n;

	do
	:: n < SENDS ->
		n++;
		owed[1] = true;
		busy = true;
		if
		:: map -> send_guest(); busy = false
		:: !map ->
			busy = false;
			/* It goes to C. */
			counted[1] = true;
			if
			:: passthrough -> send_guest()
			:: !passthrough -> virr = true
			fi;
			counted[1] = false
		fi
	:: else -> break
	od;
	done++
}

/* Its handler sees all that was written before it was sent. */
inline handler()
{
	owed[0] = false;
	owed[1] = false
}

/* Anything that lets the host's vector in. */
inline host_runs()
{
	if
	:: pirr -> atomic { captured = true; pirr = false }
	:: true
	fi
}

inline promote()
{
	passthrough = true;
	map = true
}

inline enter_passthrough()
{
#ifndef NO_FLUSH
	if
	:: virr -> virr = false; pirr = true
	:: else
	fi;
#endif
	if
	:: captured ->
#ifdef MERGE
		pirr = true;
		atomic { pirr -> pirr = false; handler() };
		captured = false
#else
		captured = false;
		pirr = true
#endif
	:: else
	fi;
	/* In the guest until there is something else to do. */
	do
	:: atomic { pirr -> pirr = false; handler() }
	:: true -> break
	od
}

inline enter_emulated()
{
	do
	:: atomic { virr -> virr = false; handler() }
	:: true -> break
	od
}

inline demote()
{
	bool snap;

	passthrough = false;
#ifndef LATE_MAP
	map = false;
#ifndef NO_BUSY
	!busy;
#endif
#endif
#ifndef NO_COUNT
	!counted[0];
	!counted[1];
#endif
#ifndef NO_FLIGHT
	!flight;
#endif
	/* dedicated_cpu_drain() */
	snap = pirr;
	pirr = false;
#ifndef CAPTURED
	snap = snap || captured;
#endif
	captured = false;
#ifdef LATE_MAP
	map = false;
	!busy;
#endif
	if
	:: snap -> virr = true
	:: else
	fi;
	snap = false
}

active proctype Vcpu()
{
	do
	:: !leased -> leased = true
	:: leased && !passthrough -> promote()
	:: leased && passthrough -> host_runs()
	:: leased && passthrough -> enter_passthrough()
	:: leased && passthrough -> demote()
	:: !passthrough -> enter_emulated()
	:: leased && !passthrough -> assert(!pirr && !flight); leased = false
	/* All is said: let it run as it is, until nothing is left. */
	:: done == 2 ->
		if
		:: passthrough -> enter_passthrough(); assert(!virr)
		:: !passthrough ->
			do
			:: atomic { virr -> virr = false; handler() }
			:: else -> break
			od
		fi;
		if
		:: !virr && !pirr && !captured && !flight -> break
		:: else
		fi
	od;
	assert(!owed[0] && !owed[1])
}
