/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * TSC-deadline mode of the LAPIC timer, as SDM volume 3, 11.5.4.1 "TSC-Deadline
 * Mode" has it: never early, never twice, never lost, and out of the way in
 * every other mode. On the command line, "absent=1": the CPU does not have it;
 * "migrate=1": arm, say so, and wait for a deadline in five seconds.
 */
#include "guest.h"

#define VEC             0x40
#define ROUNDS          500
#define MAX_SPIN        100000          /* ticks; with icount each one costs */
#define MAX_HLT         3000000
#define FAR             (1ull << 60)

static struct per_cpu {
    uint64_t deadline;          /* what the handler must not run before */
    unsigned hits, early, msr_not_0;
    uint64_t worst, best;       /* lateness in TSC ticks */
    bool done;
} per_cpu[GUEST_MAX_CPUS];

static void on_timer(struct isr_frame *f)
{
    struct per_cpu *c = &per_cpu[cpu_self()];
    uint64_t now = rdtsc();

    (void)f;
    c->hits++;
    c->early += now < c->deadline;
    c->msr_not_0 += rdmsr(MSR_TSC_DEADLINE) != 0;
    if (now - c->deadline > c->worst) {
        c->worst = now - c->deadline;
    }
    if (now - c->deadline < c->best) {
        c->best = now - c->deadline;
    }
    apic_eoi();
}

/* Let what is due in, and say how many interrupts came. */
static unsigned drain(void)
{
    unsigned before = per_cpu[0].hits;

    apic_read(APIC_IRR);        /* the callback may be late, IRR is not */
    irq_enable();
    irq_disable();
    return per_cpu[0].hits - before;
}

/* Long enough for any callback of the emulator to have run. */
static void spin_ticks(uint64_t ticks)
{
    uint64_t end = rdtsc() + ticks;

    while (rdtsc() < end) {
        continue;
    }
}

static void deadline_mode(void)
{
    apic_write(APIC_LVTT, APIC_LVT_TSC_DEADLINE | VEC);
}

static void set(uint64_t deadline)
{
    per_cpu[cpu_self()].deadline = deadline;
    wrmsr(MSR_TSC_DEADLINE, deadline);
}

/* Far enough to act before it, near enough to wait for it. */
static uint64_t soon(void)
{
    return rdtsc() + 2000000;
}

/*
 * Arms a deadline and does @act before it is reached; an emulator's CPU thread
 * can lose its host CPU in between, then it is done again.
 */
static void arm_then(void (*act)(void))
{
    do {
        wrmsr(MSR_TSC_DEADLINE, 0);
        drain();
        deadline_mode();
        set(soon());
        act();
    } while (rdtsc() >= per_cpu[0].deadline);
}

static void wait_for_deadline(void)
{
    while (rdtsc() < per_cpu[0].deadline) {
        continue;
    }
    spin_ticks(500000);
}

static void do_mask(void)
{
    apic_write(APIC_LVTT, APIC_LVT_TSC_DEADLINE | APIC_LVT_MASKED | VEC);
}

static void do_mask_and_unmask(void)
{
    do_mask();
    deadline_mode();
}

static void do_mode(void)
{
    apic_write(APIC_LVTT, VEC);
}

static void do_disarm(void)
{
    wrmsr(MSR_TSC_DEADLINE, 0);
}

static void do_rearm(void)
{
    wrmsr(MSR_TSC_DEADLINE, FAR);
}

static void do_nothing(void)
{
}

static void other_modes_ignore_it(void)
{
    unsigned n = 0;

    apic_write(APIC_LVTT, VEC);
    set(rdtsc() + FAR);
    n += rdmsr(MSR_TSC_DEADLINE) != 0;
    set(rdtsc());
    apic_write(APIC_LVTT, APIC_LVT_PERIODIC | VEC);
    set(rdtsc());
    n += rdmsr(MSR_TSC_DEADLINE) != 0;
    spin_ticks(1000000);
    tap_ok(n == 0 && drain() == 0, "no effect in one-shot and periodic mode");
}

static void reads_back_and_disarms(void)
{
    uint64_t d = rdtsc() + FAR;

    deadline_mode();
    tap_ok(rdmsr(MSR_TSC_DEADLINE) == 0, "reads 0 before it is armed");
    set(d);
    tap_ok(rdmsr(MSR_TSC_DEADLINE) == d, "an armed deadline reads back");
    apic_write(APIC_TMICT, 1000);
    tap_ok(apic_read(APIC_TMICT) == 0 && apic_read(APIC_TMCCT) == 0 &&
           rdmsr(MSR_TSC_DEADLINE) == d,
           "initial count writes are ignored, the current count reads 0");
    arm_then(do_disarm);
    d = rdmsr(MSR_TSC_DEADLINE);
    wait_for_deadline();
    tap_ok(d == 0 && drain() == 0, "0 disarms");
}

static void past_deadline(void)
{
    unsigned no_irr = 0, not_0 = 0, wrong = 0;

    deadline_mode();
    for (unsigned i = 0; i < ROUNDS; i++) {
        set(i % 2 ? 1 : rdtsc());
        not_0 += rdmsr(MSR_TSC_DEADLINE) != 0;
        no_irr += !apic_test(APIC_IRR, VEC);
        wrong += drain() != 1;
    }
    tap_ok(!no_irr && !not_0 && !wrong, "a past deadline fires at once: "
           "%u rounds, %u without IRR, %u with MSR not 0, %u not once",
           ROUNDS, no_irr, not_0, wrong);
}

static void mode_change_disarms(void)
{
    uint64_t start, now;
    unsigned n = 0;

    arm_then(do_mode);
    n += rdmsr(MSR_TSC_DEADLINE) != 0;
    deadline_mode();
    n += rdmsr(MSR_TSC_DEADLINE) != 0;
    wait_for_deadline();
    n += drain();
    tap_ok(n == 0, "leaving the mode disarms the deadline");

    /* The count ends 2 ms later, 1 to 10 million ticks of any TSC. */
    do {
        apic_write(APIC_LVTT, VEC);
        drain();
        start = rdtsc();
        apic_write(APIC_TMICT, 2000000);
        deadline_mode();
        now = rdtsc();
    } while (now - start > 500000);
    spin_ticks(12000000);
    tap_ok(drain() == 0, "entering the mode stops the count");

    arm_then(do_mask_and_unmask);
    wait_for_deadline();
    tap_ok(drain() == 1, "writing LVTT in the same mode leaves it armed");
}

static void masked(void)
{
    arm_then(do_mask);
    wait_for_deadline();
    tap_ok(rdmsr(MSR_TSC_DEADLINE) == 0 && drain() == 0,
           "a masked deadline expires without an interrupt");
}

/* @act right after the TSC reaches the deadline; one interrupt must come. */
static void after_deadline(const char *name, void (*act)(void))
{
    unsigned no_irr = 0, lost = 0, extra = 0;

    for (unsigned i = 0; i < 300; i++) {
        unsigned n;

        deadline_mode();
        set(rdtsc() + 30000);
        while (rdtsc() < per_cpu[0].deadline) {
            continue;
        }
        act();
        no_irr += !apic_test(APIC_IRR, VEC);
        per_cpu[0].deadline = 0;
        n = drain();
        lost += !n;
        spin_ticks(50000);
        extra += n + drain() > 1;
        apic_write(APIC_LVTT, APIC_LVT_MASKED | VEC);
    }
    tap_ok(!no_irr && !lost && !extra,
           "deadline, then %s: 300 rounds, %u lost, %u doubled, %u without IRR",
           name, lost, extra, no_irr);
}

static uint64_t next_random(uint64_t *x)
{
    *x = *x * 6364136223846793005ull + 1442695040888963407ull;
    return *x >> 33;
}

/* Random deadlines, alternately spinning and in HLT; on every CPU at once. */
static void random_deadlines(unsigned cpu)
{
    struct per_cpu *c = &per_cpu[cpu];
    uint64_t x = cpu + 1;

    c->hits = c->early = c->msr_not_0 = 0;
    c->worst = 0;
    c->best = FAR;
    deadline_mode();
    for (unsigned i = 1; i <= ROUNDS; i++) {
        set(rdtsc() + next_random(&x) % (i % 2 ? MAX_HLT : MAX_SPIN));
        while (__atomic_load_n(&c->hits, __ATOMIC_RELAXED) < i) {
            if (i % 2) {
                irq_enable_and_hlt();
            } else {
                irq_enable();
                cpu_pause();
            }
            irq_disable();
        }
    }
    __atomic_store_n(&c->done, true, __ATOMIC_RELEASE);
}

static void all_cpus(void)
{
    unsigned bad = 0;

    if (!tap_ok(smp_start(random_deadlines), "%u CPUs start", cpu_count())) {
        tap_skip("random deadlines", "a CPU is missing");
        return;
    }
    random_deadlines(0);
    for (unsigned i = 0; i < cpu_count(); i++) {
        struct per_cpu *c = &per_cpu[i];

        while (!__atomic_load_n(&c->done, __ATOMIC_ACQUIRE)) {
            cpu_pause();
        }
        print("# CPU %u: %u deadlines, %u interrupts, %u early, "
              "latest by %lu ticks\n", i, ROUNDS, c->hits, c->early, c->worst);
        bad += c->hits != ROUNDS || c->early || c->msr_not_0;
    }
    tap_ok(bad == 0, "random deadlines on all CPUs: once each, none early");
}

/*
 * A host may be busy, but not each time: a long sleep that always ends late
 * means that the emulator takes the TSC's rate for lower than it is.
 */
static void long_sleep(void)
{
    struct per_cpu *c = &per_cpu[0];

    c->best = FAR;
    deadline_mode();
    for (unsigned i = 0; i < 10; i++) {
        unsigned before = c->hits;

        set(rdtsc() + 100000000);
        while (c->hits == before) {
            irq_enable_and_hlt();
            irq_disable();
        }
    }
    tap_ok(c->best < 20000000, "sleeps of 100,000,000 ticks end at most "
           "%lu late", c->best);
}

/* TSC ticks in 10 ms, by the count that runs at 1 GHz. */
static uint64_t ticks_in_10_ms(void)
{
    uint64_t start;

    apic_write(APIC_TDCR, APIC_TDCR_BY_1);
    apic_write(APIC_LVTT, APIC_LVT_MASKED);
    apic_write(APIC_TMICT, 10000000);
    start = rdtsc();
    while (apic_read(APIC_TMCCT)) {
        continue;
    }
    return rdtsc() - start;
}

static void migrate(void)
{
    struct per_cpu *c = &per_cpu[0];
    uint64_t second = 100 * ticks_in_10_ms();

    tap_plan(2);
    deadline_mode();
    set(rdtsc() + 5 * second);
    print("# armed\n");
    while (!c->hits) {
        irq_enable_and_hlt();
        irq_disable();
    }
    tap_ok(c->hits == 1 && !c->early && !c->msr_not_0,
           "an armed deadline survives migration");
    tap_ok(c->worst < 5 * second, "and is on time");
}

static void absent(void)
{
    tap_plan(1);
    deadline_mode();
    set(rdtsc());
    spin_ticks(1000000);
    tap_ok(rdmsr(MSR_TSC_DEADLINE) == 0 && drain() == 0,
           "without CPUID.1:ECX[24] nothing of it is there");
}

void guest_main(void)
{
    uint32_t r[4];
    bool want = !guest_param("absent", 0);

    isr_set(VEC, on_timer);
    cpuid(1, 0, r);
    if (!want && !(r[2] >> 24 & 1)) {
        absent();
        return;
    }
    if (guest_param("migrate", 0)) {
        migrate();
        return;
    }
    tap_plan(want ? 19 : 1);
    if (!tap_ok((r[2] >> 24 & 1) == want, "CPUID.1:ECX[24] is %d", want)) {
        print("Bail out! nothing to test\n");
        guest_exit(1);
    }
    other_modes_ignore_it();
    reads_back_and_disarms();
    past_deadline();
    mode_change_disarms();
    masked();
    after_deadline("nothing", do_nothing);
    after_deadline("mask", do_mask);
    after_deadline("change of mode", do_mode);
    after_deadline("0", do_disarm);
    after_deadline("another deadline", do_rearm);
    long_sleep();
    all_cpus();
}
