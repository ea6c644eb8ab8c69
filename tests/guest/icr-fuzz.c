/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest that writes random values to its ICR, most of them malformed, and says
 * what came of them: whatever runs it, the same.
 *
 * After 16 writes, of 16 vectors, every CPU has to take the flush vector, whose
 * priority is the lowest: what was sent is there before. The flush handler exits
 * once, so that a hypervisor which has something in store hands it over. So the
 * trace does not depend on how long anything takes. It has whether each write
 * faulted, what the ICR read then, and how often which vector came to which CPU;
 * of all that it prints a hash.
 *
 * INIT, SIPI and SMI are sent to CPUs that do not exist only, and no two NMIs,
 * which could merge, between two flushes. Vectors whose exceptions have an error
 * code are not sent at all.
 *
 * Parameters (-append):
 *   writes=N       (100000)
 *   seed=N
 *   show=N         print the trace of the first N writes (0)
 *   watch=1        take part in nothing: an interrupt that comes is one too many
 * It must never touch another device than COM1.
 */
#include "guest.h"

#define MAX_CPUS        4
#define BATCH           16      /* writes from one flush to the next */
#define FLUSH_VECTOR    22      /* reserved as an exception, */
#define LAST_EXCEPTION  28      /* as all up to this one */
#define NMI_VECTOR      2
#define PATIENCE        (1ull << 36)    /* ticks of the TSC */
#define REPORT          1024    /* writes from one line to the next */
#define MODE(icr)       ((icr) & 0x700)
#define APIC_ICR_SMI    (2u << 8)
#define SHORTHAND       (3u << 18)
#define NOBODY          0x40000000u     /* an APIC ID, a cluster: no CPU's */
#define FNV_PRIME       0x100000001b3ull

/* By APIC ID: in which order CPUs come up is not always the same. */
static volatile unsigned hits[MAX_CPUS][256];   /* volatile: by handlers */
static volatile unsigned flushed;       /* volatile: the same */
static unsigned known[MAX_CPUS][256];   /* of hits, what is in the trace */
static unsigned n_cpus;
static uint64_t rng, hash = 0xcbf29ce484222325ull;
static uint64_t n_faults, n_interrupts, n_nmis;

static uint64_t random_next(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng >> 11;
}

static void trace(uint64_t value)
{
    hash = (hash ^ value) * FNV_PRIME;
}

/* ---- Handlers ---- */

static uint32_t self(void)
{
    return cpu_apic_id(cpu_self());
}

static void on_interrupt(struct isr_frame *f)
{
    hits[self()][f->vector]++;
    apic_eoi();
}

static void on_nmi(struct isr_frame *f)
{
    (void)f;
    hits[self()][NMI_VECTOR]++;
}

static void on_flush(struct isr_frame *f)
{
    uint32_t regs[4];

    (void)f;
    cpuid(0, 0, regs);
    irq_enable();
    irq_disable();
    __atomic_add_fetch(&flushed, 1, __ATOMIC_SEQ_CST);
    apic_eoi();
}

static void listen(unsigned index)
{
    (void)index;
    irq_enable();
    for (;;) {
        cpu_pause();
    }
}

/* ---- What is written ---- */

/* The lower half is the write's number. */
static uint8_t choose_vector(uint64_t r, unsigned n)
{
    uint8_t vector = (r & 0xf0) | n;

    if (vector >= 16 && vector < 32 &&
        (vector <= FLUSH_VECTOR || vector > LAST_EXCEPTION)) {
        vector += 16;
    }
    return vector;
}

static uint32_t choose_destination(uint64_t r)
{
    switch (r & 7) {
    case 0:
        return random_next();
    case 1:
        return 0xffffffffu;
    case 2:
        return 0xff;
    case 3:
        return (r >> 8 & 7) << 16 | (r >> 16 & 0xffff);     /* a cluster */
    default:
        return r >> 8 & 7;
    }
}

static uint64_t choose_value(unsigned n)
{
    uint64_t r = random_next();
    uint32_t low = r & 0xffffff00u, dest = choose_destination(random_next());

    low |= choose_vector(random_next(), n);
    if (r >> 32 & 1) {
        low &= ~0xfff33000u;            /* nothing reserved, nor busy */
    }
    if (r >> 33 & 1) {
        low &= APIC_ICR_LOGICAL | APIC_ICR_ASSERT | SHORTHAND | 0xff;
    }
    if (MODE(low) == APIC_ICR_NMI && n) {
        low &= ~0x700u;
    }
    if (MODE(low) == APIC_ICR_INIT || MODE(low) == APIC_ICR_SIPI ||
        MODE(low) == APIC_ICR_SMI) {
        low &= ~SHORTHAND;
        dest = NOBODY | (r >> 34 & 0xffff);
    }
    return (uint64_t)dest << 32 | low;
}

/* ---- What comes of it ---- */

/* False if a CPU does not answer. */
static bool flush(void)
{
    flushed = 0;
    for (unsigned id = 1; id < n_cpus; id++) {
        apic_icr(id, APIC_ICR_ASSERT | FLUSH_VECTOR);
    }
    apic_self_ipi(FLUSH_VECTOR);
    irq_enable();
    bool answered = becomes(&flushed, n_cpus, PATIENCE);
    irq_disable();
    return answered;
}

static void trace_hits(bool show)
{
    for (unsigned cpu = 0; cpu < n_cpus; cpu++) {
        for (unsigned vector = 0; vector < 256; vector++) {
            unsigned n = hits[cpu][vector] - known[cpu][vector];

            if (!n) {
                continue;
            }
            known[cpu][vector] += n;
            *(vector == NMI_VECTOR ? &n_nmis : &n_interrupts) += n;
            trace(cpu << 16 | vector << 8 | n);
            if (show) {
                print("# CPU %u: %u of vector %u\n", cpu, n, vector);
            }
        }
    }
}

static void write_one(unsigned n, bool show)
{
    uint64_t value = choose_value(n), now = 0;
    bool faulted = wrmsr_safe(MSR_X2APIC(APIC_ICR), value);

    n_faults += faulted;
    rdmsr_safe(MSR_X2APIC(APIC_ICR), &now);
    trace(value);
    trace(faulted);
    trace(now);
    if (show) {
        print("# ICR %lx%s, reads %lx\n", value, faulted ? " faults" : "", now);
    }
}

static void write_all(uint64_t writes, uint64_t shown)
{
    for (uint64_t i = 0; i < writes; i += BATCH) {
        bool show = i < shown;

        for (unsigned n = 0; n < BATCH; n++) {
            write_one(n, show);
        }
        if (!flush()) {
            print("Bail out! a CPU does not answer after write %lu\n", i);
            guest_exit(1);
        }
        trace_hits(show);
        if (!((i + BATCH) % REPORT)) {
            print("icr: %lu writes, %lu faults, %lu interrupts, %lu NMIs, "
                  "trace %016lx\n", i + BATCH, n_faults, n_interrupts, n_nmis,
                  hash);
        }
    }
}

static void install_handlers(void)
{
    isr_set(NMI_VECTOR, on_nmi);
    isr_set(FLUSH_VECTOR, on_flush);
    for (unsigned v = FLUSH_VECTOR + 1; v <= LAST_EXCEPTION; v++) {
        isr_set(v, on_interrupt);
    }
    for (unsigned v = 32; v < 256; v++) {
        isr_set(v, on_interrupt);
    }
}

void guest_main(void)
{
    rng = guest_param("seed", 1) * 0x9e3779b97f4a7c15;
    if (guest_param("watch", 0)) {
        print("icr-fuzz: watching\n");
        listen(0);
    }
    n_cpus = cpu_count();
    install_handlers();
    if (!smp_start(listen)) {
        print("Bail out! the other CPUs do not start\n");
        return;
    }
    print("icr-fuzz: %u CPUs\n", n_cpus);
    write_all(guest_param("writes", 100000), guest_param("show", 0));
    print("icr-fuzz: done\n");
}
