/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest that does one privileged operation after the other, each many times, in
 * a window whose exits the host can count, and says what the cheapest of each
 * cost.
 *
 * A cost is in ticks of the TSC. Under the emulator's -icount that is
 * instructions, of the guest and of all hypervisors below it; elsewhere it means
 * nothing. Where an interrupt comes at the end, the cost is up to the first
 * instructions of its handler.
 *
 * Parameters (-append):
 *   passes=N       all of that, with about a second of nothing after it (1)
 *   device_only=1  nothing but the interrupts of an edu device
 *
 * The window's marks are those of tests/guest/linux/load.h, which
 * tests/host/lib/exits.sh looks for.
 * It must do the same on every hypervisor: nothing in it may look at what a
 * hypervisor offers but at TSC-deadline mode, without which it ends, and at an
 * edu device, without which it leaves out that device's interrupts.
 */
#include "guest.h"
#include "devices.h"

#define TIMES           1000
#define WINDOW_BEGIN    0x48504b01u
#define WINDOW_END      0x48504b02u
#define VECTOR          0x51
#define DELAY_PORT      0x80    /* a write exits to the VMM, and does nothing */
#define FAR             (1ull << 40)
#define A_SECOND        1000000000ull
#define CPUID_1_ECX_TSC_DEADLINE        (1u << 24)

static struct edu edu;
static bool have_edu, device_only;
static volatile unsigned taken;
static volatile uint64_t taken_at;

static void handler(struct isr_frame *f)
{
    (void)f;
    taken_at = rdtsc();
    taken++;
    apic_eoi();
}

static void hypercall(uint64_t nr)
{
    uint64_t rax = nr;

    asm volatile("vmmcall" : "+a"(rax) : "b"(0ull) : "memory");
}

/* ---- Operations: each returns when it was over ---- */

static uint64_t await_handler(unsigned before)
{
    while (taken == before) {
        cpu_pause();
    }
    return taken_at;
}

static uint64_t do_cpuid(void)
{
    uint32_t regs[4];

    cpuid(0, 0, regs);
    return rdtsc();
}

static uint64_t do_port(void)
{
    outb(DELAY_PORT, 0);
    return rdtsc();
}

static uint64_t do_cr8(void)
{
    write_cr8(1);
    return rdtsc();
}

static uint64_t do_self_ipi(void)
{
    unsigned before = taken;

    apic_self_ipi(VECTOR);
    return await_handler(before);
}

static uint64_t do_self_icr(void)
{
    unsigned before = taken;

    apic_icr(0, APIC_ICR_ASSERT | APIC_ICR_SELF | VECTOR);
    return await_handler(before);
}

static uint64_t do_arm_deadline(void)
{
    wrmsr(MSR_TSC_DEADLINE, rdtsc() + FAR);
    return rdtsc();
}

static uint64_t do_disarm_deadline(void)
{
    wrmsr(MSR_TSC_DEADLINE, 0);
    return rdtsc();
}

static uint64_t do_past_deadline(void)
{
    unsigned before = taken;

    wrmsr(MSR_TSC_DEADLINE, 1);
    return await_handler(before);
}

static uint64_t do_read_lapic(void)
{
    apic_read(APIC_TMCCT);
    return rdtsc();
}

/* With a device that is the guest's own, neither access exits. */
static uint64_t do_device(void)
{
    unsigned before = taken;
    uint64_t at;

    edu_raise(&edu);
    at = await_handler(before);
    edu_ack(&edu);
    return at;
}

/* What the timer is late for one that halts: its cost starts when it is due. */
static uint64_t halt_until(uint64_t due)
{
    irq_disable();
    wrmsr(MSR_TSC_DEADLINE, due);
    irq_enable_and_hlt();
    return taken_at;
}

static const struct {
    const char *name;
    uint64_t (*once)(void);
} operations[] = {
    { "cpuid", do_cpuid },
    { "port-write", do_port },
    { "cr8-write", do_cr8 },
    { "self-ipi", do_self_ipi },
    { "self-icr", do_self_icr },
    { "deadline-arm", do_arm_deadline },
    { "deadline-disarm", do_disarm_deadline },
    { "deadline-past", do_past_deadline },
    { "tmcct-read", do_read_lapic },
    { "device-msi", do_device },
};

#define N_OPERATIONS (sizeof(operations) / sizeof(operations[0]))

static uint64_t cheapest(uint64_t (*once)(void))
{
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < TIMES; i++) {
        uint64_t start = rdtsc();
        uint64_t cost = once() - start;

        least = cost < least ? cost : least;
    }
    return least;
}

static uint64_t cheapest_halt(void)
{
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < TIMES; i++) {
        uint64_t due = rdtsc() + 200000;
        uint64_t cost = halt_until(due) - due;

        least = cost < least ? cost : least;
    }
    return least;
}

static bool wanted(uint64_t (*once)(void))
{
    return once == do_device ? have_edu : !device_only;
}

static void pass(void)
{
    uint64_t cost[N_OPERATIONS], halt = 0;
    uint32_t regs[4];

    cpuid(WINDOW_BEGIN, 0, regs);
    for (unsigned i = 0; i < N_OPERATIONS; i++) {
        if (wanted(operations[i].once)) {
            cost[i] = cheapest(operations[i].once);
        }
    }
    if (!device_only) {
        halt = cheapest_halt();
    }
    hypercall(WINDOW_END);

    for (unsigned i = 0; i < N_OPERATIONS; i++) {
        if (wanted(operations[i].once)) {
            print("micro: %s %lu\n", operations[i].name, cost[i]);
        }
    }
    if (!device_only) {
        print("micro: halt-wake %lu\n", halt);
    }
}

void guest_main(void)
{
    uint64_t passes = guest_param("passes", 1);
    uint32_t regs[4];

    device_only = guest_param("device_only", 0);
    cpuid(1, 0, regs);
    if (!(regs[2] & CPUID_1_ECX_TSC_DEADLINE)) {
        print("Bail out! no TSC-deadline mode\n");
        return;
    }
    have_edu = edu_find(&edu, 0);
    if (have_edu) {
        edu_use_msi(&edu, VECTOR, cpu_apic_id(0));
    }
    isr_set(VECTOR, handler);
    apic_write(APIC_LVTT, APIC_LVT_TSC_DEADLINE | VECTOR);
    irq_enable();
    for (uint64_t i = 0; i < passes; i++) {
        uint64_t end;

        pass();
        end = rdtsc() + A_SECOND;
        while (rdtsc() < end) {
            cpu_pause();
        }
    }
}
