/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest that does one privileged operation after the other, each many times, in
 * a window whose exits the host can count, and says what the cheapest of each
 * cost.
 *
 * A cost is in ticks of the TSC. Under the emulator's -icount that is
 * instructions, of the guest and of all hypervisors below it; elsewhere it means
 * nothing. Where an interrupt comes at the end, the cost is up to the first
 * instructions of its handler, on whatever CPU. With more than one CPU, IPIs are
 * sent, too: to a CPU that spins, to one that halts, to one that answers, and to
 * all.
 *
 * Parameters (-append):
 *   times=N        how often each operation is done (1000)
 *   passes=N       all of that, with about a second of nothing in between (1)
 *   stay=1         when done, halt on all CPUs instead of ending
 *   device_only=1  nothing but the interrupts of an edu device
 *
 * The window's marks are those of tests/guest/linux/load.h, which
 * tests/inside/lib/exits.sh looks for.
 * It must do the same on every hypervisor: nothing in it may look at what a
 * hypervisor offers but at TSC-deadline mode, without which it ends, and at an
 * edu device, without which it leaves out that device's interrupts.
 */
#include "guest.h"
#include "devices.h"

#define WINDOW_BEGIN    0x48504b01u
#define WINDOW_END      0x48504b02u
#define VECTOR          0x51
#define IPI_VECTOR      0x62
#define ECHO_VECTOR     0x63
#define KVM_HC_SEND_IPI 10
#define DELAY_PORT      0x80    /* a write exits to the VMM, and does nothing */
#define FAR             (1ull << 40)
#define SOON            20000
#define FAR_ENOUGH      200000
#define A_SECOND        1000000000ull
#define CPUID_1_ECX_TSC_DEADLINE        (1u << 24)
#define CPUID_1_ECX_HYPERVISOR          (1u << 31)

static struct edu edu;
static bool have_edu, device_only;
static unsigned times;
static volatile unsigned taken;
static volatile uint64_t taken_at;
static bool hypervised;

static void handler(struct isr_frame *f)
{
    (void)f;
    taken_at = rdtsc();
    taken++;
    apic_eoi();
}

/* Of CPUs that are sent IPIs. */
static volatile unsigned seen, halting;
static volatile uint64_t seen_at;
static volatile bool halt;
static unsigned n_cpus;

static void on_ipi(struct isr_frame *f)
{
    (void)f;
    seen_at = rdtsc();
    __atomic_fetch_add(&seen, 1, __ATOMIC_SEQ_CST);
    apic_eoi();
}

static void on_echo(struct isr_frame *f)
{
    (void)f;
    apic_icr(cpu_apic_id(0), APIC_ICR_ASSERT | VECTOR);
    apic_eoi();
}

static void other_cpu(unsigned index)
{
    (void)index;
    irq_enable();
    for (;;) {
        if (halt) {
            irq_disable();
            halting = 1;
            irq_enable_and_hlt();
        } else {
            cpu_pause();
        }
    }
}

static void hypercall(uint64_t nr, uint64_t a0, uint64_t a3)
{
    uint64_t rax = nr;

    asm volatile("vmmcall" : "+a"(rax) : "b"(a0), "c"(0ull), "d"(0ull), "S"(a3)
                 : "memory");
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

/* VMware's port, at which the VMM looks at all that the vCPU is. */
static uint64_t do_vmport(void)
{
    uint32_t eax = 0x564d5868, ebx = 0, ecx = 10, edx = 0x5658;

    asm volatile("inl %%dx, %%eax"
                 : "+a"(eax), "+b"(ebx), "+c"(ecx), "+d"(edx));
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

static uint64_t await_seen(unsigned want)
{
    while (seen != want) {
        cpu_pause();
    }
    return seen_at;
}

/* The first of the others, by its physical and by its logical ID. */
static uint64_t ipi(uint32_t dest, uint32_t icr, unsigned targets)
{
    unsigned want = seen + targets;

    apic_icr(dest, APIC_ICR_ASSERT | icr | IPI_VECTOR);
    return await_seen(want);
}

static uint64_t do_ipi(void)
{
    return ipi(cpu_apic_id(1), 0, 1);
}

static uint64_t do_ipi_logical(void)
{
    uint32_t id = cpu_apic_id(1);

    return ipi((id >> 4) << 16 | 1u << (id & 15), APIC_ICR_LOGICAL, 1);
}

static uint32_t group_mask(void)
{
    uint32_t mask = 0;

    for (unsigned i = 1; i < n_cpus; i++) {
        mask |= 1u << cpu_apic_id(i);
    }
    return mask;
}

static uint64_t do_ipi_group(void)
{
    return ipi(group_mask(), APIC_ICR_LOGICAL, n_cpus - 1);
}

/* As Linux sends to a group if KVM offers it (kvm-pv-ipi). */
static uint64_t do_ipi_hypercall(void)
{
    unsigned want = seen + n_cpus - 1;

    if (!hypervised) {
        return do_ipi_group();
    }
    hypercall(KVM_HC_SEND_IPI, group_mask(), IPI_VECTOR);
    return await_seen(want);
}

static uint64_t do_ipi_others(void)
{
    return ipi(0, APIC_ICR_OTHERS, n_cpus - 1);
}

static uint64_t do_round_trip(void)
{
    unsigned before = taken;

    apic_icr(cpu_apic_id(1), APIC_ICR_ASSERT | ECHO_VECTOR);
    return await_handler(before);
}

static uint64_t do_eoi(void)
{
    apic_eoi();
    return rdtsc();
}

static uint64_t do_arm_count(void)
{
    apic_write(APIC_TMICT, UINT32_MAX);
    return rdtsc();
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

/* What the timer is late: its cost starts when it is due. */
static uint64_t run_until(uint64_t due)
{
    unsigned before = taken;

    wrmsr(MSR_TSC_DEADLINE, due);
    return await_handler(before);
}

/* The same for one that halts. */
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
    { "vmport", do_vmport },
    { "cr8-write", do_cr8 },
    { "self-ipi", do_self_ipi },
    { "self-icr", do_self_icr },
    { "eoi", do_eoi },
    { "deadline-arm", do_arm_deadline },
    { "deadline-disarm", do_disarm_deadline },
    { "deadline-past", do_past_deadline },
    { "tmcct-read", do_read_lapic },
    { "device-msi", do_device },
    { "ipi", do_ipi },
    { "ipi-logical", do_ipi_logical },
    { "ipi-group", do_ipi_group },
    { "ipi-others", do_ipi_others },
    { "ipi-round-trip", do_round_trip },
};

#define N_OPERATIONS (sizeof(operations) / sizeof(operations[0]))
#define FIRST_IPI    (N_OPERATIONS - 5)

static uint64_t cheapest(uint64_t (*once)(void))
{
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < times; i++) {
        uint64_t start = rdtsc();
        uint64_t cost = once() - start;

        least = cost < least ? cost : least;
    }
    return least;
}

static uint64_t cheapest_until(uint64_t (*until)(uint64_t due), uint64_t in)
{
    uint64_t least = UINT64_MAX;

    for (unsigned i = 0; i < times; i++) {
        uint64_t due = rdtsc() + in;
        uint64_t cost = until(due) - due;

        least = cost < least ? cost : least;
    }
    return least;
}

/* To a CPU that has had the time to halt. */
static uint64_t cheapest_ipi_to_halted(void)
{
    uint64_t least = UINT64_MAX;

    halt = true;
    for (unsigned i = 0; i < times; i++) {
        uint64_t start, cost;

        while (!halting) {
            cpu_pause();
        }
        halting = 0;
        start = rdtsc() + SOON;
        while (rdtsc() < start) {
            cpu_pause();
        }
        start = rdtsc();
        cost = do_ipi() - start;
        least = cost < least ? cost : least;
    }
    halt = false;
    return least;
}

/* With a timer that counts, whose mode costs a write to LVTT. */
static uint64_t cheapest_arm_count(void)
{
    uint64_t cost;

    apic_write(APIC_LVTT, APIC_LVT_MASKED | VECTOR);
    apic_write(APIC_TDCR, APIC_TDCR_BY_1);
    cost = cheapest(do_arm_count);
    apic_write(APIC_TMICT, 0);
    apic_write(APIC_LVTT, APIC_LVT_TSC_DEADLINE | VECTOR);
    return cost;
}

static bool wanted(unsigned i)
{
    if (i >= FIRST_IPI) {
        return n_cpus > 1 && !device_only;
    }
    return operations[i].once == do_device ? have_edu : !device_only;
}

static void pass(void)
{
    uint64_t cost[N_OPERATIONS], fire = 0, wake = 0, count = 0, halted = 0;
    uint64_t group = 0;
    uint32_t regs[4];

    cpuid(WINDOW_BEGIN, 0, regs);
    for (unsigned i = 0; i < N_OPERATIONS; i++) {
        if (wanted(i)) {
            cost[i] = cheapest(operations[i].once);
        }
    }
    if (!device_only) {
        wake = cheapest_until(halt_until, FAR_ENOUGH);
    }
    if (hypervised) {
        hypercall(WINDOW_END, 0, 0);
    }

    /* What exits, or leaves another CPU to itself, on some hypervisor only. */
    if (n_cpus > 1 && !device_only) {
        fire = cheapest_until(run_until, FAR_ENOUGH);
        count = cheapest_arm_count();
        halted = cheapest_ipi_to_halted();
        group = cheapest(do_ipi_hypercall);
    }

    for (unsigned i = 0; i < N_OPERATIONS; i++) {
        if (wanted(i)) {
            print("micro: %s %lu\n", operations[i].name, cost[i]);
        }
    }
    if (n_cpus > 1 && !device_only) {
        print("micro: timer-fire %lu\nmicro: count-arm %lu\n"
              "micro: ipi-halted %lu\nmicro: ipi-hypercall %lu\n", fire, count,
              halted, group);
    }
    if (!device_only) {
        print("micro: halt-wake %lu\n", wake);
    }
}

void guest_main(void)
{
    uint64_t passes = guest_param("passes", 1);
    uint32_t regs[4];

    times = guest_param("times", 1000);
    device_only = guest_param("device_only", 0);
    cpuid(1, 0, regs);
    if (!device_only && !(regs[2] & CPUID_1_ECX_TSC_DEADLINE)) {
        print("Bail out! no TSC-deadline mode\n");
        return;
    }
    hypervised = regs[2] & CPUID_1_ECX_HYPERVISOR;
    have_edu = edu_find(&edu, 0);
    if (have_edu) {
        edu_use_msi(&edu, VECTOR, cpu_apic_id(0));
    }
    isr_set(VECTOR, handler);
    isr_set(IPI_VECTOR, on_ipi);
    isr_set(ECHO_VECTOR, on_echo);
    n_cpus = cpu_count();
    if (n_cpus > 1 && !smp_start(other_cpu)) {
        print("Bail out! not all CPUs came up\n");
        return;
    }
    if (!device_only) {
        apic_write(APIC_LVTT, APIC_LVT_TSC_DEADLINE | VECTOR);
    }
    irq_enable();
    pass();
    for (uint64_t i = 1; i < passes; i++) {
        uint64_t end = rdtsc() + A_SECOND;

        while (rdtsc() < end) {
            cpu_pause();
        }
        pass();
    }
    if (guest_param("stay", 0)) {
        halt = true;
        for (;;) {
            irq_enable_and_hlt();
        }
    }
}
