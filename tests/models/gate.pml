/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The host's work on a leased core: what another CPU defers to it is done,
 * whatever the core does at that moment, the guest never sees the host's vector,
 * and a TLB flush that was asked for comes before the guest's next instruction.
 *
 *   Sender    dedicated_defer(), on another CPU; before it, an MMU notifier that
 *             asks for a flush, and after it the owner of the memory, who frees it
 *   Nmi       dedicated_nmi(), dedicated_reach(), dedicated_raise(): between any
 *             two steps of the core's, which stands still meanwhile
 *   Core      dedicated_close_apic(); then vcpu_enter_guest(), kvm_hpkvm_enter(),
 *             the guest, kvm_hpkvm_exit(); and the idle loop
 *   Apic      the local APIC: a self-IPI is accepted, and then in the IRR, some time
 *             after it was sent; dedicated_send_host_vector() waits for that
 *   interrupt sysvec_dedicated_cpu(), dedicated_shut_gate(),
 *             dedicated_run_deferred(), dedicated_skip_idle()
 *
 * With -DVMX, NMIs come in the entry window, and vmx_hpkvm_stop_entry() makes
 * the entry exit; without, GIF is 0 there (SVM).
 *
 * Faults:
 *   ORDER     dedicated_close_apic() looks at raised before it sets gated
 *   CANCEL    an abandoned entry takes its TLB flush for done
 *   NO_STOP   with -DVMX: an NMI in the entry window does not stop the entry
 *   RAISE     with -DVMX: an NMI in the entry window raises at once
 *   NO_LOOK   shutting the gate does not look at raised again
 *   SLEEP     the host vector's handler returns to HLT
 *   OPEN      the entry does not look at the deferred work
 *   LATE      a self-IPI is taken to be in the IRR as soon as it was sent
 */

#define SENDS 2

mtype = { SHUT, AJAR, OPEN_ };

bool deferred;			/* dedicated_cpu.deferred, one bit of it */
bool raised, ajar, gated;
bool flying, irr;		/* the host vector was sent; it is pending */
mtype cr8 = OPEN_;
bool nmi;			/* one is latched */
bool in_nmi;
bool gif = true;
bool in_guest;
bool stop_entry, stopped;	/* the window is open; an NMI came in it */
bool timer_0;			/* VMX: the preemption timer has expired */
bool resched;			/* what the deferred work left for the idle loop */
bool request, tlb_ctl;		/* KVM_REQ_TLB_FLUSH; the flush at VM entry */
bool stale;			/* the TLB has a translation that is no more */
bool freed;			/* ... of memory that somebody else has by now */
byte done;

active proctype Sender()
{
	byte n;

	do
	:: n < SENDS ->
		n++;
		freed = false;
		stale = true;
		request = true;
		/* test_and_set_bit() */
		if
		:: atomic { deferred -> skip }
		:: atomic { !deferred -> deferred = true }; nmi = true
		fi;
		/* The memory is freed when the CPU has answered. */
		!deferred;
		freed = true;
		done++
	:: else -> break
	od
}

inline raise()
{
	if
	:: gated -> ajar = true; cr8 = AJAR
	:: else
	fi;
	raised = true;
	flying = true;
#ifndef LATE
	!flying
#endif
}

active proctype Apic()
{
end:	do
	:: atomic { flying -> flying = false; irr = true }
	od
}

active proctype Nmi()
{
end:	do
	:: atomic { nmi && gif && !in_guest -> nmi = false; in_nmi = true };
		if
		:: deferred && !stop_entry -> raise()
		:: deferred && stop_entry ->
#ifdef RAISE
			raise();
#endif
			stopped = true;
#ifndef NO_STOP
			timer_0 = true;
#endif
		:: else
		fi;
		in_nmi = false
	od
}

/* Interrupts are on: the host vector comes in if the gate lets it. */
inline interrupt()
{
	if
	:: irr && cr8 != SHUT ->
		irr = false;
		/* dedicated_shut_gate() */
		raised = false;
		if
		:: !gated
		:: gated && irr -> raised = true; cr8 = AJAR
		:: else ->
			cr8 = SHUT;
			ajar = false;
#ifndef NO_LOOK
			if
			:: raised -> ajar = true; cr8 = AJAR
			:: else
			fi
#endif
		fi;
		/* dedicated_run_deferred() */
		if
		:: atomic { deferred -> deferred = false; resched = true }
		:: else
		fi
	:: else
	fi
}

/* dedicated_cpu_may_enter() found something: it is done when this is over. */
inline let_in()
{
	assert(!raised || irr && cr8 != SHUT);
	interrupt()
}

inline close_apic()
{
#ifdef ORDER
	bool before;
	before = raised;
#endif
	cr8 = SHUT;
	gated = true;
#ifdef ORDER
	if
	:: before -> ajar = true; cr8 = AJAR
#else
	if
	:: raised -> ajar = true; cr8 = AJAR
#endif
	:: else
	fi
}

inline end_window()
{
	stop_entry = false;
	if
	:: stopped ->
		if
		:: (deferred || raised) && !raised -> raise()
		:: else
		fi
	:: else
	fi
}

inline enter_guest()
{
	/* kvm_vcpu_exit_request(): the loop around this has called schedule(). */
	resched = false;
	if
	:: request -> request = false; tlb_ctl = true
	:: else
	fi;
	timer_0 = false;
#ifdef VMX
	stopped = false;
	stop_entry = true;
#else
#ifndef OPEN
	gif = false;
#endif
#endif
	if
#ifndef OPEN
	:: deferred || raised ->
		if
		:: !raised -> raise()
		:: else
		fi;
		end_window();
#ifdef CANCEL
		tlb_ctl = false;
#endif
		gif = true;
		let_in()
#endif
	:: else ->
		cr8 = OPEN_;
		gif = false;
		/* A request made meanwhile came with an NMI. */
		atomic {
			assert(!irr && !flying);
			in_guest = true;
			if
			:: tlb_ctl -> stale = false
			:: else
			fi;
			tlb_ctl = false
		};
		/* It is for ever in there, if nobody comes for it. */
		do
		:: nmi || timer_0 -> break
		:: atomic { !nmi && !timer_0 && freed && stale && !request ->
			assert(false) }
		od;
		in_guest = false;
		cr8 = SHUT;
		end_window();
		gif = true;
		interrupt()
	fi
}

/* STI holds interrupts off until HLT waits, but no NMI, which ends that. */
inline idle()
{
	bool nmi_came, skips;

	nmi_came = false;
	skips = false;
	if
	:: resched -> resched = false
	:: !resched ->
		if
		:: nmi -> !nmi && !in_nmi; nmi_came = true
		:: else
		fi;
		if
		:: nmi_came && irr && cr8 != SHUT ->
			interrupt();
#ifndef SLEEP
			skips = true
#endif
		:: else
		fi;
		if
		:: !skips ->
			irr && cr8 != SHUT || nmi;
			!nmi && !in_nmi;
			interrupt()
		:: else
		fi
	fi
}

active proctype Core() provided (!in_nmi)
{
	interrupt();
	close_apic();
	do
	:: true -> interrupt()
	:: true -> enter_guest()
	:: true -> idle()
	od
}

/* Nothing moves any more: then nothing is left to do. */
active proctype Watch()
{
	timeout -> assert(!deferred && !raised && !resched && done == SENDS)
}
