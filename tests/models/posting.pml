/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a processor posts for a vCPU finds it, wherever it sleeps or runs, while the
 * core below it is leased; and no notification reaches the leased core.
 *
 *   Device   a processor with IPI virtualization, or an IOMMU: posts, and notifies
 *            whom the descriptor names
 *   Vcpu     on the core X: vmx_vcpu_pi_load(), pi_delegate(), pi_try_join();
 *            vmx_vcpu_pi_put(), pi_enable_wakeup_handler(), pi_has_deputy(),
 *            pi_end_delegation()
 *   Lease    dedicated_lease_this_cpu(), vmx_pi_leave_cpu(), pi_leave_cpu()
 *   HandlerX, HandlerD   pi_wakeup_handler(), pi_wake_up(): on X, and on a deputy
 *
 * What the vCPU's thread does with preemption off is never amid a step of the
 * lease's: both are on X.  A thread that was loaded when the lease came was
 * scheduled out, and is loaded again before it goes on.  Who schedules, and who
 * wakes, holds X's runqueue.
 *
 * Faults:
 *   STAY      a lease leaves those who sleep on X's list
 *   LATE      it moves them, and does not ask whether something was posted before
 *   AIMED     a vCPU that was put still aims its notifications at X
 *   OWN       a vCPU that is loaded on a leased core aims them at it
 *   WAKE      the deputy wakes, and does not kick
 *   RUNQUEUE  who is scheduled out leaves the deputy's list
 */

#define POSTS 2
#define TURNS 3

#define NONE 0
#define X 1
#define D 2

bool pir, on, sn;		/* the descriptor */
byte ndst = X;
bool nv_wake;			/* the wake-up vector, or the one that guests take */
byte list;			/* pi_wakeup_cpu */
bool lock_x, lock_d, cpu_x;	/* cpu_x: the thread has preemption off */
bool rq_x, out;			/* out: it is scheduled out, not just put */
bool leased, closed;
bool loaded, preempted;
bool in_guest, sleeps;		/* sleeps: the thread's state says so */
bool irr_x, irr_d;		/* the wake-up vector's */

inline take(l) { atomic { !l -> l = true } }

inline notify()
{
	if
	:: ndst == X ->
		/* The guest that holds the core would get it. */
		assert(!closed);
		if
		:: nv_wake -> irr_x = true
		:: !nv_wake && in_guest -> on = false; pir = false
		:: else
		fi
	:: ndst == D && nv_wake -> irr_d = true
	:: else
	fi
}

active proctype Device()
{
	byte posts;

	do
	:: posts < POSTS ->
		posts++;
		atomic {
			pir = true;
			if
			:: !on && !sn -> on = true; notify()
			:: else
			fi
		}
	:: else -> break
	od
}

inline load()
{
	take(cpu_x);
	if
	:: list == X -> take(lock_x); list = NONE; lock_x = false
	:: list == D -> take(lock_d); list = NONE; lock_d = false
	:: else
	fi;
	if
#ifdef OWN
	:: false ->
#else
	:: leased ->
#endif
		take(lock_d);
		list = D;
		atomic { ndst = D; nv_wake = true; sn = false };
		lock_d = false
	:: else ->
		atomic { ndst = X; nv_wake = false; sn = false }
	fi;
	if
	:: pir -> on = true
	:: else
	fi;
	atomic { loaded = true; cpu_x = false }
}

/* The thread has cpu_x. */
inline put()
{
	if
	:: out -> take(rq_x)
	:: else
	fi;
	if
	:: sleeps && list == NONE ->
		take(lock_x); list = X; lock_x = false;
		nv_wake = true;
		if
		:: on -> irr_x = true
		:: else
		fi
	:: sleeps && list == D ->
		if
		:: on -> irr_d = true
		:: else
		fi
#ifndef RUNQUEUE
	:: !sleeps && list == D && out -> sn = true
	:: !sleeps && list == D && !out ->
#else
	:: !sleeps && list == D ->
#endif
		take(lock_d); list = NONE; lock_d = false;
		atomic { ndst = X; nv_wake = false; sn = true }
	:: else
	fi;
	atomic { loaded = false; cpu_x = false };
	if
	:: out -> rq_x = false
	:: else
	fi
}

active proctype Vcpu()
{
	byte turns;

	do
	:: true ->
reload:		load();
		/* In the guest, after vmx_sync_pir_to_irr(). */
again:		atomic {
			if
			:: preempted -> preempted = false; goto reload
			:: else -> in_guest = true
			fi;
			if
			:: on -> on = false; pir = false
			:: else
			fi
		};
		if
		:: turns < TURNS ->
			/* It exits: to sleep in HLT, for another task, to user space. */
			turns++;
			in_guest = false;
			if
			:: sleeps = true;
				/* kvm_vcpu_check_block() */
				if
				:: on -> sleeps = false
				:: else
				fi;
				out = true
			:: out = true
			:: out = false
			fi;
			do
			:: atomic { !cpu_x && !preempted -> cpu_x = true }; break
			:: atomic { preempted -> preempted = false }; load()
			od;
			put();
end_asleep:		!sleeps
		:: true ->
			/* Or it stays there until it is kicked. */
end_running:		!in_guest -> goto again
		fi
	od
}

inline wake()
{
	if
	:: sleeps -> take(rq_x); sleeps = false; rq_x = false
#ifndef WAKE
	:: else -> in_guest = false
#else
	:: else
#endif
	fi
}

active proctype Lease()
{
	bool moved;

	atomic { !cpu_x -> leased = true;
		if
		:: loaded -> preempted = true; in_guest = false; sn = true
		:: else
		fi
	};
	atomic { !cpu_x && !lock_x -> lock_x = true };
#ifndef STAY
	moved = list == X;
	if
	:: moved -> take(lock_d); list = D; lock_d = false
	:: else
	fi;
#endif
	atomic {
		if
		:: ndst == X && moved -> ndst = D
#ifndef AIMED
		:: ndst == X && !moved && !nv_wake -> sn = true
#endif
		:: else
		fi
	};
#ifndef LATE
	if
	:: moved && on -> wake()
	:: else
	fi;
#endif
	lock_x = false;
	/* dedicated_wait_for_last_ipis() */
	atomic { !irr_x && !cpu_x -> closed = true }
}

active proctype HandlerX()
{
end:	do
	:: irr_x ->
		irr_x = false;
		take(lock_x);
		if
		:: list == X && on -> wake()
		:: else
		fi;
		lock_x = false
	od
}

active proctype HandlerD()
{
end:	do
	:: irr_d ->
		irr_d = false;
		take(lock_d);
		if
		:: list == D && on -> wake()
		:: else
		fi;
		lock_d = false
	od
}

/* Nothing moves any more: then all that was posted has been seen. */
active proctype Watch()
{
	timeout -> assert(!pir)
}
