/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The I/O APIC hears of each EOI that it waits for, though the interrupt is in the
 * local APIC of a core, and its redirection entry gets another target at any time.
 *
 *   Line      a level-triggered line: __kvm_hpkvm_deliver() leaves its interrupt to
 *             the virtual IRR
 *   Retarget  the guest writes the redirection entry, on another vCPU
 *   Rtc       an edge-triggered interrupt whose EOI KVM follows, sent on another CPU:
 *             __kvm_hpkvm_deliver() looks whether KVM must see its EOI
 *   Tracker   kvm_apic_pending_eoi(), on another CPU
 *   Vcpu      vcpu_scan_ioapic(), __kvm_hpkvm_scan_end(); hpkvm_flush_pending(); the
 *             guest; hpkvm_intercepted_eoi() and stock KVM's EOI
 *
 * Faults:
 *   VIRTUAL   kvm_apic_pending_eoi() does not know what only the core has
 *   IN_PLACE  a scan can be seen half done
 *   CLEARED   the vector leaves the virtual IRR before it is in eoi_vectors
 */

#define TIMES 2

bool virr, visr, eoi_vectors;	/* the line's vector in KVM's local APIC */
bool core;			/* ... and in the core's: pending or in service */
bool given;			/* from the virtual IRR to the EOI: it is pending */
bool remote_irr;
bool match = true;		/* the line's entry has this vCPU for its target */
bool handled = true, handled_rtc = true, scanned;
bool scan_request;
byte lines;

#ifdef VIRTUAL
#define PENDING (visr || virr)
#else
#define PENDING (visr || virr || eoi_vectors)
#endif

active proctype Line()
{
	do
	:: lines < TIMES ->
		/* With another target it is no matter of this vCPU's. */
		if
		:: atomic { match && !remote_irr ->
			remote_irr = true; virr = true; given = true; lines++ }
		:: atomic { !match && !remote_irr -> lines++ }
		fi
	:: else -> break
	od
}

active proctype Retarget()
{
	match = false;
	scan_request = true
}

/* Its entry does not change. */
active proctype Rtc()
{
	byte n;

	do
	:: n < TIMES -> n++; assert(handled_rtc)
	:: else -> break
	od
}

/* In the order of the function's tests. */
active proctype Tracker()
{
	bool seen;
	byte which;

	do
	:: atomic { given && !visr -> which = lines };
		seen = visr;
		seen = seen || virr;
#ifndef VIRTUAL
		seen = seen || eoi_vectors;
#endif
		/* Once its EOI has come, both answers are right. */
		assert(seen || !given || which != lines)
	:: timeout -> break
	od
}

inline scan()
{
#ifdef IN_PLACE
	handled = false;
	handled_rtc = false;
#endif
	scanned = match || PENDING;
	handled = scanned;
	handled_rtc = true
}

inline inject()
{
#ifdef CLEARED
	virr = false;
	eoi_vectors = true;
#else
	eoi_vectors = true;
	virr = false;
#endif
	core = true
}

inline eoi()
{
	given = false;
	core = false;
	visr = true;
	eoi_vectors = false;
	visr = false;
	if
	:: handled -> remote_irr = false
	:: else
	fi
}

active proctype Vcpu()
{
end:	do
	:: scan_request -> scan_request = false; scan()
	:: virr && !core -> inject()
	:: core -> eoi()
	od
}

/* Nothing moves any more: then the line is alive. */
active proctype Watch()
{
	timeout -> assert(!remote_irr && lines == TIMES)
}
