/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What VMRUN and a write to CR8 note of a pending virtual interrupt (V_IRQ),
 * other threads must not be able to overwrite, nor it what they note: an
 * interrupt that another CPU sends at that instant is not lost. Only an
 * emulator with a thread for each CPU can get this wrong.
 *
 * The race is narrow: IPIS interrupts meet it about once in ten runs.
 */
#include "svm.h"

#define VEC             0x40
#define VEC_VIRTUAL     0x50
#define IPIS            200000
#define DELAYS          3000    /* empty loops */
#define PATIENCE        6000000000ul    /* TSC ticks, some seconds */

/* volatile: written by one CPU and read by the other */
static volatile unsigned hits, sent, lost;
static volatile bool ready, done; /* volatile: the same */

static void on_irq(struct isr_frame *f)
{
    (void)f;
    hits++;
    apic_eoi();
}

/* Interrupts off: the virtual one stays pending. */
static void guest_exits(void)
{
    for (;;) {
        vmmcall();
    }
}

static void guest_writes_cr8(void)
{
    asm volatile("mov %0, %%cr8" : : "r"(1ul));
    vmmcall();
}

/* A lost one stays in the IRR: the next makes its CPU look there again. */
static void send(unsigned index)
{
    (void)index;
    while (!ready) {
        cpu_pause();
    }
    while (sent < IPIS && lost < 3) {
        unsigned want = hits + 1;

        /* The last handler has just run: meet every step until the next. */
        for (unsigned i = sent % DELAYS; i; i--) {
            asm volatile("" ::: "memory");
        }
        sent++;
        apic_icr(cpu_apic_id(0), APIC_ICR_ASSERT | VEC);
        while (!becomes(&hits, want, PATIENCE)) {
            lost++;
            apic_icr(cpu_apic_id(0), APIC_ICR_ASSERT | VEC);
        }
    }
    done = true;
}

void guest_main(void)
{
    bool only_vmmcall = true;

    tap_plan(3);
    if (!svm_setup() || !smp_start(send)) {
        print("Bail out! no SVM, or no second CPU\n");
        guest_exit(2);
    }
    isr_set(VEC, on_irq);
    svm_reset(guest_writes_cr8);
    svm_set32(VMCB_INT_VECTOR, VEC_VIRTUAL);
    svm_set32(VMCB_INT_CTL, INT_CTL_V_IRQ | INT_CTL_V_PRIO_15 |
              INT_CTL_V_INTR_MASKING);
    tap_ok(svm_run() == EXIT_VMMCALL,
           "CR8 is written while a virtual interrupt is pending");
    stgi();
    svm_reset(guest_exits);
    svm_set32(VMCB_INT_VECTOR, VEC_VIRTUAL);
    irq_enable();
    ready = true;
    while (!done) {
        svm_set32(VMCB_INT_CTL, INT_CTL_V_IRQ | INT_CTL_V_PRIO_15 |
                  INT_CTL_V_IGN_TPR);
        only_vmmcall &= svm_run() == EXIT_VMMCALL;
        svm_skip_vmmcall();
        stgi();
    }
    irq_disable();
    tap_ok(only_vmmcall, "the guest exits only by VMMCALL");
    tap_ok(!lost, "of %u IPIs that met VMRUN, %u were lost", sent, lost);
}
