// SPDX-License-Identifier: GPL-2.0-only
/*
 * How fast the timer of a local APIC counts.
 *
 * This file owns what is known of that: of the host's timers before any core is
 * leased, and of a core's own once it was.  It must never arm a timer that a
 * guest owns, nor take for known what it did not see.
 */
#include <linux/cleanup.h>
#include <linux/cpufeature.h>
#include <linux/delay.h>
#include <linux/hrtimer.h>
#include <linux/math64.h>
#include <linux/mutex.h>
#include <linux/overflow.h>
#include <linux/percpu.h>

#include <asm/apic.h>
#include <asm/dedicated_cpu.h>
#include <asm/tsc.h>

#include "local.h"

/*
 * struct dedicated_timer_rate - of a timer with the divider at 1
 * @counts: were counted, 0 if not yet measured
 * @tsc_min: cycles of the TSC that this took at least
 * @tsc_max: and at most
 */
struct dedicated_timer_rate {
	u64 counts;
	u64 tsc_min;
	u64 tsc_max;
};

static DEFINE_PER_CPU(struct dedicated_timer_rate, timer_rate);

struct dedicated_timer_sample {
	u32 count;
	/* The TSC was somewhere between when the count was read. */
	u64 before;
	u64 after;
};

/* The best of some: SMIs, NMIs and hypervisors come in between. */
static struct dedicated_timer_sample dedicated_sample_timer(void)
{
	struct dedicated_timer_sample sample, best = { .after = U64_MAX };
	unsigned int tries;

	for (tries = 0; tries < 16; tries++) {
		sample.before = rdtsc_ordered();
		sample.count = native_apic_msr_read(APIC_TMCCT);
		sample.after = rdtsc_ordered();
		if (sample.after - sample.before < best.after - best.before)
			best = sample;
	}
	return best;
}

/*
 * See the timer count for @tsc cycles, and for up to 8 times as long where its
 * counts cannot be read at once.
 *
 * Return: how fast it counted; no counts if that cannot be told, or it came to
 * its end.
 */
static struct dedicated_timer_rate dedicated_see_timer(u64 tsc)
{
	struct dedicated_timer_sample first, last;
	struct dedicated_timer_rate rate = {};
	u64 until;

	first = dedicated_sample_timer();
	for (until = tsc; first.count && until <= 8 * tsc; until *= 2) {
		/* No PAUSE: a hypervisor may take the rest of a slice for it. */
		while (rdtsc_ordered() - first.after < until)
			;
		last = dedicated_sample_timer();
		if (!last.count || last.count >= first.count)
			break;
		rate.counts = first.count - last.count;
		rate.tsc_min = last.before - first.after;
		rate.tsc_max = last.after - first.before;
		if (rate.tsc_max - rate.tsc_min <= rate.tsc_min / 512)
			break;
	}
	if (rate.tsc_max - rate.tsc_min > rate.tsc_min / 64)
		rate.counts = 0;
	return rate;
}

/*
 * dedicated_measure_timer_rate - of this CPU's timer, if it is not known yet
 *
 * With interrupts off, when the host has stopped using the timer and the guest
 * has not begun.
 */
void dedicated_measure_timer_rate(void)
{
	struct dedicated_timer_rate *rate = this_cpu_ptr(&timer_rate);

	if (rate->counts || !tsc_khz)
		return;
	native_apic_msr_write(APIC_LVTT, APIC_LVT_MASKED | LOCAL_TIMER_VECTOR);
	native_apic_msr_write(APIC_TDCR, APIC_TDR_DIV_1);
	native_apic_msr_write(APIC_TMICT, ~0u);
	/* If it cannot be told well, the next lease has another try. */
	*rate = dedicated_see_timer(2 * tsc_khz);
	native_apic_msr_write(APIC_TMICT, 0);
}

/* Two rates are one if they are as close as 0.4 %. */
#define DEDICATED_RATE_TOLERANCE	256

/*
 * Whole nanoseconds are a timer's if what was seen of it does not speak against
 * them.
 */
static bool dedicated_rate_is(const struct dedicated_timer_rate *rate, u64 ns)
{
	u64 want = ns * rate->counts;
	u64 off = want / DEDICATED_RATE_TOLERANCE;

	if (!rate->counts)
		return false;
	return div64_u64(rate->tsc_max * USEC_PER_SEC, tsc_khz) >= want - off &&
	       div64_u64(rate->tsc_min * USEC_PER_SEC, tsc_khz) <= want + off;
}

/**
 * dedicated_cpu_timer_rate_ok - does the CPU's timer count at this rate?
 * @cpu: a CPU that is or was leased
 * @ns_per_count: nanoseconds per count with the divider at 1
 *
 * Return: true if the measured rate is within 0.4 %.
 */
bool dedicated_cpu_timer_rate_ok(unsigned int cpu, u32 ns_per_count)
{
	return dedicated_rate_is(&per_cpu(timer_rate, cpu), ns_per_count);
}
EXPORT_SYMBOL_GPL(dedicated_cpu_timer_rate_ok);

/**
 * dedicated_cpu_timer_counts - how often the CPU's timer counts meanwhile
 * @cpu: a CPU that is or was leased
 * @tsc: cycles of the TSC
 *
 * Return: the counts with the divider at 1, rounded up by as much as the rate
 * is uncertain, so that a timer never expires early; U64_MAX if that is more
 * than can be said.
 */
u64 dedicated_cpu_timer_counts(unsigned int cpu, u64 tsc)
{
	const struct dedicated_timer_rate *rate = &per_cpu(timer_rate, cpu);
	u64 product;

	if (!rate->counts || !rate->tsc_min ||
	    check_mul_overflow(tsc, rate->counts + 1ull, &product))
		return U64_MAX;
	return div64_u64(product, rate->tsc_min) + 1;
}
EXPORT_SYMBOL_GPL(dedicated_cpu_timer_counts);

static enum hrtimer_restart dedicated_expired(struct hrtimer *timer)
{
	return HRTIMER_NORESTART;
}

/*
 * The host's timer counts down to its next event, which is @event if no other
 * comes first: a CPU without a tick may have none.
 *
 * Return: its rate, of no counts if it does not count, or came to its end.
 */
static struct dedicated_timer_rate dedicated_see_host_timer(struct hrtimer *event)
{
	struct dedicated_timer_rate rate = {};
	unsigned int divider;

	guard(irqsave)();
	/* A guest's timer is not what the host's clock events wait for. */
	if (!x2apic_enabled() || !tsc_khz || cpu_dedicated(smp_processor_id()))
		return rate;

	hrtimer_start(event, ms_to_ktime(10), HRTIMER_MODE_REL_PINNED_HARD);
	/* SDM vol. 3A, 11.5.4: its three bits are 0, 1 and 3. */
	divider = native_apic_msr_read(APIC_TDCR);
	divider = 1 << (((divider & 3) + (divider >> 1 & 4) + 1) & 7);
	rate = dedicated_see_timer(tsc_khz / 2);
	rate.counts *= divider;
	/* A periodic one may have come to its end, and be near it again. */
	if (dedicated_apic_test(APIC_IRR, LOCAL_TIMER_VECTOR))
		rate.counts = 0;
	return rate;
}

/* See it between two events of some, where it counts. */
static struct dedicated_timer_rate dedicated_see_timer_rate(void)
{
	struct dedicated_timer_rate rate = {};
	struct hrtimer event;
	unsigned int tries;

	/* Nothing counts in TSC-deadline mode. */
	if (boot_cpu_has(X86_FEATURE_TSC_DEADLINE_TIMER))
		return rate;

	hrtimer_init_on_stack(&event, CLOCK_MONOTONIC,
			      HRTIMER_MODE_REL_PINNED_HARD);
	event.function = dedicated_expired;
	for (tries = 0; !rate.counts && tries < 32; tries++) {
		rate = dedicated_see_host_timer(&event);
		hrtimer_cancel(&event);
		if (!rate.counts)
			usleep_range(300, 900);
	}
	destroy_hrtimer_on_stack(&event);
	return rate;
}

/* The whole number that is nearest, or 0. */
static u32 dedicated_whole_ns(const struct dedicated_timer_rate *rate)
{
	u64 ns;

	if (!rate->counts)
		return 0;
	ns = (rate->tsc_min + rate->tsc_max) / 2 * USEC_PER_SEC;
	ns = div64_u64(ns, tsc_khz);
	ns = DIV64_U64_ROUND_CLOSEST(ns, rate->counts);
	return dedicated_rate_is(rate, ns) ? ns : 0;
}

/* As Linux counted at boot. */
static struct dedicated_timer_rate dedicated_boot_timer_rate(void)
{
	return (struct dedicated_timer_rate) {
		.counts = tsc_khz ? (u64)lapic_timer_period * HZ : 0,
		.tsc_min = tsc_khz * 1000ull,
		.tsc_max = tsc_khz * 1000ull,
	};
}

/**
 * dedicated_timer_ns - how long the timers of this host take for a count
 *
 * May sleep.  At boot the host counted them between ticks, and takes that for
 * right if it is off by no more than 1 %: a system management interrupt is enough.
 * Where they count, who asks first has it seen once more.
 *
 * Return: nanoseconds with the divider at 1; 0 if unknown, or if they are not a
 * whole number to within 0.4 %, as dedicated_cpu_timer_rate_ok() demands.
 */
u32 dedicated_timer_ns(void)
{
	struct dedicated_timer_rate rate;
	static DEFINE_MUTEX(lock);
	static bool known;
	static u32 ns;

	/* Any user of /dev/kvm may ask, and looking takes interrupts away. */
	guard(mutex)(&lock);
	if (known)
		return ns;

	rate = dedicated_see_timer_rate();
	if (!rate.counts)
		rate = dedicated_boot_timer_rate();
	ns = dedicated_whole_ns(&rate);
	known = true;
	return ns;
}
EXPORT_SYMBOL_GPL(dedicated_timer_ns);
