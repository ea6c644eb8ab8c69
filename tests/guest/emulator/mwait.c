/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MONITOR and MWAIT as an idle loop uses them (Intel SDM vol. 3A, 10.10.4): MWAIT
 * waits for a store to the line, also for one that came before it, or for an
 * interrupt, and for nothing else. A hypervisor counts on it that neither VMRUN
 * nor #VMEXIT leaves a line monitored (vol. 3C, 28.5.6).
 *
 * What waits for ever is found by the end of all patience. "migrate=1": say so
 * when a CPU is in MWAIT for a line that nobody stores to, and wait.
 */
#include "svm.h"

#define VEC             0x40
#define VEC_NMI         2
#define VEC_GP          13
#define NMI_ICR         (APIC_ICR_NMI | APIC_ICR_ASSERT)

#define STORES          300
#define LATE            2000000ul       /* TSC ticks, about a millisecond */
#define MWAIT_BYTES     3

/* volatile: written by interrupt handlers */
static volatile unsigned hits, nmis, faults;

static volatile struct {        /* volatile: written by both CPUs */
    unsigned value;
    unsigned fill[15];
} line __attribute__((aligned(64)));

/*
 * What the other CPU is to do LATE ticks after it was told.  After an interrupt
 * it stores: a CPU that was too slow to be in MWAIT by then is not left there.
 */
enum errand { NOTHING, STORE, SEND_IPI, SEND_NMI, SAY_ARMED };
static volatile enum errand errand;     /* volatile: the same */

static void on_irq(struct isr_frame *f)
{
    (void)f;
    hits++;
    apic_eoi();
}

static void on_nmi(struct isr_frame *f)
{
    (void)f;
    nmis++;
}

static void on_gp(struct isr_frame *f)
{
    faults++;
    f->rip += MWAIT_BYTES;
}

static void monitor(void)
{
    asm volatile("monitor" : : "a"(&line), "c"(0), "d"(0) : "memory");
}

static void mwait(uint32_t extensions)
{
    asm volatile("mwait" : : "a"(0), "c"(extensions) : "memory");
}

/* STI's shadow keeps an interrupt from slipping in before MWAIT. */
static void irq_enable_and_mwait(void)
{
    asm volatile("sti; mwait" : : "a"(0), "c"(0) : "memory");
}

static void wait_ticks(uint64_t ticks)
{
    uint64_t end = rdtsc() + ticks;

    while (rdtsc() < end) {
        cpu_pause();
    }
}

static void run_errand(enum errand what)
{
    if (what == SAY_ARMED) {
        wait_ticks(200 * LATE);
        print("# armed\n");
        return;
    }
    wait_ticks(LATE);
    if (what != STORE) {
        apic_icr(cpu_apic_id(0), what == SEND_NMI ? NMI_ICR :
                                 APIC_ICR_ASSERT | VEC);
        wait_ticks(LATE);
    }
    line.value++;
}

static void run_errands(unsigned index)
{
    (void)index;
    for (;;) {
        if (errand != NOTHING) {
            run_errand(errand);
            errand = NOTHING;
        }
        cpu_pause();
    }
}

/* Wait in MWAIT for an errand; has nobody stored by the time it ends? */
static bool ends_without_store(enum errand what, void (*wait)(void))
{
    unsigned before = line.value;
    bool without;

    monitor();
    errand = what;
    wait();
    without = line.value == before;
    while (errand != NOTHING) {
        cpu_pause();
    }
    return without;
}

static void leaf_5(void)
{
    uint32_t regs[4];

    cpuid(5, 0, regs);
    tap_ok(regs[0] == 64 && regs[1] == 64, "the line has 64 bytes");
    tap_ok((regs[2] & 3) == 3 && (regs[3] >> 4 & 15) == 1,
           "there are extensions, and C1");
}

/* Once for each store: a second look is one too many, but not wrong. */
static void stores(void)
{
    unsigned looks = 0, before;

    for (unsigned i = 0; i < STORES; i++) {
        before = line.value;
        errand = STORE;
        while (line.value == before) {
            monitor();
            if (line.value == before) {
                mwait(0);
                looks++;
            }
        }
        while (errand != NOTHING) {
            cpu_pause();
        }
    }
    tap_ok(looks <= 2 * STORES, "%u stores end %u times MWAIT", STORES, looks);
}

static void goes_on(void)
{
    monitor();
    line.value++;
    mwait(0);
    tap_ok(true, "a store between MONITOR and MWAIT is seen");
    mwait(0);
    tap_ok(true, "MWAIT without MONITOR goes on");
}

static void wait_open(void)
{
    irq_enable_and_mwait();
    irq_disable();
}

static void wait_closed(void)
{
    mwait(0);
}

/* Once in a few tries, however busy the machine below is. */
static bool ends(enum errand what, void (*wait)(void), volatile unsigned *count)
{
    for (unsigned tries = 0; tries < 20; tries++) {
        unsigned before = *count;

        if (ends_without_store(what, wait) && *count == before + 1) {
            return true;
        }
    }
    return false;
}

static void interrupts(void)
{
    unsigned before;

    tap_ok(ends(SEND_IPI, wait_open, &hits), "an interrupt ends it");
    tap_ok(ends(SEND_NMI, wait_closed, &nmis), "an NMI ends it");

    before = hits;
    apic_self_ipi(VEC);
    monitor();
    mwait(1);
    tap_ok(hits == before, "a masked interrupt ends it if ECX[0] says so");
    tap_ok(!ends_without_store(STORE, wait_closed) && hits == before,
           "and does not, if ECX is 0: a store does");
    irq_enable();
    irq_disable();

    mwait(2);
    tap_ok(faults == 1, "ECX[1] is a #GP");
}

static void guest_monitors(void)
{
    monitor();
    vmmcall();
}

static void guest_waits(void)
{
    mwait(0);
    vmmcall();
}

static void world_switches(void)
{
    uint64_t code;

    svm_reset(guest_waits);
    monitor();
    code = svm_run();
    stgi();
    tap_ok(code == EXIT_VMMCALL, "VMRUN clears what the host monitors");

    svm_reset(guest_monitors);
    code = svm_run();
    stgi();
    mwait(0);
    tap_ok(code == EXIT_VMMCALL, "#VMEXIT clears what the guest monitors");
}

static void migrate(void)
{
    ends_without_store(SAY_ARMED, wait_closed);
    tap_ok(true, "MWAIT ends on the other side");
    tap_ok(!ends_without_store(STORE, wait_closed),
           "and waits for a store there");
}

void guest_main(void)
{
    bool migrates = guest_param("migrate", 0);

    tap_plan(migrates ? 2 : 12);
    isr_set(VEC, on_irq);
    isr_set(VEC_NMI, on_nmi);
    isr_set(VEC_GP, on_gp);
    if (!svm_setup() || !smp_start(run_errands)) {
        print("Bail out! no SVM, or no second CPU\n");
        guest_exit(2);
    }
    if (migrates) {
        migrate();
        return;
    }
    leaf_5();
    stores();
    goes_on();
    interrupts();
    world_switches();
}
