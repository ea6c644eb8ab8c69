/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * MONITOR and MWAIT as an idle loop uses them (Intel SDM vol. 3A, 10.10.4): MWAIT
 * waits for a store to the line, also for one that came before it, or for an
 * interrupt, and for nothing else. A hypervisor counts on it that neither VMRUN
 * nor #VMEXIT leaves a line monitored (vol. 3C, 28.5.6).
 *
 * What waits for ever is found by the end of all patience.
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

/* What the other CPU is to do LATE ticks after it was told. */
enum errand { NOTHING, STORE, SEND_IPI, SEND_NMI };
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

static void run_errands(unsigned index)
{
    (void)index;
    for (;;) {
        enum errand now = errand;
        uint64_t end = rdtsc() + LATE;

        if (now == NOTHING) {
            cpu_pause();
            continue;
        }
        while (rdtsc() < end) {
            cpu_pause();
        }
        errand = NOTHING;
        if (now == STORE) {
            line.value++;
        } else {
            apic_icr(cpu_apic_id(0), now == SEND_NMI ? NMI_ICR :
                                     APIC_ICR_ASSERT | VEC);
        }
    }
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

static void interrupts(void)
{
    unsigned before = line.value;

    errand = SEND_IPI;
    monitor();
    irq_enable_and_mwait();
    irq_disable();
    tap_ok(hits == 1 && line.value == before, "an interrupt ends it");

    errand = SEND_NMI;
    monitor();
    mwait(0);
    tap_ok(nmis == 1 && line.value == before, "an NMI ends it");

    apic_self_ipi(VEC);
    monitor();
    mwait(1);
    tap_ok(hits == 1, "a masked interrupt ends it if ECX[0] says so");

    errand = STORE;
    monitor();
    mwait(0);
    tap_ok(hits == 1 && line.value == before + 1,
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

void guest_main(void)
{
    tap_plan(12);
    isr_set(VEC, on_irq);
    isr_set(VEC_NMI, on_nmi);
    isr_set(VEC_GP, on_gp);
    if (!svm_setup() || !smp_start(run_errands)) {
        print("Bail out! no SVM, or no second CPU\n");
        guest_exit(2);
    }
    leaf_5();
    stores();
    goes_on();
    interrupts();
    world_switches();
}
