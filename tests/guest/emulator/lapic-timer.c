/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The LAPIC timer in count modes: an interrupt whose count has reached zero
 * has happened. Whatever the guest writes to the timer next must not take it
 * away, and nothing may come twice. (SDM volume 3, 11.5.4 "APIC Timer".)
 *
 * The emulator's callback runs a little after the count reads zero; every
 * round of these tests acts within that gap.
 */
#include "guest.h"

#define VEC             0x40
#define ROUNDS          300
#define COUNT           20000           /* at divide by 1 */

static unsigned hits, stop_at;

static void on_timer(struct isr_frame *f)
{
    (void)f;
    if (++hits == stop_at) {
        apic_write(APIC_LVTT, APIC_LVT_MASKED | VEC);
    }
    apic_eoi();
}

/* Let what is pending in, and say how many interrupts came. */
static unsigned drain(void)
{
    unsigned before = hits;

    irq_enable();
    irq_disable();
    return hits - before;
}

static void arm_and_wait_for_zero(uint32_t lvtt)
{
    apic_write(APIC_LVTT, lvtt);
    apic_write(APIC_TMICT, COUNT);
    while (apic_read(APIC_TMCCT)) {
        continue;
    }
}

static void stop(void)
{
    apic_write(APIC_TMICT, 0);
    apic_write(APIC_LVTT, APIC_LVT_MASKED | VEC);
    apic_write(APIC_TDCR, APIC_TDCR_BY_1);
}

static void do_mask(void)
{
    apic_write(APIC_LVTT, APIC_LVT_MASKED | VEC);
}

static void do_vector(void)
{
    apic_write(APIC_LVTT, VEC + 1);
}

static void do_stop(void)
{
    apic_write(APIC_TMICT, 0);
}

static void do_rearm(void)
{
    apic_write(APIC_TMICT, 0xffffffff);
}

static void do_divide(void)
{
    apic_write(APIC_TDCR, 0);
}

static void do_nothing(void)
{
}

/* @act right after the count reads 0; exactly one interrupt must come. */
static void after_zero(const char *name, void (*act)(void))
{
    unsigned no_irr = 0, lost = 0, extra = 0;

    for (unsigned i = 0; i < ROUNDS; i++) {
        unsigned n;

        arm_and_wait_for_zero(VEC);
        act();
        no_irr += !apic_test(APIC_IRR, VEC);
        n = drain();
        lost += !n;
        /* A late callback must not deliver it again, nor VEC + 1. */
        for (unsigned spin = 0; spin < 200; spin++) {
            apic_read(APIC_TMCCT);
        }
        extra += n + drain() > 1;
        stop();
        drain();
    }
    tap_ok(!no_irr && !lost && !extra,
           "count 0, then %s: %u rounds, %u lost, %u doubled, %u without IRR",
           name, ROUNDS, lost, extra, no_irr);
}

/* The other direction: what did not expire must not fire. */
static void no_interrupt_when_masked(void)
{
    unsigned n;

    apic_write(APIC_LVTT, VEC);
    apic_write(APIC_TMICT, 0xffffffff);
    apic_write(APIC_LVTT, APIC_LVT_MASKED | VEC);
    apic_write(APIC_TMICT, COUNT);
    while (apic_read(APIC_TMCCT)) {
        continue;
    }
    n = apic_test(APIC_IRR, VEC);
    apic_write(APIC_LVTT, VEC);
    n += drain();
    tap_ok(n == 0, "a masked timer expires without an interrupt");
    stop();
}

static void divide_keeps_count(void)
{
    uint32_t before, after, count;
    bool early;

    apic_write(APIC_LVTT, VEC);
    apic_write(APIC_TMICT, 0x80000000);
    before = apic_read(APIC_TMCCT);
    apic_write(APIC_TDCR, 0xa);         /* by 128 */
    after = apic_read(APIC_TMCCT);
    tap_ok(after <= before && before - after < 0x10000000,
           "a divide configuration write keeps the current count");

    /* By 128, then by 1: the interrupt comes when the count says so. */
    apic_write(APIC_TMICT, 1000000);
    apic_write(APIC_TDCR, APIC_TDCR_BY_1);
    do {
        early = apic_test(APIC_IRR, VEC);
        count = apic_read(APIC_TMCCT);
    } while (count && !early);
    early &= count != 0;
    tap_ok(!early && apic_test(APIC_IRR, VEC),
           "a divide configuration write moves the expiry");
    drain();
    stop();
}

static void periodic(void)
{
    unsigned first = hits;

    apic_write(APIC_LVTT, APIC_LVT_PERIODIC | VEC);
    apic_write(APIC_TMICT, 500000);
    while (hits - first < 20) {
        irq_enable_and_hlt();
        irq_disable();
    }
    stop();
    drain();
    first = hits;
    for (unsigned i = 0; i < 20000; i++) {
        apic_read(APIC_TMCCT);
    }
    tap_ok(drain() == 0 && hits == first, "a periodic timer runs and stops");
}

/*
 * Periods shorter than the way to the guest merge in IRR. The next interrupt
 * waits at each IRET, so only the handler can stop them.
 */
static void storm(void)
{
    stop_at = hits + 200;
    apic_write(APIC_LVTT, APIC_LVT_PERIODIC | VEC);
    apic_write(APIC_TMICT, 1);
    while (hits < stop_at) {
        drain();
    }
    for (unsigned i = 0; i < 20000; i++) {
        apic_read(APIC_TMCCT);
    }
    drain();
    tap_ok(hits - stop_at <= 1,
           "a period of two ticks leaves the CPU alive and can be stopped");
    stop_at = 0;
    stop();
}

/* What has ended stays ended until an initial count is written. */
static void ended_stays_ended(void)
{
    static const uint32_t lvtt[] = {
        VEC, APIC_LVT_MASKED | VEC, APIC_LVT_PERIODIC | VEC, VEC + 1,
    };
    uint32_t count = 0;
    unsigned n;

    arm_and_wait_for_zero(VEC);
    drain();
    for (unsigned i = 0; i < sizeof(lvtt) / sizeof(*lvtt); i++) {
        apic_write(APIC_LVTT, lvtt[i]);
        count |= apic_read(APIC_TMCCT);
    }
    apic_write(APIC_TDCR, 0xa);         /* by 128 */
    apic_write(APIC_TDCR, APIC_TDCR_BY_1);
    count |= apic_read(APIC_TMCCT);
    n = drain();
    tap_ok(!count && !n && apic_read(APIC_TMICT) == COUNT,
           "a one-shot count that has ended stays at 0, whatever LVTT says");
    stop();
}

/* The running period is the last, and all of it is counted. */
static void periodic_to_one_shot(void)
{
    unsigned n;

    apic_write(APIC_LVTT, APIC_LVT_PERIODIC | APIC_LVT_MASKED | VEC);
    apic_write(APIC_TMICT, COUNT);
    for (unsigned spin = 0; spin < 20000; spin++) {
        apic_read(APIC_TMCCT);          /* some periods */
    }
    while (apic_read(APIC_TMCCT) < COUNT / 2) {
        continue;
    }
    apic_write(APIC_LVTT, VEC);
    while (apic_read(APIC_TMCCT)) {
        continue;
    }
    n = drain();
    tap_ok(n == 1,
           "from periodic to one-shot the period ends, with one interrupt");
    stop();
}

/* Only with a clock that counts instructions is the TSC's rate known: 1 GHz. */
static void rate(uint32_t mhz)
{
    uint64_t start;
    uint32_t counted;

    if (!mhz) {
        tap_ok(true, "the timer's frequency # SKIP the TSC's is unknown");
        return;
    }
    apic_write(APIC_LVTT, APIC_LVT_MASKED | VEC);
    apic_write(APIC_TMICT, 0xffffffff);
    start = rdtsc();
    while (rdtsc() - start < 5000000) {
        continue;
    }
    counted = 0xffffffff - apic_read(APIC_TMCCT);
    tap_ok(counted >= 5000 * mhz && counted < 5050 * mhz,
           "the timer counts at %u MHz: %u in 5 ms", mhz, counted);
    stop();
}

void guest_main(void)
{
    tap_plan(14);
    isr_set(VEC, on_timer);
    stop();
    after_zero("nothing", do_nothing);
    after_zero("mask", do_mask);
    after_zero("another vector", do_vector);
    after_zero("initial count 0", do_stop);
    after_zero("another initial count", do_rearm);
    after_zero("another divisor", do_divide);
    no_interrupt_when_masked();
    divide_keeps_count();
    periodic();
    ended_stays_ended();
    periodic_to_one_shot();
    storm();
    rate(guest_param("mhz", 0));
}
