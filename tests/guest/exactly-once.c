/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest that counts interrupts: each one that it causes must arrive exactly
 * once, whatever the host does meanwhile.
 *
 * An interrupt's number is its vector, which names the source and the sender,
 * and the sender's count for that vector. A sender waits until the target has
 * counted its last one before it sends the same vector again, so that the IRR
 * never merges two. Every CPU sends from its main loop while its own timer,
 * re-armed by its handler, fires all the time; handlers exit, nest and dawdle
 * at random, and the main loop raises the TPR, closes IF and exits at random.
 *
 * Parameters (-append): irqs=N interrupts in all at least (100000);
 * patience_ms=N until a missing one counts as lost (20000); seed=N; drop=1
 * leaves out one IPI and twice=1 repeats one, to show that the guest notices.
 * It must never touch another device than COM1, the PM timer and port 0x80.
 */
#include "guest.h"

#define MAX_CPUS        4
#define PM_TIMER        0x608   /* as SeaBIOS sets it up, pc and q35 */
#define PM_TIMER_HZ     3579545
#define DELAY_PORT      0x80    /* a write exits, and does nothing */
#define CPUID_1_ECX_TSC_DEADLINE        (1u << 24)
#define LVT_ONE_SHOT    0

/*
 * Vectors: base + the sender's CPU number. They lie where the host has things
 * of its own: exceptions (22 to 25 are reserved ones, without an error code),
 * int 0x80, and class 15.
 */
enum source {
    SELF_LOW,           /* SELF_IPI register, vectors of exceptions */
    SELF_REG,           /* SELF_IPI register */
    SELF_ICR,           /* ICR, shorthand self */
    SELF_PHYSICAL,      /* ICR, physical destination: the sender */
    PHYSICAL,           /* ICR, physical destination */
    LOGICAL,            /* ICR, logical destination, one target */
    GROUP,              /* ICR, logical destination, all others at once */
    OTHERS,             /* ICR, shorthand all excluding self */
    N_IPI_SOURCES,
    ONE_SHOT = N_IPI_SOURCES,
    DEADLINE,
    N_SOURCES
};

static const struct {
    const char *name;
    uint8_t base;
} sources[N_SOURCES] = {
    [SELF_LOW] = { "self-IPI, vector below 32", 0x16 },
    [SELF_REG] = { "self-IPI", 0x31 },
    [SELF_ICR] = { "self-IPI by ICR shorthand", 0x80 },
    [SELF_PHYSICAL] = { "self-IPI by physical ICR", 0x45 },
    [PHYSICAL] = { "cross-IPI, physical", 0xa1 },
    [LOGICAL] = { "cross-IPI, logical", 0xf0 },
    [GROUP] = { "cross-IPI, logical group", 0xd1 },
    [OTHERS] = { "cross-IPI, all excluding self", 0x61 },
    [ONE_SHOT] = { "one-shot timer", 0x71 },
    [DEADLINE] = { "TSC-deadline timer", 0xec },
};

/* Written by the sender (sent, lost) and by the target's handler (the rest). */
struct channel {
    uint64_t sent, lost;
    uint64_t received, doubled;
};

struct cpu {
    uint64_t rng, isr_rng;
    uint64_t deadline;          /* TSC, or 0: not in deadline mode */
    uint64_t early;
    uint64_t caused;            /* interrupts, at whatever CPU */
    uint64_t last_tick;         /* TSC of the timer's last interrupt */
    enum source timer;
    bool timer_on;
};

static struct channel channels[MAX_CPUS][256];  /* by target and vector */
static struct cpu cpus[MAX_CPUS];
static unsigned n_cpus, n_ready, n_sent, n_quiet;
static bool go, has_deadline;
static uint64_t quota;          /* what each CPU has to cause */
static uint64_t tsc_per_ms, patience;
static bool drop, twice;

static uint64_t random_next(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state >> 11;
}

static uint64_t load(const uint64_t *p)
{
    return __atomic_load_n(p, __ATOMIC_ACQUIRE);
}

static void store(uint64_t *p, uint64_t v)
{
    __atomic_store_n(p, v, __ATOMIC_RELEASE);
}

static uint32_t pm_timer(void)
{
    uint32_t v;

    asm volatile("inl %1, %0" : "=a"(v) : "Nd"((uint16_t)PM_TIMER));
    return v & 0xffffff;
}

/* TSC ticks in a millisecond, by the PM timer. */
static uint64_t calibrate(void)
{
    uint32_t start = pm_timer();
    uint64_t tsc = rdtsc();

    while (((pm_timer() - start) & 0xffffff) < PM_TIMER_HZ / 50) {
        cpu_pause();
    }
    return (rdtsc() - tsc) / 20;
}

/* ---- Receiving ---- */

static void arm(struct cpu *c)
{
    uint64_t r = random_next(&c->isr_rng);
    struct channel *ch =
        &channels[cpu_self()][sources[c->timer].base + cpu_self()];
    /* Up to 250 us; one in eight has passed when it is written. */
    uint64_t ticks = r % (tsc_per_ms / 4);

    __atomic_add_fetch(&c->caused, 1, __ATOMIC_RELAXED);
    store(&ch->sent, ch->sent + 1);
    if (c->timer == DEADLINE) {
        c->deadline = r >> 40 & 7 ? rdtsc() + ticks : rdtsc() - 1;
        wrmsr(MSR_TSC_DEADLINE, c->deadline);
    } else {
        apic_write(APIC_TMICT, r % 200000 + 1);
    }
}

static void receive(struct isr_frame *f)
{
    unsigned self = cpu_self();
    struct cpu *c = &cpus[self];
    struct channel *ch = &channels[self][f->vector];
    uint64_t r = random_next(&c->isr_rng);
    bool is_timer = f->vector == sources[c->timer].base + self;

    if (is_timer) {
        c->last_tick = rdtsc();
        c->early += c->timer == DEADLINE && c->last_tick < c->deadline;
    }
    if (ch->received >= load(&ch->sent)) {
        ch->doubled++;
        apic_eoi();
        return;
    }
    /* In service, with or without IF: exit, let a higher class in. */
    switch (r & 15) {
    case 0:
        outb(DELAY_PORT, 0);
        break;
    case 1:
        irq_enable();
        outb(DELAY_PORT, 0);
        irq_disable();
        break;
    case 2:
        irq_enable();
        for (unsigned i = r >> 4 & 63; i; i--) {
            cpu_pause();
        }
        irq_disable();
        break;
    }
    if (is_timer && __atomic_load_n(&c->timer_on, __ATOMIC_RELAXED)) {
        arm(c);
    }
    /* From here on the sender may send the next. */
    store(&ch->received, ch->received + 1);
    apic_eoi();
}

/* ---- Sending ---- */

/* Waits, interrupts on, for the target to have counted all that was sent. */
static void await(struct cpu *c, struct channel *ch)
{
    uint64_t end = rdtsc() + patience;

    while (load(&ch->received) < ch->sent) {
        if (rdtsc() > end) {
            ch->lost += ch->sent - load(&ch->received);
            store(&ch->sent, load(&ch->received));
            return;
        }
        if (random_next(&c->rng) & 3 || rdtsc() - c->last_tick > patience / 4) {
            cpu_pause();
        } else {
            /* The timer, which never rests unless one was lost, ends this. */
            irq_disable();
            if (load(&ch->received) < ch->sent) {
                irq_enable_and_hlt();
            } else {
                irq_enable();
            }
        }
    }
}

/* What a guest does that may catch a hypervisor on the wrong foot. */
static void disturb(struct cpu *c)
{
    uint64_t r = random_next(&c->rng);
    uint32_t regs[4];

    switch (r & 7) {
    case 0:
        irq_disable();
        outb(DELAY_PORT, 0);
        irq_enable();
        break;
    case 1:
        write_cr8(r >> 4 & 15);
        outb(DELAY_PORT, 0);
        write_cr8(0);
        break;
    case 2:
        cpuid(0, 0, regs);
        break;
    case 3:
        irq_disable();
        for (unsigned i = r >> 4 & 255; i; i--) {
            cpu_pause();
        }
        irq_enable();
        break;
    }
}

static uint32_t logical_id(unsigned cpu)
{
    uint32_t id = cpu_apic_id(cpu);

    return (id & 0xffff0) << 12 | 1u << (id & 15);
}

static void icr(enum source s, unsigned self, unsigned target)
{
    uint32_t low = APIC_ICR_ASSERT | (sources[s].base + self);
    uint32_t mask = 0;

    switch (s) {
    case SELF_LOW:
    case SELF_REG:
        apic_self_ipi(sources[s].base + self);
        break;
    case SELF_ICR:
        apic_icr(0, low | APIC_ICR_SELF);
        break;
    case SELF_PHYSICAL:
    case PHYSICAL:
        apic_icr(cpu_apic_id(target), low);
        break;
    case LOGICAL:
        apic_icr(logical_id(target), low | APIC_ICR_LOGICAL);
        break;
    case GROUP:
        for (unsigned i = 0; i < n_cpus; i++) {
            mask |= i == self ? 0 : logical_id(i);
        }
        apic_icr(mask, low | APIC_ICR_LOGICAL);
        break;
    default:
        apic_icr(0, low | APIC_ICR_OTHERS);
        break;
    }
}

static bool is_cross(enum source s)
{
    return s >= PHYSICAL && s < N_IPI_SOURCES;
}

static bool hits(enum source s, unsigned self, unsigned target, unsigned cpu)
{
    if (s == GROUP || s == OTHERS) {
        return cpu != self;
    }
    return cpu == (is_cross(s) ? target : self);
}

static void send(struct cpu *c, enum source s, unsigned self, unsigned target)
{
    unsigned vector = sources[s].base + self;

    for (unsigned i = 0; i < n_cpus; i++) {
        if (hits(s, self, target, i)) {
            /* The timer's handler counts, too. */
            __atomic_add_fetch(&c->caused, 1, __ATOMIC_RELAXED);
            store(&channels[i][vector].sent, channels[i][vector].sent + 1);
        }
    }
    if (drop && s == PHYSICAL && !self) {
        drop = false;
    } else {
        icr(s, self, is_cross(s) ? target : self);
    }
    disturb(c);
    for (unsigned i = 0; i < n_cpus; i++) {
        if (hits(s, self, target, i)) {
            await(c, &channels[i][vector]);
        }
    }
    /* After the first was counted, lest the IRR merge the two. */
    if (twice && s == SELF_REG && !self) {
        twice = false;
        icr(s, self, self);
    }
}

static void timer_start(struct cpu *c, enum source s)
{
    uint32_t mode = s == DEADLINE ? APIC_LVT_TSC_DEADLINE : LVT_ONE_SHOT;

    irq_disable();
    c->timer = s;
    c->deadline = 0;
    c->last_tick = rdtsc();
    c->timer_on = true;
    apic_write(APIC_TDCR, APIC_TDCR_BY_1);
    apic_write(APIC_LVTT, mode | (sources[s].base + cpu_self()));
    arm(c);
    irq_enable();
}

/* The last one that was armed arrives before the mode changes. */
static void timer_stop(struct cpu *c)
{
    struct channel *ch =
        &channels[cpu_self()][sources[c->timer].base + cpu_self()];
    uint64_t end = rdtsc() + patience;

    __atomic_store_n(&c->timer_on, false, __ATOMIC_RELAXED);
    while (load(&ch->received) < load(&ch->sent)) {
        if (rdtsc() > end) {
            ch->lost += ch->sent - load(&ch->received);
            store(&ch->sent, load(&ch->received));
            break;
        }
        cpu_pause();
    }
    apic_write(APIC_LVTT, APIC_LVT_MASKED);
}

static void wait_for_all(unsigned *counter)
{
    __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) < n_cpus) {
        cpu_pause();
    }
}

/* One interrupt, or one for each target, from every source but the timer. */
static void send_round(struct cpu *c, unsigned self)
{
    for (enum source s = 0; s < N_IPI_SOURCES; s++) {
        unsigned target = self;

        if (is_cross(s)) {
            if (n_cpus == 1) {
                continue;
            }
            target = random_next(&c->rng) % (n_cpus - 1);
            target += target >= self;
        }
        send(c, s, self, target);
    }
}

static void run_cpu(unsigned self)
{
    struct cpu *c = &cpus[self];
    bool second_half = false;
    uint64_t reported = 0;

    if (self >= n_cpus) {
        return;
    }
    __atomic_add_fetch(&n_ready, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&go, __ATOMIC_ACQUIRE)) {
        cpu_pause();
    }

    timer_start(c, has_deadline ? DEADLINE : ONE_SHOT);
    while (load(&c->caused) < quota) {
        uint64_t tenth = load(&c->caused) * 10 / quota;

        if (tenth >= 5 && !second_half) {
            second_half = true;
            timer_stop(c);
            timer_start(c, ONE_SHOT);
        }
        send_round(c, self);
        if (!self && tenth >= reported) {
            print("# CPU 0 at %lu%%\n", tenth * 10);
            reported = tenth + 1;
        }
    }
    /* The others may count on being interrupted until all have sent. */
    wait_for_all(&n_sent);
    timer_stop(c);

    /* Late doubles show in 20 ms of doing nothing. */
    for (uint64_t end = rdtsc() + 20 * tsc_per_ms; rdtsc() < end;) {
        cpu_pause();
    }
    irq_disable();
    wait_for_all(&n_quiet);
}

/* ---- Verdict ---- */

static struct channel total(enum source s)
{
    struct channel sum = { 0 };

    for (unsigned t = 0; t < n_cpus; t++) {
        for (unsigned i = 0; i < n_cpus; i++) {
            const struct channel *ch = &channels[t][sources[s].base + i];

            sum.sent += ch->sent + ch->lost;
            sum.received += ch->received;
            sum.lost += ch->lost;
            sum.doubled += ch->doubled;
        }
    }
    return sum;
}

static void report(void)
{
    struct channel all = { 0 };
    uint64_t early = 0;

    for (enum source s = 0; s < N_SOURCES; s++) {
        struct channel sum = total(s);

        if ((s == DEADLINE && !has_deadline) || (is_cross(s) && n_cpus < 2)) {
            tap_skip(sources[s].name, s == DEADLINE ?
                     "the LAPIC timer has no TSC-deadline mode" : "one CPU");
            continue;
        }
        print("# %s: sent %lu received %lu lost %lu doubled %lu\n",
              sources[s].name, sum.sent, sum.received, sum.lost, sum.doubled);
        tap_ok(sum.sent && sum.sent == sum.received && !sum.doubled,
               "%s: each arrived once", sources[s].name);
        all.sent += sum.sent;
        all.received += sum.received;
        all.lost += sum.lost;
        all.doubled += sum.doubled;
    }
    for (unsigned i = 0; i < n_cpus; i++) {
        early += cpus[i].early;
    }
    tap_ok(!early, "no timer interrupt before its deadline (%lu)", early);
    print("exactly-once: cpus=%u sent=%lu received=%lu lost=%lu doubled=%lu "
          "early=%lu\n", n_cpus, all.sent, all.received, all.lost, all.doubled,
          early);
}

void guest_main(void)
{
    uint64_t irqs = guest_param("irqs", 100000);
    uint64_t seed = guest_param("seed", 1);
    uint32_t regs[4];

    cpuid(1, 0, regs);
    has_deadline = regs[2] & CPUID_1_ECX_TSC_DEADLINE;
    n_cpus = cpu_count() < MAX_CPUS ? cpu_count() : MAX_CPUS;
    tsc_per_ms = calibrate();
    patience = guest_param("patience_ms", 20000) * tsc_per_ms;
    drop = guest_param("drop", 0);
    twice = guest_param("twice", 0);
    quota = irqs / n_cpus + 1;
    tap_plan(N_SOURCES + 1);
    print("# %u CPUs, %lu TSC ticks per ms\n", n_cpus, tsc_per_ms);

    for (unsigned i = 0; i < MAX_CPUS; i++) {
        cpus[i].rng = (seed + i + 1) * 0x9e3779b97f4a7c15;
        cpus[i].isr_rng = (seed + i + 1) * 0xd1342543de82ef95;
        for (enum source s = 0; s < N_SOURCES; s++) {
            isr_set(sources[s].base + i, receive);
        }
    }
    if (n_cpus > 1 && !smp_start(run_cpu)) {
        print("Bail out! the other CPUs do not start\n");
        guest_exit(2);
    }
    while (__atomic_load_n(&n_ready, __ATOMIC_ACQUIRE) < n_cpus - 1) {
        cpu_pause();
    }
    __atomic_store_n(&go, true, __ATOMIC_RELEASE);
    run_cpu(0);
    report();
}
