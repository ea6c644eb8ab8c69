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
 *   Reroute   the RTC's interrupt gets another vector, by the hand of another CPU
 *   Rerouted  __kvm_hpkvm_deliver() of that: hpkvm_ioapic_handles()
 *   Tracker   kvm_apic_pending_eoi(), on another CPU
 *   Vcpu      kvm_hpkvm_scan_requested(), vcpu_scan_ioapic(), __kvm_hpkvm_scan_end();
 *             hpkvm_flush_pending(); the guest; hpkvm_intercepted_eoi() and stock
 *             KVM's EOI
 *
 * Faults:
 *   VIRTUAL   kvm_apic_pending_eoi() does not know what only the core has
 *   IN_PLACE  a scan can be seen half done
 *   OLD       senders know of a scan when it is complete
 *   UNMARKED  the request is gone before the scan can be seen to be under way
 *   CLEARED   the vector leaves the virtual IRR before it is in eoi_vectors
 */

#define TIMES 2

bool virr, visr, eoi_vectors;	/* the line's vector in KVM's local APIC */
bool core;			/* ... and in the core's: pending or in service */
bool given;			/* from the virtual IRR to the EOI: it is pending */
bool remote_irr;
bool match = true;		/* the line's entry has this vCPU for its target */
bool handled = true, handled_rtc = true, scanned, scanned_rerouted;
bool scan_request, scanning;
bool rerouted, handled_rerouted;	/* the RTC's new vector */
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

/* Both are done under the I/O APIC's lock. */
active proctype Reroute()
{
	atomic { rerouted = true; scan_request = true }
}

active proctype Rerouted()
{
	bool virtual;

	rerouted;
#ifndef OLD
	virtual = scan_request;
	virtual = virtual || scanning;
#endif
	virtual = virtual || handled_rerouted;
	assert(virtual)
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
	scanned_rerouted = rerouted;
	handled = scanned;
	handled_rtc = true;
	handled_rerouted = scanned_rerouted
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
	:: scan_request ->
#ifdef UNMARKED
		scan_request = false;
		scanning = true;
#else
		scanning = true;
		scan_request = false;
#endif
		scan();
		scanning = false
	:: virr && !core -> inject()
	:: core -> eoi()
	od
}

/* Nothing moves any more: then the line is alive. */
active proctype Watch()
{
	timeout -> assert(!remote_irr && lines == TIMES)
}
