/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The x2APIC registers that a guest with a LAPIC of its own uses without an
 * exit: self-IPI, EOI, TPR and CR8, PPR, IRR, ISR, TMR, and the ICR beside
 * them. (SDM volume 3, 11.5.3, 11.8 and 11.12.)
 */
#include "guest.h"

#define ESR_SEND_ILLEGAL        (1u << 5)
#define ESR_RECEIVE_ILLEGAL     (1u << 6)
#define VEC_NMI                 2
#define VEC_ERROR               0xfe

/* volatile: written by interrupt handlers */
static volatile unsigned hits[256], order[256], taken;
static volatile unsigned nmis[GUEST_MAX_CPUS]; /* volatile: by NMI handlers */

static void on_irq(struct isr_frame *f)
{
    hits[f->vector]++;
    order[taken++ % 256] = f->vector;
    apic_eoi();
}

static void on_nmi(struct isr_frame *f)
{
    (void)f;
    nmis[cpu_self()]++;
}

static void let_in(void)
{
    irq_enable();
    irq_disable();
}

static bool irr_below_16(void)
{
    return apic_read(APIC_IRR) & 0xffff;
}

/* What was logged since the last call. */
static uint32_t errors(void)
{
    apic_write(APIC_ESR, 0);
    return apic_read(APIC_ESR);
}

static void error_interrupt(void)
{
    errors();
    tap_ok(errors() == 0, "a write of ESR clears it");
    apic_write(APIC_LVTERR, VEC_ERROR);
    apic_self_ipi(1);
    tap_ok(apic_read(APIC_ESR) == 0 && apic_test(APIC_IRR, VEC_ERROR),
           "an error waits for the write of ESR, its interrupt does not");
    let_in();
    apic_self_ipi(2);
    let_in();
    tap_ok(hits[VEC_ERROR] == 1, "no second interrupt before the write");
    tap_ok(errors() == ESR_SEND_ILLEGAL, "then ESR says what it was");
    apic_self_ipi(3);
    let_in();
    tap_ok(hits[VEC_ERROR] == 2, "and the next error interrupts again");
    apic_write(APIC_LVTERR, APIC_LVT_MASKED);
    errors();
    hits[VEC_ERROR] = 0;
    tap_ok(wrmsr_safe(MSR_X2APIC(APIC_ESR), 1) == 13 && errors() == 0,
           "x2APIC: a write of ESR other than 0 takes #GP");
}

/* A vector below 16 is an error, not an interrupt. */
static void illegal_vectors(void)
{
    unsigned pending = 0;

    for (unsigned v = 0; v < 16; v++) {
        apic_self_ipi(v);
        pending += irr_below_16();
    }
    tap_ok(!pending, "SELF_IPI of vectors 0-15 sets no IRR bit, %u did",
           pending);
    tap_ok(errors() == ESR_SEND_ILLEGAL, "ESR says \"send illegal vector\"");

    pending = 0;
    for (unsigned v = 0; v < 16; v++) {
        apic_icr(cpu_apic_id(0), v);
        pending += irr_below_16();
    }
    tap_ok(!pending && errors() == ESR_SEND_ILLEGAL,
           "nor does the ICR, %u did", pending);

    apic_write(APIC_LVTT, 5);
    apic_write(APIC_TMICT, 1000);
    while (apic_read(APIC_TMCCT)) {
        continue;
    }
    pending = irr_below_16();
    apic_write(APIC_LVTT, APIC_LVT_MASKED);
    tap_ok(!pending && errors() == ESR_RECEIVE_ILLEGAL,
           "nor does an LVT; ESR says \"receive illegal vector\"");
}

static void every_vector(void)
{
    unsigned wrong = 0;

    for (unsigned v = 16; v < 256; v++) {
        apic_self_ipi(v);
        wrong += !apic_test(APIC_IRR, v) || apic_test(APIC_TMR, v);
        apic_self_ipi(v);               /* merges with the first */
    }
    tap_ok(!wrong, "self-IPIs 16-255 stand in IRR, edge in TMR");
    taken = 0;
    let_in();
    for (unsigned v = 32; v < 256; v++) {
        wrong += hits[v] != 1 || order[255 - v] != v || apic_test(APIC_IRR, v);
        hits[v] = 0;
    }
    tap_ok(!wrong && taken == 224, "taken once each, highest first");
    /* Vectors 16-31 would run the exceptions' entry code: only look at them. */
    wrong = apic_read(APIC_IRR) != 0xffff0000;
    tap_ok(!wrong, "TPR 0x10 holds class 1 back");
}

static void priority(void)
{
    write_cr8(4);
    tap_ok(apic_read(APIC_TPR) == 0x40 && apic_read(APIC_PPR) == 0x40 &&
           read_cr8() == 4, "CR8 is TPR bits 7:4, and PPR follows");
    apic_self_ipi(0x4f);
    apic_self_ipi(0x50);
    let_in();
    tap_ok(hits[0x50] == 1 && hits[0x4f] == 0 && apic_test(APIC_IRR, 0x4f),
           "TPR 0x40 lets class 5 in and holds class 4 back");
    irq_enable();
    write_cr8(3);
    tap_ok(hits[0x4f] == 1, "MOV to CR8 delivers what it unblocks at once");
    apic_write(APIC_TPR, 0x60);
    apic_self_ipi(0x5f);
    tap_ok(hits[0x5f] == 0, "a TPR write blocks as well");
    apic_write(APIC_TPR, 0x10);
    tap_ok(hits[0x5f] == 1, "and unblocks at once");
    irq_disable();

    /* Pending first, then blocked: the CPU must forget that it was told. */
    apic_self_ipi(0x41);
    write_cr8(0xf);
    irq_enable();
    asm volatile("nop; nop");
    tap_ok(hits[0x41] == 0 && apic_test(APIC_IRR, 0x41),
           "raising CR8 stops an interrupt that is already pending");
    write_cr8(1);
    irq_disable();
    tap_ok(hits[0x41] == 1, "which comes when CR8 is lowered");
}

static void nested_seen(struct isr_frame *f)
{
    bool ok = apic_test(APIC_ISR, f->vector) && apic_read(APIC_PPR) == 0x80;

    apic_self_ipi(0x7f);
    apic_self_ipi(0x90);
    irq_enable();
    ok &= hits[0x90] == 1 && hits[0x7f] == 0;
    irq_disable();
    ok &= apic_test(APIC_IRR, 0x7f);
    apic_eoi();
    irq_enable();
    ok &= hits[0x7f] == 1 && !apic_test(APIC_ISR, f->vector);
    irq_disable();
    hits[f->vector] = ok ? 1 : 2;
}

static void in_service(void)
{
    hits[0x7f] = hits[0x90] = 0;
    isr_set(0x85, nested_seen);
    apic_self_ipi(0x85);
    let_in();
    tap_ok(hits[0x85] == 1, "in service: ISR, PPR, and what they hold back");
}

static void icr(void)
{
    apic_icr(cpu_apic_id(0), 0x60);
    tap_ok(rdmsr(MSR_X2APIC(APIC_ICR)) >> 32 == cpu_apic_id(0) &&
           (rdmsr(MSR_X2APIC(APIC_ICR)) & 0xff) == 0x60,
           "ICR reads back");
    /* Nobody has this ID; the register keeps it all the same. */
    apic_icr(0x1234, 0x61);
    tap_ok(rdmsr(MSR_X2APIC(APIC_ICR)) == (0x1234ull << 32 | 0x61),
           "ICR reads back 64 bits");
    let_in();
    tap_ok(hits[0x60] == 1 && hits[0x61] == 0, "ICR to oneself, physical");
    apic_icr(apic_read(APIC_LDR), APIC_ICR_LOGICAL | 0x62);
    let_in();
    tap_ok(hits[0x62] == 1, "ICR to oneself, logical");
}

static void ap_loop(unsigned index)
{
    (void)index;
    for (;;) {
        irq_enable_and_hlt();
    }
}

static void nmi(void)
{
    if (!tap_ok(smp_start(ap_loop), "%u CPUs start", cpu_count())) {
        tap_skip("NMI by ICR", "a CPU is missing");
        return;
    }
    for (unsigned i = 0; i < cpu_count(); i++) {
        apic_icr(cpu_apic_id(i), APIC_ICR_NMI | APIC_ICR_ASSERT);
        while (nmis[i] != 1) {
            cpu_pause();
        }
    }
    tap_ok(true, "one ICR write is one NMI, on every CPU, IF=0 and HLT");
}

void guest_main(void)
{
    tap_plan(27);
    for (unsigned v = 32; v < 256; v++) {
        isr_set(v, on_irq);
    }
    isr_set(VEC_NMI, on_nmi);
    apic_write(APIC_TDCR, APIC_TDCR_BY_1);
    write_cr8(1);                       /* class 1 never gets in, see below */
    illegal_vectors();
    error_interrupt();
    every_vector();
    priority();
    in_service();
    icr();
    nmi();
}
