/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest that puts its local APIC into a known state, says so, and then does
 * nothing any more, so that others can look: interrupts in service, nested,
 * waiting, edge and level-triggered, a raised TPR, a timer, LVT entries.
 *
 * Parameter: state=N (0): 0 with interrupts in service, 1 with none.
 * It must end in the same state on every hypervisor: nothing in it may depend
 * on time.
 */
#include "guest.h"
#include "devices.h"

#define LEVEL_VECTOR    0x65
#define NESTED_VECTOR   0x93
#define TIMER_VECTOR    0x71

static struct edu edu;

static void set_lvts(void)
{
    apic_write(APIC_LVT0, APIC_LVT_MASKED | 0x34);
    apic_write(APIC_LVT1, APIC_LVT_MASKED | 0x400);     /* NMI */
    apic_write(APIC_LVTERR, 0xfe);
}

/* One that has run down: its interrupt waits, its count is 0. */
static void run_timer_down(void)
{
    apic_write(APIC_TDCR, 0);           /* by 2 */
    apic_write(APIC_LVTT, TIMER_VECTOR);
    apic_write(APIC_TMICT, 1000);
    while (!apic_test(APIC_IRR, TIMER_VECTOR)) {
        cpu_pause();
    }
}

static void park(void)
{
    print("guest: parked\n");
    for (;;) {
        cpu_pause();
    }
}

/* In service above the level interrupt: neither gets its EOI. */
static void nested(struct isr_frame *f)
{
    (void)f;
    apic_self_ipi(0x16);
    apic_self_ipi(0x42);
    apic_self_ipi(0x95);
    apic_self_ipi(0xd0);
    run_timer_down();
    apic_write(APIC_TPR, 0x20);
    park();
}

static void level(struct isr_frame *f)
{
    (void)f;
    irq_enable();
    apic_self_ipi(NESTED_VECTOR);
    for (;;) {
        cpu_pause();
    }
}

/* All classes wait, the level interrupt too; IF=0 and the TPR keep them. */
static void fill_irr(void)
{
    static const uint8_t vectors[] = {
        0x10, 0x1f, 0x20, 0x35, 0x80, 0xa0, 0xec, 0xf0, 0xf5, 0xfe
    };

    apic_write(APIC_TPR, 0xf0);
    for (unsigned i = 0; i < sizeof(vectors); i++) {
        apic_self_ipi(vectors[i]);
    }
    edu_raise(&edu);
    run_timer_down();
    park();
}

void guest_main(void)
{
    if (!edu_find(&edu, 0)) {
        print("Bail out! no edu device\n");
        return;
    }
    set_lvts();
    isr_set(LEVEL_VECTOR, level);
    isr_set(NESTED_VECTOR, nested);
    ioapic_route_level(edu.gsi, LEVEL_VECTOR, cpu_apic_id(0));
    if (guest_param("state", 0)) {
        fill_irr();
    }
    irq_enable();
    edu_raise(&edu);
    for (;;) {
        cpu_pause();
    }
}
