/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A CPU that loads its x87 environment must not disturb another one: CLGI and
 * STGI of the first CPU do what they say while a second one does nothing but
 * FLDENV. Only an emulator with a thread for each CPU can get this wrong, by
 * changing the first CPU's state from the thread of the second.
 */
#include "svm.h"

#define VEC             0x40
#define ROUNDS          300000
#define PATIENCE        6000000000ul    /* TSC ticks, some seconds */

/* volatile: written by the handler, or by one CPU and read by the other */
static volatile unsigned hits;
static volatile bool ready;     /* volatile: the same */

static void on_irq(struct isr_frame *f)
{
    (void)f;
    hits++;
    apic_eoi();
}

/* For ever, as an operating system does it with each change of its tasks. */
static void load_x87(unsigned index)
{
    uint8_t env[28];

    (void)index;
    asm volatile("fninit; fnstenv %0" : "=m"(env));
    for (;;) {
        asm volatile("fldenv %0" : : "m"(env));
        ready = true;
    }
}

void guest_main(void)
{
    unsigned rounds = 0, early = 0, late = 0;

    tap_plan(2);
    if (!svm_setup() || !smp_start(load_x87)) {
        print("Bail out! no SVM, or no second CPU\n");
        guest_exit(2);
    }
    isr_set(VEC, on_irq);
    irq_enable();
    while (!ready) {
        cpu_pause();
    }
    for (; rounds < ROUNDS && early + late < 3; rounds++) {
        unsigned want = hits + 1;

        clgi();
        apic_self_ipi(VEC);
        early += hits == want;
        stgi();
        while (!becomes(&hits, want, PATIENCE)) {
            late++;
            stgi();
        }
    }
    irq_disable();
    tap_ok(!early, "of %u interrupts, CLGI did not hold back %u", rounds,
           early);
    tap_ok(!late, "of %u interrupts, STGI did not let in %u", rounds, late);
}
