/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a hypervisor relies on that hands the physical LAPIC to its guest: with
 * the INTR intercept and V_INTR_MASKING off, physical interrupts go straight
 * through the guest's IDT, and every exit says exactly what was in flight.
 * (APM volume 2, 15.7.2, 15.13, 15.16, 15.20, 15.21.)
 */
#include "svm.h"

#define VEC             0x40
#define VEC_LOW         0x11            /* legal, though #AC's number */
#define VEC_VIRTUAL     0x50
#define VEC_SOFT        0x60
#define VEC_NMI         2
#define NMI_ICR         (APIC_ICR_SELF | APIC_ICR_NMI | APIC_ICR_ASSERT)

/* volatile: written by interrupt handlers */
static volatile unsigned hits, nmis, virtuals;
static volatile uint64_t fired_tsc; /* volatile: the same */

static volatile uint64_t returns_to;    /* volatile: the same */

/* volatile: written by the guest while svm_run() runs it */
static volatile unsigned ran, while_raised, after_lower;
static volatile uint64_t guest_tsc, deadline_tsc; /* volatile: the same */

static void on_irq(struct isr_frame *f)
{
    (void)f;
    hits++;
    fired_tsc = rdtsc();
    apic_eoi();
}

static void on_virtual_irq(struct isr_frame *f)
{
    (void)f;
    virtuals++;
}

static void on_return(struct isr_frame *f)
{
    returns_to = f->rip;
}

static void on_nmi(struct isr_frame *f)
{
    (void)f;
    nmis++;
}

static void reset(void (*fn)(void))
{
    hits = nmis = virtuals = ran = 0;
    svm_reset(fn);
}

/* ---- Guest code ---- */

/* Open the interrupt window with the stack in the page that may be missing. */
static void window_on_hole(void)
{
    asm volatile("mov %%rsp, %%rbx\n\t"
                 "mov %0, %%rsp\n\t"
                 "sti\n\t"
                 "nop\n\t"
                 "cli\n\t"
                 "mov %%rbx, %%rsp"
                 : : "r"(SVM_HOLE + 4096) : "rbx", "memory");
}

static void guest_self_ipi(void)
{
    irq_enable();
    apic_self_ipi(VEC);
    irq_disable();
    vmmcall();
}

static void guest_timer_in_hlt(void)
{
    apic_write(APIC_LVTT, VEC);
    apic_write(APIC_TMICT, 1000000);
    irq_enable_and_hlt();
    irq_disable();
    vmmcall();
}

static void guest_ipi_on_hole(void)
{
    apic_self_ipi(VEC);
    window_on_hole();
    vmmcall();
}

static void guest_low_vector_on_hole(void)
{
    apic_self_ipi(VEC_LOW);
    window_on_hole();
    vmmcall();
}

static void guest_nmi_on_hole(void)
{
    asm volatile("mov %%rsp, %%rbx\n\t"
                 "mov %0, %%rsp\n\t"
                 "wrmsr\n\t"
                 "nop\n\t"
                 "mov %%rbx, %%rsp"
                 : : "r"(SVM_HOLE + 4096), "c"(MSR_X2APIC(APIC_ICR)),
                 "a"(NMI_ICR), "d"(0) : "rbx", "memory");
    vmmcall();
}

static void guest_ud_on_hole(void)
{
    asm volatile("mov %0, %%rsp; ud2" : : "r"(SVM_HOLE + 4096));
}

static void guest_gp_on_hole(void)
{
    asm volatile("mov %0, %%rsp; mov %1, %%ds"
                 : : "r"(SVM_HOLE + 4096), "r"(0xff8));
}

static void guest_int_on_hole(void)
{
    asm volatile("mov %0, %%rsp; int $14" : : "r"(SVM_HOLE + 4096));
}

/* Two bytes, then three for the same, then CPUID's two. */
static void guest_instructions(void)
{
    asm volatile("wrmsr; .byte 0x48; wrmsr; cpuid; nop"
                 : : "a"(0), "d"(0), "c"(MSR_TSC_DEADLINE)
                 : "rbx", "memory");
    vmmcall();
}

/* Where an injected event is to return to. */
static void guest_nothing(void)
{
    vmmcall();
}

static void guest_nmi(void)
{
    ran = 1;
    apic_icr(0, NMI_ICR);
    asm volatile("nop");
    ran = 2;
    vmmcall();
}

static void guest_spin(void)
{
    uint64_t end = rdtsc() + 1000000000;

    ran = 1;
    while (rdtsc() < end) {
        continue;
    }
    vmmcall();
}

static void guest_deadline(void)
{
    guest_tsc = rdtsc();
    apic_write(APIC_LVTT, APIC_LVT_TSC_DEADLINE | VEC);
    wrmsr(MSR_TSC_DEADLINE, deadline_tsc);
    irq_enable_and_hlt();
    irq_disable();
    vmmcall();
}

static void guest_cr8(void)
{
    irq_enable();
    write_cr8(VEC >> 4);
    apic_self_ipi(VEC);
    asm volatile("nop");
    while_raised = hits;
    write_cr8((VEC >> 4) - 1);
    after_lower = hits;
    irq_disable();
    write_cr8(5);
    vmmcall();
}

static void guest_msrs(void)
{
    wrmsr(MSR_X2APIC(APIC_SELF_IPI), VEC);
    rdmsr(MSR_TSC_DEADLINE);
    vmmcall();
}

static void guest_window(void)
{
    irq_enable();
    asm volatile("nop; nop; nop");
    irq_disable();
    vmmcall();
}

/* ---- Tests ---- */

static void run_to_vmmcall(void (*fn)(void), const char *name)
{
    uint64_t code;

    reset(fn);
    code = svm_run();
    stgi();
    tap_ok(code == EXIT_VMMCALL && hits == 1,
           "%s (exit %lx, %u interrupts)", name, code, hits);
}

static uint64_t run_without_stack(void (*fn)(void), uint32_t *info)
{
    uint64_t code;

    reset(fn);
    svm_map_hole(false);
    code = svm_run();
    *info = svm_get32(VMCB_EXITINTINFO);
    return code;
}

/*
 * The stack is missing when @fn's interrupt or NMI arrives. The exit names the
 * event as @info; injected, it comes back until it can be delivered, once.
 */
static void redelivery(const char *name, void (*fn)(void), uint32_t info,
                       uint8_t vector,
                       volatile unsigned *count) /* volatile: see above */
{
    bool is_intr = (info & 0x700) == EVENT_INTR;
    uint32_t got;
    uint64_t code;

    code = run_without_stack(fn, &got);
    tap_ok(code == EXIT_NPF && svm_get64(VMCB_INFO2) >> 12 == SVM_HOLE >> 12 &&
           got == info, "%s: fault in delivery has EXITINTINFO %08x, got %08x",
           name, info, got);
    tap_ok(!is_intr || (apic_test(APIC_ISR, vector) &&
                        !apic_test(APIC_IRR, vector)),
           "%s: the LAPIC has accepted it", name);

    svm_set64(VMCB_EVENTINJ, info);
    code = svm_run();
    got = svm_get32(VMCB_EXITINTINFO);
    tap_ok(code == EXIT_NPF && got == info,
           "%s: injected, the fault names it again, got %08x", name, got);

    svm_map_hole(true);
    svm_set64(VMCB_EVENTINJ, info);
    code = svm_run();
    stgi();
    tap_ok(code == EXIT_VMMCALL && *count == 1 &&
           !apic_test(APIC_ISR, vector),
           "%s: delivered once in the end (exit %lx, %u times)", name, code,
           *count);
}

/* Type and error code bit only; the guest is abandoned. */
static void other_event(const char *name, void (*fn)(void), uint32_t info)
{
    uint32_t got;
    uint64_t code;

    code = run_without_stack(fn, &got);
    stgi();
    tap_ok(code == EXIT_NPF && got == info,
           "%s: EXITINTINFO %08x, got %08x", name, info, got);
}

static void nmi_intercept(void)
{
    uint64_t code;
    unsigned before;

    reset(guest_nmi);
    svm_set32(VMCB_MISC1, svm_get32(VMCB_MISC1) | INTERCEPT_NMI);
    code = svm_run();
    before = nmis;
    stgi();
    tap_ok(code == EXIT_NMI && ran == 1 && before == 0 && nmis == 1,
           "an NMI exits from the guest and is taken at STGI");

    reset(guest_nmi);
    svm_set32(VMCB_MISC1, svm_get32(VMCB_MISC1) | INTERCEPT_NMI);
    clgi();
    apic_icr(0, NMI_ICR);
    code = svm_run();
    before = nmis;
    stgi();
    tap_ok(code == EXIT_NMI && ran == 0 && before == 0 && nmis == 1 &&
           svm_get64(VMCB_RIP) == (uintptr_t)guest_nmi,
           "an NMI pending at VMRUN exits before the guest runs");
}

static void one_instruction(uint64_t want, uint64_t bytes, const char *name)
{
    uint64_t code = svm_run(), at = svm_get64(VMCB_RIP);
    uint64_t next = svm_get64(VMCB_NEXT_RIP);

    stgi();
    tap_ok(code == want && next == at + bytes,
           "%s: the next instruction is %lu bytes on (exit %lx, %ld)", name,
           bytes, code, next - at);
    svm_set64(VMCB_RIP, at + bytes);
}

/* A hypervisor need not decode what it intercepts (APM volume 2, 15.7.1). */
static void next_rip(void)
{
    uint64_t code;

    reset(guest_instructions);
    svm_intercept_msr(MSR_TSC_DEADLINE, true);
    svm_set32(VMCB_MISC1,
              svm_get32(VMCB_MISC1) | INTERCEPT_MSR | INTERCEPT_CPUID);
    one_instruction(EXIT_MSR, 2, "WRMSR");
    one_instruction(EXIT_MSR, 3, "WRMSR with a prefix");
    one_instruction(EXIT_CPUID, 2, "CPUID");
    svm_intercept_msr(MSR_TSC_DEADLINE, false);

    reset(guest_nmi);
    svm_set32(VMCB_MISC1, svm_get32(VMCB_MISC1) | INTERCEPT_NMI);
    code = svm_run();
    tap_ok(code == EXIT_NMI && svm_get64(VMCB_NEXT_RIP) == 0,
           "an NMI's exit has no next instruction");
    stgi();
}

/* What an injected INT n, or INT3, pushes (APM volume 2, 15.20). */
static void injected_return(uint32_t event, const char *name)
{
    uint64_t code;

    reset(guest_spin);
    returns_to = 0;
    isr_set(event & 0xff, on_return);
    svm_set64(VMCB_NEXT_RIP, (uintptr_t)guest_nothing);
    svm_set64(VMCB_EVENTINJ, EVENT_VALID | event);
    code = svm_run();
    stgi();
    isr_set(event & 0xff, NULL);
    tap_ok(code == EXIT_VMMCALL && returns_to == (uintptr_t)guest_nothing,
           "%s, injected, returns to the next instruction", name);
}

/*
 * Nothing but the passing of time happens in the guest after the injection:
 * the emulator leaves and enters its main loop without a new event.
 */
static void inject_once(void)
{
    uint64_t code;

    reset(guest_spin);
    svm_set64(VMCB_EVENTINJ, EVENT_VALID | EVENT_INTR | VEC);
    code = svm_run();
    stgi();
    tap_ok(code == EXIT_VMMCALL && ran && hits == 1,
           "an injected interrupt is delivered once, got %u", hits);
}

static void deadline_is_raw(void)
{
    uint64_t code, now;
    uint32_t r[4];

    cpuid(1, 0, r);
    if (!(r[2] >> 24 & 1)) {
        tap_skip("TSC offset", "no TSC-deadline mode");
        return;
    }
    reset(guest_deadline);
    svm_set64(VMCB_TSC_OFFSET, 1ull << 50);
    now = rdtsc();
    deadline_tsc = now + 2000000;
    code = svm_run();
    stgi();
    fired_tsc -= 1ull << 50;
    tap_ok(code == EXIT_VMMCALL && guest_tsc > 1ull << 50 && hits == 1 &&
           fired_tsc >= deadline_tsc && fired_tsc < now + (1ull << 40),
           "the deadline is compared with the TSC without the guest's offset");
    apic_write(APIC_LVTT, APIC_LVT_MASKED | VEC);
}

static void cr8(void)
{
    uint64_t code;

    reset(guest_cr8);
    code = svm_run();
    stgi();
    tap_ok(code == EXIT_VMMCALL && while_raised == 0 && after_lower == 1,
           "CR8 in the guest holds an interrupt back and lets it in at once");
    tap_ok(read_cr8() == 5 && apic_read(APIC_TPR) == 0x50,
           "the exit leaves CR8 as the guest set it");
    write_cr8(0);
}

static void msr_bitmap(void)
{
    uint64_t code;

    reset(guest_msrs);
    code = svm_run();
    stgi();
    tap_ok(code == EXIT_VMMCALL && apic_test(APIC_IRR, VEC),
           "MSRs with a clear bitmap bit do not exit");
    irq_enable();
    irq_disable();

    reset(guest_msrs);
    svm_intercept_msr(MSR_X2APIC(APIC_SELF_IPI), true);
    svm_intercept_msr(MSR_TSC_DEADLINE, true);
    code = svm_run();
    tap_ok(code == EXIT_MSR && svm_get64(VMCB_INFO1) == 1 &&
           !apic_test(APIC_IRR, VEC), "a write with its bit set exits");
    svm_set64(VMCB_RIP, svm_get64(VMCB_RIP) + 2);
    code = svm_run();
    stgi();
    tap_ok(code == EXIT_MSR && svm_get64(VMCB_INFO1) == 0,
           "a read with its bit set exits");
    svm_intercept_msr(MSR_X2APIC(APIC_SELF_IPI), false);
    svm_intercept_msr(MSR_TSC_DEADLINE, false);
}

static void pending_at_vmrun(void)
{
    uint64_t code;

    reset(guest_spin);
    svm_set64(VMCB_RFLAGS, 0x202);
    apic_self_ipi(VEC);
    code = svm_run();
    stgi();
    tap_ok(code == EXIT_VMMCALL && hits == 1,
           "an interrupt pending at VMRUN goes to the guest, %u times", hits);

    reset(guest_window);
    svm_set32(VMCB_MISC1, svm_get32(VMCB_MISC1) | INTERCEPT_INTR);
    svm_set32(VMCB_INT_CTL, INT_CTL_V_INTR_MASKING);
    apic_self_ipi(VEC);
    irq_disable();
    asm volatile("clgi; sti" : : : "memory");
    code = svm_run();
    irq_disable();
    tap_ok(code == EXIT_INTR && hits == 0 && apic_test(APIC_IRR, VEC),
           "with both switched on it exits and stays in IRR");
    stgi();
    irq_enable();
    irq_disable();
}

static void virtual_and_physical(void)
{
    uint64_t code;

    reset(guest_window);
    svm_set32(VMCB_INT_CTL, INT_CTL_V_IRQ | INT_CTL_V_PRIO_15 |
              INT_CTL_V_IGN_TPR);
    svm_set32(VMCB_INT_VECTOR, VEC_VIRTUAL);
    apic_self_ipi(VEC);
    code = svm_run();
    stgi();
    tap_ok(code == EXIT_VMMCALL && hits == 1 && virtuals == 1,
           "a physical interrupt does not take a virtual one away "
           "(%u physical, %u virtual)", hits, virtuals);
}

void guest_main(void)
{
    tap_plan(32);
    isr_set(VEC, on_irq);
    isr_set(VEC_VIRTUAL, on_virtual_irq);
    isr_set(VEC_NMI, on_nmi);
    apic_write(APIC_TDCR, APIC_TDCR_BY_1);
    if (!svm_setup()) {
        print("Bail out! the CPU has no SVM with nested paging\n");
        guest_exit(2);
    }
    run_to_vmmcall(guest_self_ipi, "a self-IPI reaches the guest, no exit");
    run_to_vmmcall(guest_timer_in_hlt, "the timer wakes a guest in HLT");
    redelivery("interrupt", guest_ipi_on_hole,
               EVENT_VALID | EVENT_INTR | VEC, VEC, &hits);
    other_event("interrupt 0x11", guest_low_vector_on_hole,
                EVENT_VALID | EVENT_INTR | VEC_LOW);
    apic_eoi();
    redelivery("NMI", guest_nmi_on_hole,
               EVENT_VALID | EVENT_NMI | VEC_NMI, VEC_NMI, &nmis);
    other_event("#UD", guest_ud_on_hole, EVENT_VALID | EVENT_EXCEPTION | 6);
    other_event("#GP", guest_gp_on_hole,
                EVENT_VALID | EVENT_EXCEPTION | EVENT_ERROR_CODE | 13);
    other_event("INT 14", guest_int_on_hole, EVENT_VALID | EVENT_SOFT | 14);
    nmi_intercept();
    next_rip();
    injected_return(EVENT_SOFT | VEC_SOFT, "INT 0x60");
    injected_return(EVENT_EXCEPTION | 3, "INT3");
    inject_once();
    deadline_is_raw();
    cr8();
    msr_bitmap();
    pending_at_vmrun();
    virtual_and_physical();
}
