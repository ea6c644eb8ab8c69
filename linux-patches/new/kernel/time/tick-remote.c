// SPDX-License-Identifier: GPL-2.0-only
/*
 * A clock event device for a CPU that has given its timer hardware away.
 *
 * The event is kept by an hrtimer on a housekeeping CPU, which then raises
 * LOCAL_TIMER work on the remote CPU through a function of the architecture.
 * The device is registered and unbound through the clockevents core like any
 * other: this file must never touch another device's callbacks.
 *
 * ->set_next_ktime() runs below the hrtimer base lock of the remote CPU, so
 * it cannot take the base lock of the housekeeping CPU.  It stores the expiry
 * and queues a hard irq_work over there instead.
 */
#include <linux/clockchips.h>
#include <linux/dedicated_cpu.h>
#include <linux/hrtimer.h>
#include <linux/irq_work.h>
#include <linux/percpu.h>
#include <linux/sched/isolation.h>

#include "tick-internal.h"

struct tick_remote {
	struct clock_event_device evt;
	struct hrtimer timer;
	struct irq_work arm;
	raw_spinlock_t lock;	/* serializes arm on different CPUs */
	ktime_t expires;	/* written by the remote CPU only */
	unsigned int cpu;
	unsigned int keeper;	/* the housekeeping CPU used last */
	bool initialized;
	void (*raise)(unsigned int cpu);
};

static DEFINE_PER_CPU(struct tick_remote, tick_remote);

/**
 * cpu_dedicated_stand_in - a CPU that can do what a dedicated one can't
 *
 * Return: the first housekeeping CPU that is online and not dedicated itself, or
 * the first other one: there is one as long as a CPU is dedicated.
 */
unsigned int cpu_dedicated_stand_in(void)
{
	unsigned int cpu;

	for_each_cpu(cpu, housekeeping_cpumask(HK_TYPE_TIMER)) {
		if (cpu_can_stand_in(cpu))
			return cpu;
	}
	for_each_online_cpu(cpu) {
		if (!cpu_dedicated(cpu))
			break;
	}
	return cpu;
}

static unsigned int tick_remote_keeper(struct tick_remote *tr)
{
	unsigned int cpu = READ_ONCE(tr->keeper);

	if (cpu_can_stand_in(cpu))
		return cpu;

	cpu = cpu_dedicated_stand_in();
	WRITE_ONCE(tr->keeper, cpu);
	return cpu;
}

static void tick_remote_arm(struct irq_work *work)
{
	struct tick_remote *tr = container_of(work, struct tick_remote, arm);
	ktime_t expires;

	raw_spin_lock(&tr->lock);
	expires = READ_ONCE(tr->expires);
	if (expires == KTIME_MAX)
		hrtimer_try_to_cancel(&tr->timer);
	else
		hrtimer_start(&tr->timer, expires, HRTIMER_MODE_ABS_PINNED_HARD);
	raw_spin_unlock(&tr->lock);
}

static enum hrtimer_restart tick_remote_expire(struct hrtimer *timer)
{
	struct tick_remote *tr = container_of(timer, struct tick_remote, timer);

	/* A later expiry has its own arm work on the way. */
	if (READ_ONCE(tr->expires) <= ktime_get())
		tr->raise(tr->cpu);

	return HRTIMER_NORESTART;
}

static int tick_remote_set_next(ktime_t expires, struct clock_event_device *evt)
{
	struct tick_remote *tr = container_of(evt, struct tick_remote, evt);

	WRITE_ONCE(tr->expires, expires);
	irq_work_queue_on(&tr->arm, tick_remote_keeper(tr));
	return 0;
}

static int tick_remote_shutdown(struct clock_event_device *evt)
{
	struct tick_remote *tr = container_of(evt, struct tick_remote, evt);

	/* An armed hrtimer finds this and does nothing. */
	WRITE_ONCE(tr->expires, KTIME_MAX);
	return 0;
}

static void tick_remote_init(struct tick_remote *tr, unsigned int cpu)
{
	raw_spin_lock_init(&tr->lock);
	hrtimer_init(&tr->timer, CLOCK_MONOTONIC, HRTIMER_MODE_ABS_PINNED_HARD);
	tr->timer.function = tick_remote_expire;
	tr->arm = IRQ_WORK_INIT_HARD(tick_remote_arm);
	tr->cpu = cpu;
	tr->keeper = cpu;

	tr->evt.name = "tick_remote";
	tr->evt.features = CLOCK_EVT_FEAT_ONESHOT | CLOCK_EVT_FEAT_KTIME;
	tr->evt.set_next_ktime = tick_remote_set_next;
	tr->evt.set_state_shutdown = tick_remote_shutdown;
	tr->evt.set_state_oneshot_stopped = tick_remote_shutdown;
	tr->evt.rating = 1000;	/* above every hardware device */
	tr->evt.mult = 1;
	tr->evt.min_delta_ns = 1;
	tr->evt.max_delta_ns = KTIME_MAX;
	tr->evt.min_delta_ticks = 1;
	tr->evt.max_delta_ticks = ULONG_MAX;
	tr->evt.cpumask = cpumask_of(cpu);
	tr->evt.irq = -1;
	tr->initialized = true;
}

/**
 * tick_remote_start - move the calling CPU's tick to a housekeeping CPU
 * @cpu: the calling CPU, already visible in cpu_dedicated_mask
 * @raise: has tick_remote_interrupt() called on @cpu, in hard irq context;
 *	called on a housekeeping CPU in hard irq context
 *
 * The caller must not migrate, and @cpu does not keep the time any more.  The
 * device used before is shut down and released by the clockevents core.
 */
void tick_remote_start(unsigned int cpu, void (*raise)(unsigned int cpu))
{
	struct tick_remote *tr = per_cpu_ptr(&tick_remote, cpu);

	if (!tr->initialized)
		tick_remote_init(tr, cpu);
	tr->expires = KTIME_MAX;
	tr->raise = raise;
	clockevents_register_device(&tr->evt);
}

/**
 * tick_remote_stop - give @cpu its own clock event device back
 * @cpu: a CPU for which tick_remote_start() was called
 *
 * May sleep.  @raise is not called any more when this returns.
 *
 * Return: 0, or -EBUSY when no other device can take over.
 */
int tick_remote_stop(unsigned int cpu)
{
	struct tick_remote *tr = per_cpu_ptr(&tick_remote, cpu);
	int ret = clockevents_unbind_device(&tr->evt, cpu);

	if (ret)
		return ret;
	WRITE_ONCE(tr->expires, KTIME_MAX);
	irq_work_sync(&tr->arm);
	hrtimer_cancel(&tr->timer);
	return 0;
}

/**
 * tick_remote_interrupt - the event of this CPU has expired
 *
 * Called on the remote CPU in hard irq context with interrupts disabled.
 */
void tick_remote_interrupt(void)
{
	struct clock_event_device *evt = this_cpu_ptr(&tick_remote.evt);

	if (evt->event_handler)
		evt->event_handler(evt);
}
