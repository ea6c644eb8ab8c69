/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest that counts interrupts: each one that it causes must arrive exactly
 * once and in order, whatever the host does meanwhile.
 *
 * An interrupt's number is its vector, which names the source and the sender,
 * and the sender's count for that vector. A sender waits until the target has
 * counted its last one before it sends the same vector again, so that the IRR
 * never merges two. Every CPU sends from its main loop while its own timer
 * fires all the time; handlers exit, nest and dawdle at random, and the main
 * loop raises the TPR, closes IF, exits and dirties memory at random.
 *
 * The timer takes turns (rarer ones with msis= or ipis=): TSC-deadline and one-shot,
 * re-armed by their handler, then periodic, which nobody re-arms. A periodic
 * interrupt has no number. It counts as doubled when it comes before three
 * quarters of its period are over.
 * It counts as lost when the main loop was still seen running, open to
 * interrupts, three quarters of a period after it was due. So periods may merge
 * while the CPU did not run or did not listen, and what is late is not yet
 * lost: the period is far longer than a host keeps a timer waiting.
 *
 * Order: a sender sends two vectors to one target, the higher first. Priority
 * then forbids that the target starts with the lower.
 *
 * Parameters (-append):
 *   irqs=N         interrupts in all at least (100000)
 *   patience_ms=N  until a missing one counts as lost (20000)
 *   seed=N
 *   moves=N        how often the guest's clock may stand still, by migration,
 *                  while a timer that counts ticks goes on: so many of those
 *                  may come early (0)
 *   kept=N         how many periodic ones each CPU may miss: stock KVM keeps one
 *                  to itself that comes while the guest stands still, and a guest
 *                  that is saved then has lost it (0)
 *   drop=1         leaves out one interrupt of every source
 *   twice=1        repeats one of every source; both show that this guest
 *                  notices
 *   msis=N         beside the timer only MSIs of edu, N in all at least in
 *                  place of irqs=, and as many physical IPIs
 *   ipis=N         beside the timer only IPIs, N sent in all at least in place of
 *                  irqs=
 *   msi_off=1      turns a device's MSI off before it gives it a new target
 *   ledger=N       pages, for each CPU, that its main loop writes to (256)
 *   spec_ctrl=N    every CPU's IA32_SPEC_CTRL while it sends, which must still
 *                  be that after each round (not used)
 *   spec_ctrl_between=N  what it is between rounds, for an exit (the same)
 *   until_wrong=1  ends as soon as one was lost, doubled or early
 *   until_told=1   goes on, with the last of the timers, until somebody presses
 *                  the power button (system_powerdown)
 * It must never touch another device than COM1, the PM timer, the power button,
 * port 0x80, edu, and the HPET.
 */
#include "guest.h"
#include "devices.h"

#define MAX_CPUS        4
#define MSR_SPEC_CTRL   0x48
#define PM1_STATUS      0x600   /* as SeaBIOS sets it up, pc and q35 */
#define PM1_ENABLE      0x602
#define PM1_POWER_BUTTON        (1u << 8)
#define PM_TIMER        0x608
#define PM_TIMER_HZ     3579545
#define DELAY_PORT      0x80    /* a write exits, and does nothing */
#define CPUID_1_ECX_TSC_DEADLINE        (1u << 24)
#define LVT_ONE_SHOT    0
#define PERIOD_MS       1000
#define PHASE_TICKS     8       /* as many late ones show a later phase */
#define WAKE_VECTOR     0x3f    /* not counted */
#define PAGE_WORDS      (4096 / sizeof(uint64_t))

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
    EVERYBODY,          /* ICR, shorthand all including self */
    PAIR_FIRST,         /* ICR, physical destination; two in a row, */
    PAIR_SECOND,        /* this one of lower priority */
    EDU_MSI,
    EDU_LEVEL,
    HPET_MSI,
    HPET_LEVEL,
    N_SENT_SOURCES,
    DEADLINE = N_SENT_SOURCES,
    ONE_SHOT,
    PERIODIC,
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
    [EVERYBODY] = { "cross-IPI, all including self", 0x55 },
    [PAIR_FIRST] = { "cross-IPI, first of two", 0xb8 },
    [PAIR_SECOND] = { "cross-IPI, second of two", 0x98 },
    [EDU_MSI] = { "MSI from a CPU's write (edu)", 0x2a },
    [EDU_LEVEL] = { "level interrupt from a CPU's write (edu)", 0x4a },
    [HPET_MSI] = { "MSI from the VMM's thread (HPET)", 0xf8 },
    [HPET_LEVEL] = { "level interrupt from the VMM's thread (HPET)", 0x8a },
    [DEADLINE] = { "TSC-deadline timer", 0xec },
    [ONE_SHOT] = { "one-shot timer", 0x71 },
    [PERIODIC] = { "periodic timer", 0xc5 },
};

/*
 * Written by the sender (sent, lost) and by the target's handler (the rest);
 * of a timer, and of an interrupt that its handler causes, all by the handler.
 */
struct channel {
    uint64_t sent, lost;
    uint64_t received, doubled;
};

struct cpu {
    uint64_t rng, isr_rng;
    uint64_t due;               /* TSC, the timer must not fire before */
    uint64_t early_deadline, early_count;
    uint64_t out_of_order;
    uint64_t caused;            /* interrupts, at whatever CPU */
    uint64_t msis;              /* of edu among these */
    uint64_t ipis;              /* sent, to one target or several */
    uint64_t last_tick;         /* TSC of the timer's last interrupt */
    uint64_t last_seen;         /* TSC when last running, all let in */
    uint64_t late_ticks, least_late;    /* periodic ones, in a row */
    uint64_t kept;              /* periodic ones that stock KVM did not save */
    uint64_t *ledger;           /* ledger_pages, a count in each */
    uint64_t entries;           /* made in the ledger */
    enum source timer;
    bool timer_on;
    bool drop[N_SOURCES], twice[N_SOURCES];     /* still to be done */
    struct edu edu_msi, edu_level;
    unsigned edu_target;        /* of its MSIs, once it has one */
    bool edu_has_target;
};

static struct channel channels[MAX_CPUS][256];  /* by target and vector */
static struct cpu cpus[MAX_CPUS];
static unsigned n_cpus, n_ready, n_sent, n_quiet;
static unsigned ledger_pages;
static uint64_t spec_ctrl, spec_ctrl_between;
static bool go, until_wrong, wrong, until_told, msi_off;
static const char *missing[N_SOURCES];  /* why a source is not there */
static enum source source_of[256];
static uint64_t quota;          /* what each CPU has to cause */
static uint64_t msis;           /* the quota is of MSIs, and this is all CPUs' */
static uint64_t ipis;           /* the same of IPIs */
static uint64_t timer_span;     /* TSC ticks, until the next at most */
static uint64_t tsc_per_ms, patience, moves, kept;
static uint64_t timer_per_ms;   /* counts of the LAPIC timer */

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

/* What the LAPIC timer counts in 20 ms, by the TSC. */
static uint64_t calibrate_timer(void)
{
    uint64_t start[2], end[2], count[2], ticks;

    apic_write(APIC_TDCR, APIC_TDCR_BY_1);
    apic_write(APIC_LVTT, APIC_LVT_MASKED);
    apic_write(APIC_TMICT, 0xffffffff);
    /* Each pair of readings at most 100 us apart, host permitting. */
    for (unsigned i = 0; i < 2; i++) {
        unsigned tries = 0;

        do {
            start[i] = rdtsc();
            count[i] = apic_read(APIC_TMCCT);
            end[i] = rdtsc();
        } while (end[i] - start[i] > tsc_per_ms / 10 && ++tries < 1000);
        while (!i && rdtsc() - start[0] < 20 * tsc_per_ms) {
            cpu_pause();
        }
    }
    apic_write(APIC_TMICT, 0);
    ticks = (count[0] - count[1]) * tsc_per_ms;
    return ticks / (start[1] - start[0]);
}

static bool still_to_do(bool *once)
{
    bool was = *once;

    *once = false;
    return was;
}

/* ---- Receiving ---- */

/* The next interrupt of a timer that is not periodic. */
static void arm(struct cpu *c)
{
    uint64_t r = random_next(&c->isr_rng);
    struct channel *ch =
        &channels[cpu_self()][sources[c->timer].base + cpu_self()];
    /* One in eight deadlines has passed when it is written. */
    uint64_t ticks = r % timer_span;
    __atomic_add_fetch(&c->caused, 1, __ATOMIC_RELAXED);
    store(&ch->sent, ch->sent + 1);
    if (still_to_do(&c->twice[c->timer])) {
        apic_self_ipi(sources[c->timer].base + cpu_self());
        r |= 1ull << 40;
        ticks = 100 * tsc_per_ms;
    } else if (ch->received && still_to_do(&c->drop[c->timer])) {
        return;
    }
    if (c->timer == DEADLINE) {
        c->due = r >> 40 & 7 ? rdtsc() + ticks : rdtsc() - 1;
        wrmsr(MSR_TSC_DEADLINE, c->due);
    } else {
        /* Nobody can measure the timer's rate better than to 1 in 64. */
        c->due = rdtsc() + ticks - ticks / 64;
        apic_write(APIC_TMICT, ticks * timer_per_ms / tsc_per_ms + 1);
    }
}

/*
 * Sets when the next periodic interrupt is due: a period after this one was. A
 * host that stalled for several periods may still deliver each of them, one
 * right after the other. When they merged instead, or the host started a period
 * late, every interrupt is late from then on: some in a row show by how much.
 */
static void follow_period(struct cpu *c, uint64_t now, uint64_t period)
{
    uint64_t late = now > c->due ? now - c->due : 0;

    c->due = now - late + period;
    c->least_late = c->late_ticks && c->least_late < late ? c->least_late
                                                          : late;
    if (++c->late_ticks == PHASE_TICKS) {
        c->due += c->least_late;
        c->late_ticks = 0;
    }
}

/* Returns whether a periodic interrupt is one that was due. */
static bool periodic_is_due(struct cpu *c, struct channel *ch, uint64_t last)
{
    uint64_t period = PERIOD_MS * tsc_per_ms, now = c->last_tick;
    uint64_t lost = 0;

    if (still_to_do(&c->drop[PERIODIC])) {
        c->last_tick = last;
        return true;
    }
    if (now + period / 4 < c->due) {
        if (c->early_count >= moves) {
            ch->doubled++;
            return false;
        }
        c->early_count++;
        c->due = now;
    }
    if (c->last_seen > last + period) {
        lost = (c->last_seen - last - period + period / 4) / period;
    }
    c->due += lost * period;
    if (lost && c->kept < kept) {
        c->kept++;
        lost--;
    }
    ch->lost += lost;
    ch->sent++;
    ch->received++;
    __atomic_add_fetch(&c->caused, 1, __ATOMIC_RELAXED);
    follow_period(c, now, period);
    if (still_to_do(&c->twice[PERIODIC])) {
        apic_self_ipi(sources[PERIODIC].base + cpu_self());
    }
    return true;
}

/* Does a device with a status register say that it asked for this one? */
static bool device_asked(enum source s, unsigned sender)
{
    switch (s) {
    case EDU_LEVEL:
        return edu_ack(&cpus[sender].edu_level);
    case HPET_LEVEL:
        return hpet_ack(MAX_CPUS + sender);
    default:
        return true;
    }
}

/* A device that asks again while its last interrupt is in service. */
static void ask_again(struct cpu *c, struct channel *ch, enum source s,
                      unsigned sender)
{
    if ((s != EDU_LEVEL && s != HPET_LEVEL) ||
        random_next(&c->isr_rng) & 3) {
        return;
    }
    __atomic_add_fetch(&c->caused, 1, __ATOMIC_RELAXED);
    store(&ch->sent, ch->sent + 1);
    if (s == EDU_LEVEL) {
        edu_raise(&cpus[sender].edu_level);
    } else {
        hpet_arm(MAX_CPUS + sender, 100);
    }
}

/* In service, with or without IF: exit, let a higher class in. */
static void dawdle(uint64_t r)
{
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
}

static void note_tick(struct cpu *c)
{
    c->last_tick = rdtsc();
    if (c->timer == DEADLINE) {
        c->early_deadline += c->last_tick < c->due;
    } else if (c->timer == ONE_SHOT) {
        c->early_count += c->last_tick < c->due;
    }
}

static void receive(struct isr_frame *f)
{
    unsigned self = cpu_self();
    struct cpu *c = &cpus[self];
    struct channel *ch = &channels[self][f->vector];
    enum source s = source_of[f->vector];
    unsigned sender = f->vector - sources[s].base;
    uint64_t r = random_next(&c->isr_rng);

    if (s == PERIODIC) {
        uint64_t last = c->last_tick;

        c->last_tick = rdtsc();
        if (periodic_is_due(c, ch, last)) {
            dawdle(r);
        }
        apic_eoi();
        return;
    }
    if (s == c->timer) {
        note_tick(c);
    }
    if (!device_asked(s, sender) || ch->received >= load(&ch->sent)) {
        ch->doubled++;
        apic_eoi();
        return;
    }
    if (s == PAIR_SECOND) {
        struct channel *first =
            &channels[self][sources[PAIR_FIRST].base + sender];

        c->out_of_order += load(&first->received) < load(&first->sent);
    }
    dawdle(r);
    if (s == c->timer && __atomic_load_n(&c->timer_on, __ATOMIC_RELAXED)) {
        arm(c);
    }
    ask_again(c, ch, s, sender);
    /* From here on the sender may send the next. */
    store(&ch->received, ch->received + 1);
    apic_eoi();
}

/* ---- Sending ---- */

/* All that was sent and has not been counted is lost. */
static void give_up(struct channel *ch)
{
    ch->lost += ch->sent - load(&ch->received);
    store(&ch->sent, load(&ch->received));
}

/* Waits for what was armed, without relying on an interrupt. */
static void await_armed(struct channel *ch)
{
    uint64_t end = rdtsc() + patience;

    while (load(&ch->received) < load(&ch->sent)) {
        if (rdtsc() > end) {
            give_up(ch);
            return;
        }
        cpu_pause();
    }
}

/* Waits, interrupts on, for the target to have counted all that was sent. */
static void await(struct cpu *c, struct channel *ch)
{
    uint64_t end = rdtsc() + patience;
    /* One that halts is not seen to miss a period. */
    bool halts = c->timer != PERIODIC || !(random_next(&c->rng) & 511);

    while (load(&ch->received) < load(&ch->sent)) {
        c->last_seen = rdtsc();
        if (c->last_seen > end) {
            give_up(ch);
            return;
        }
        if (!halts || random_next(&c->rng) & 3 ||
            rdtsc() - c->last_tick > patience / 4) {
            cpu_pause();
        } else {
            /* The timer, which never rests unless one was lost, ends this. */
            irq_disable();
            if (load(&ch->received) < load(&ch->sent)) {
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
    case 4:
        c->ledger[r % ledger_pages * PAGE_WORDS]++;
        c->entries++;
        break;
    }
}

static uint32_t logical_id(unsigned cpu)
{
    uint32_t id = cpu_apic_id(cpu);

    return (id & 0xffff0) << 12 | 1u << (id & 15);
}

static void send_icr(enum source s, unsigned self, unsigned target)
{
    uint32_t low = APIC_ICR_ASSERT | (sources[s].base + self);
    uint32_t mask = 0;

    switch (s) {
    case SELF_ICR:
        apic_icr(0, low | APIC_ICR_SELF);
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
    case OTHERS:
        apic_icr(0, low | APIC_ICR_OTHERS);
        break;
    case EVERYBODY:
        apic_icr(0, low | APIC_ICR_ALL);
        break;
    default:
        apic_icr(cpu_apic_id(target), low);
        break;
    }
}

/* The device's interrupt may go to another CPU than the last. */
static void ask_device(struct cpu *c, enum source s, unsigned self,
                       unsigned target)
{
    unsigned vector = sources[s].base + self;
    uint32_t id = cpu_apic_id(target);

    switch (s) {
    case EDU_MSI:
        if (!c->edu_has_target || target != c->edu_target) {
            if (msi_off) {
                edu_no_msi(&c->edu_msi);
            }
            edu_use_msi(&c->edu_msi, vector, id);
            c->edu_has_target = true;
            c->edu_target = target;
        }
        edu_raise(&c->edu_msi);
        c->msis++;
        break;
    case EDU_LEVEL:
        ioapic_route_level(c->edu_level.gsi, vector, id);
        edu_raise(&c->edu_level);
        break;
    case HPET_MSI:
        hpet_set_msi(self, vector, id);
        hpet_arm(self, c->rng % 10000);
        break;
    default:
        ioapic_route_level(HPET_GSI_BASE + self, vector, id);
        hpet_arm(MAX_CPUS + self, c->rng % 10000);
        break;
    }
}

static void emit(struct cpu *c, enum source s, unsigned self, unsigned target)
{
    if (s == SELF_LOW || s == SELF_REG) {
        apic_self_ipi(sources[s].base + self);
    } else if (s < EDU_MSI) {
        send_icr(s, self, target);
    } else {
        ask_device(c, s, self, target);
    }
}

static bool is_cross(enum source s)
{
    return s >= PHYSICAL && s <= PAIR_SECOND;
}

static bool hits(enum source s, unsigned self, unsigned target, unsigned cpu)
{
    if (s == GROUP || s == OTHERS) {
        return cpu != self;
    }
    return s == EVERYBODY || cpu == target;
}

static void count_and_emit(struct cpu *c, enum source s, unsigned self,
                           unsigned target)
{
    unsigned vector = sources[s].base + self;

    for (unsigned i = 0; i < n_cpus; i++) {
        if (hits(s, self, target, i)) {
            /* The timer's handler counts, too. */
            __atomic_add_fetch(&c->caused, 1, __ATOMIC_RELAXED);
            store(&channels[i][vector].sent, channels[i][vector].sent + 1);
        }
    }
    c->ipis += s < EDU_MSI;
    if (!still_to_do(&c->drop[s])) {
        emit(c, s, self, target);
    }
}

static void await_all(struct cpu *c, enum source s, unsigned self,
                      unsigned target)
{
    unsigned vector = sources[s].base + self;

    for (unsigned i = 0; i < n_cpus; i++) {
        if (hits(s, self, target, i)) {
            await(c, &channels[i][vector]);
        }
    }
    /* After the first was counted, lest the IRR merge the two. */
    if (still_to_do(&c->twice[s])) {
        emit(c, s, self, target);
    }
}

static void send(struct cpu *c, enum source s, unsigned self, unsigned target)
{
    count_and_emit(c, s, self, target);
    if (s == PAIR_FIRST) {
        count_and_emit(c, PAIR_SECOND, self, target);
    }
    disturb(c);
    await_all(c, s, self, target);
    if (s == PAIR_FIRST) {
        await_all(c, PAIR_SECOND, self, target);
    }
}

static void timer_start(struct cpu *c, enum source s)
{
    static const uint32_t modes[N_SOURCES] = {
        [DEADLINE] = APIC_LVT_TSC_DEADLINE,
        [ONE_SHOT] = LVT_ONE_SHOT,
        [PERIODIC] = APIC_LVT_PERIODIC,
    };

    irq_disable();
    c->timer = s;
    c->last_tick = rdtsc();
    c->timer_on = true;
    apic_write(APIC_TDCR, APIC_TDCR_BY_1);
    apic_write(APIC_LVTT, modes[s] | (sources[s].base + cpu_self()));
    if (s == PERIODIC) {
        c->due = rdtsc() + PERIOD_MS * tsc_per_ms;
        c->late_ticks = 0;
        apic_write(APIC_TMICT, PERIOD_MS * timer_per_ms);
    } else {
        arm(c);
    }
    irq_enable();
}

/* Waits for one more, so that a periodic timer that has died shows. */
static void await_period(struct cpu *c, struct channel *ch)
{
    uint64_t before = load(&ch->received), end = rdtsc() + patience;

    while (load(&ch->received) == before) {
        c->last_seen = rdtsc();
        if (c->last_seen > end) {
            ch->lost++;
            return;
        }
        cpu_pause();
    }
}

/* The last one that was armed arrives before the mode changes. */
static void timer_stop(struct cpu *c)
{
    struct channel *ch =
        &channels[cpu_self()][sources[c->timer].base + cpu_self()];

    __atomic_store_n(&c->timer_on, false, __ATOMIC_RELAXED);
    if (c->timer == PERIODIC) {
        await_period(c, ch);
    } else {
        await_armed(ch);
    }
    apic_write(APIC_LVTT, APIC_LVT_MASKED);
    apic_write(APIC_TMICT, 0);
}

static void wake(struct isr_frame *f)
{
    (void)f;
    apic_eoi();
}

/* One that lost its timer may halt, and nobody sends to it any more. */
static void wait_for_all(unsigned *counter)
{
    uint64_t next = rdtsc();

    __atomic_add_fetch(counter, 1, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(counter, __ATOMIC_ACQUIRE) < n_cpus) {
        if (rdtsc() > next) {
            apic_icr(0, APIC_ICR_ASSERT | APIC_ICR_OTHERS | WAKE_VECTOR);
            next = rdtsc() + 100 * tsc_per_ms;
        }
        cpu_pause();
    }
}

static bool left_out(enum source s)
{
    if (ipis) {
        return s >= EDU_MSI && s < N_SENT_SOURCES;
    }
    return msis && s < N_SENT_SOURCES && s != EDU_MSI && s != PHYSICAL;
}

static unsigned choose_target(struct cpu *c, enum source s, unsigned self)
{
    uint64_t r = random_next(&c->rng);
    unsigned target;

    if (is_cross(s)) {
        target = r % (n_cpus - 1);
        return target + (target >= self);
    }
    /* Programming a device takes long: not each time. */
    if (s == EDU_MSI && c->edu_has_target && r >> 32 & 7) {
        return c->edu_target;
    }
    return s >= EDU_MSI ? r % n_cpus : self;
}

/* One interrupt, or one for each target, from every source but the timer. */
static void send_round(struct cpu *c, unsigned self)
{
    for (enum source s = 0; s < N_SENT_SOURCES; s++) {
        if (!missing[s] && s != PAIR_SECOND && !left_out(s)) {
            send(c, s, self, choose_target(c, s, self));
        }
    }
}

/* What counts for the quota. */
static uint64_t progress(const struct cpu *c)
{
    if (ipis) {
        return c->ipis;
    }
    return msis ? c->msis : load(&c->caused);
}

/* Two fifths of the interrupts with each fast timer, one with the slow. */
static void next_timer(struct cpu *c)
{
    enum source wanted = DEADLINE + progress(c) * 5 / quota / 2;

    if (wanted >= N_SOURCES) {
        return;
    }
    wanted += missing[wanted] != NULL;
    if (wanted < N_SOURCES && wanted != c->timer) {
        if (c->timer_on) {
            timer_stop(c);
        }
        timer_start(c, wanted);
    }
}

/* Has anybody seen what must not be? Only asked with until_wrong. */
static bool anything_wrong(unsigned self)
{
    const struct cpu *c = &cpus[self];
    uint64_t last_tick = load(&c->last_tick);
    /* A timer that fires all the time: timer_stop() counts what is lost. */
    bool timer_died = c->timer_on && c->timer != PERIODIC &&
                      rdtsc() - last_tick > patience;
    bool mine = timer_died || c->early_deadline || c->early_count > moves ||
                c->out_of_order;

    for (unsigned vector = 0; vector < 256; vector++) {
        const struct channel *ch = &channels[self][vector];

        mine = mine || load(&ch->lost) || load(&ch->doubled);
    }
    if (mine) {
        __atomic_store_n(&wrong, true, __ATOMIC_RELEASE);
    }
    return __atomic_load_n(&wrong, __ATOMIC_ACQUIRE);
}

/* QEMU notes a press only for a guest that wants to hear of it. */
static void watch_power_button(void)
{
    outw(PM1_ENABLE, PM1_POWER_BUTTON);
}

static bool told(void)
{
    return !until_told || (inw(PM1_STATUS) & PM1_POWER_BUTTON);
}

static bool is_done(const struct cpu *c, unsigned self)
{
    return (progress(c) >= quota && told()) ||
           (until_wrong && anything_wrong(self));
}

static void check_spec_ctrl(uint64_t wanted)
{
    uint64_t now;

    if (rdmsr_safe(MSR_SPEC_CTRL, &now) || now != wanted) {
        print("Bail out! IA32_SPEC_CTRL of CPU %u is not %lx\n", cpu_self(),
              wanted);
        guest_exit(2);
    }
}

/*
 * KVM lets a guest have this MSR once it has written it, and from then on learns
 * at exits only what is in it.
 */
static void take_turns_with_spec_ctrl(void)
{
    if (!spec_ctrl) {
        return;
    }
    check_spec_ctrl(spec_ctrl);
    if (spec_ctrl_between != spec_ctrl) {
        wrmsr_safe(MSR_SPEC_CTRL, spec_ctrl_between);
        outb(DELAY_PORT, 0);
        check_spec_ctrl(spec_ctrl_between);
        wrmsr_safe(MSR_SPEC_CTRL, spec_ctrl);
    }
}

static void run_cpu(unsigned self)
{
    struct cpu *c = &cpus[self];
    uint64_t reported = 0;

    if (self >= n_cpus) {
        return;
    }
    if (spec_ctrl) {
        wrmsr_safe(MSR_SPEC_CTRL, spec_ctrl);
    }
    __atomic_add_fetch(&n_ready, 1, __ATOMIC_SEQ_CST);
    while (!__atomic_load_n(&go, __ATOMIC_ACQUIRE)) {
        cpu_pause();
    }

    while (!is_done(c, self)) {
        uint64_t tenth = progress(c) * 10 / quota;

        next_timer(c);
        send_round(c, self);
        take_turns_with_spec_ctrl();
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

/* Returns how many ledgers are not as they were written. */
static unsigned bad_ledgers(void)
{
    unsigned bad = 0;

    for (unsigned i = 0; i < n_cpus; i++) {
        uint64_t sum = 0;

        for (unsigned page = 0; page < ledger_pages; page++) {
            sum += cpus[i].ledger[page * PAGE_WORDS];
        }
        bad += sum != cpus[i].entries;
    }
    return bad;
}

static void report_source(enum source s, struct channel *all)
{
    struct channel sum = total(s);

    if (missing[s]) {
        tap_skip(sources[s].name, missing[s]);
        return;
    }
    print("# %s: sent %lu received %lu lost %lu doubled %lu\n",
          sources[s].name, sum.sent, sum.received, sum.lost, sum.doubled);
    tap_ok(sum.sent && sum.sent == sum.received && !sum.doubled,
           "%s: each arrived once", sources[s].name);
    all->sent += sum.sent;
    all->received += sum.received;
    all->lost += sum.lost;
    all->doubled += sum.doubled;
}

static void report(void)
{
    struct channel all = { 0 };
    uint64_t early = 0, moved = 0, out_of_order = 0, of_ipis = 0;
    uint64_t not_saved = 0;

    for (enum source s = 0; s < N_SOURCES; s++) {
        if (!left_out(s)) {
            report_source(s, &all);
        }
        if (s == EDU_MSI - 1) {
            of_ipis = all.received;
        }
    }
    for (unsigned i = 0; i < n_cpus; i++) {
        uint64_t excused = cpus[i].early_count < moves ?
                           cpus[i].early_count : moves;

        moved += excused;
        not_saved += cpus[i].kept;
        early += cpus[i].early_deadline + cpus[i].early_count - excused;
        out_of_order += cpus[i].out_of_order;
    }
    if (kept) {
        print("# periodic ones that stock KVM did not save: %lu\n", not_saved);
    }
    tap_ok(!early, "no timer interrupt before its time (%lu; %lu with a move)",
           early, moved);
    tap_ok(!out_of_order, "the first of two came first (%lu did not)",
           out_of_order);
    tap_ok(!bad_ledgers(), "memory holds what was written");
    print("torture: cpus=%u sent=%lu received=%lu lost=%lu doubled=%lu "
          "early=%lu disorder=%lu ipis=%lu\n", n_cpus, all.sent, all.received,
          all.lost, all.doubled, early, out_of_order, of_ipis);
}

static void find_devices(void)
{
    unsigned n_hpet = hpet_start();

    for (unsigned i = 0; i < n_cpus; i++) {
        struct cpu *c = &cpus[i];

        /* Slots in a row for those that use INTx: a GSI for each. */
        if (!edu_find(&c->edu_level, i) ||
            !edu_find(&c->edu_msi, n_cpus + i)) {
            missing[EDU_MSI] = missing[EDU_LEVEL] = "too few edu devices";
        }
        if (n_hpet < MAX_CPUS + n_cpus) {
            missing[HPET_MSI] = missing[HPET_LEVEL] = "too few HPET timers";
            continue;
        }
        hpet_use_level(MAX_CPUS + i, HPET_GSI_BASE + i);
        if (!hpet_use_msi(i)) {
            missing[HPET_MSI] = "the HPET has no MSIs";
        }
    }
}

static void find_sources(void)
{
    uint32_t regs[4];

    cpuid(1, 0, regs);
    if (!(regs[2] & CPUID_1_ECX_TSC_DEADLINE)) {
        missing[DEADLINE] = "the LAPIC timer has no TSC-deadline mode";
    }
    find_devices();
    isr_set(WAKE_VECTOR, wake);
    for (enum source s = 0; s < N_SOURCES; s++) {
        if (is_cross(s) && n_cpus < 2) {
            missing[s] = "one CPU";
        }
        for (unsigned i = 0; i < MAX_CPUS; i++) {
            source_of[sources[s].base + i] = s;
            isr_set(sources[s].base + i, receive);
        }
    }
}

static void prepare_cpu(struct cpu *c, uint64_t seed)
{
    c->rng = seed * 0x9e3779b97f4a7c15;
    c->isr_rng = seed * 0xd1342543de82ef95;
    c->ledger = page_alloc(ledger_pages);
    /* None is all zeros, which would move for free. */
    for (unsigned page = 1; page <= ledger_pages; page++) {
        c->ledger[page * PAGE_WORDS - 1] = 1;
    }
    c->timer = N_SOURCES;
}

void guest_main(void)
{
    uint64_t irqs = guest_param("irqs", 100000);
    uint64_t seed = guest_param("seed", 1);

    until_wrong = guest_param("until_wrong", 0);
    until_told = guest_param("until_told", 0);
    msis = guest_param("msis", 0);
    ipis = guest_param("ipis", 0);
    msi_off = guest_param("msi_off", 0);
    ledger_pages = guest_param("ledger", 256);
    spec_ctrl = guest_param("spec_ctrl", 0);
    spec_ctrl_between = guest_param("spec_ctrl_between", spec_ctrl);
    n_cpus = cpu_count() < MAX_CPUS ? cpu_count() : MAX_CPUS;
    tsc_per_ms = calibrate();
    timer_per_ms = calibrate_timer();
    patience = guest_param("patience_ms", 20000) * tsc_per_ms;
    timer_span = msis || ipis ? tsc_per_ms * 4 : tsc_per_ms / 4;
    moves = guest_param("moves", 0);
    kept = guest_param("kept", 0);
    quota = (ipis ?: msis ?: irqs) / n_cpus + 1;
    tap_plan(N_SOURCES + 3);
    print("# %u CPUs, %lu TSC ticks and %lu timer ticks per ms\n", n_cpus,
          tsc_per_ms, timer_per_ms);

    find_sources();
    watch_power_button();
    if (msis && missing[EDU_MSI]) {
        print("Bail out! %s\n", missing[EDU_MSI]);
        guest_exit(2);
    }
    for (unsigned i = 0; i < n_cpus; i++) {
        prepare_cpu(&cpus[i], seed + i + 1);
    }
    for (enum source s = 0; s < N_SOURCES; s++) {
        cpus[0].drop[s] = guest_param("drop", 0);
        cpus[0].twice[s] = guest_param("twice", 0);
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
