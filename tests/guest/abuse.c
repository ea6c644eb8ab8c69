/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hostile guest: does one thing that could hurt the host of a dedicated core,
 * for ever, or until whoever started it has seen enough and kills it.
 *
 * Parameters (-append): do=NAME chooses from the table at the end of this
 * file; vector=N (254) and count=N (1) are for those that need them, those with
 * an edu device take mode=N, the delivery mode of its MSI (0), and dest=N, an
 * APIC ID (0). Console:
 * "abuse: NAME starts" when the abuse begins; "abuse: NAME done" when a finite
 * one has come to its end; between them lines that the test compares.
 * It must never end by itself, and never trust that anything it does is legal.
 */
#include "guest.h"
#include "devices.h"

#define VECTORS                 256
#define FIRST_LEGAL_VECTOR      16
#define HOST_VECTOR             0xf5    /* DEDICATED_HOST_VECTOR of the host */
#define RESERVED_EXCEPTION      22      /* first of those without error code */

#define MSR_TSC                 0x10u
#define MSR_APIC_BASE           0x1bu
#define MSR_FEATURE_CONTROL     0x3au
#define MSR_TSC_ADJUST          0x3bu
#define MSR_VMX_BASIC           0x480u
#define MSR_EFER                0xc0000080u
#define MSR_VM_HSAVE_PA         0xc0010117u
#define EFER_SVME               (1u << 12)
#define CR4_VMXE                (1u << 13)
#define FEATURE_CONTROL_VMX     5u      /* locked, outside SMX */
#define APIC_BASE_X2APIC        (1u << 10)
#define APIC_BASE_ENABLED       (1u << 11)
#define APIC_SVR_ON             0x1ffu

static unsigned long arrived[VECTORS];
static unsigned n_cpus;

static void count_and_eoi(struct isr_frame *f)
{
    arrived[f->vector]++;
    apic_eoi();
}

static void count_only(struct isr_frame *f)
{
    arrived[f->vector]++;
}

/* Exceptions 0 to 21 and 27 to 31 stay what they are: a guest that dies. */
static void handle_all(isr_handler *fn)
{
    for (unsigned v = RESERVED_EXCEPTION; v < VECTORS; v++) {
        if (v < 27 || v > 31) {
            isr_set(v, fn);
        }
    }
}

static void spin(void)
{
    for (;;) {
        cpu_pause();
    }
}

static void delay(uint64_t cycles)
{
    uint64_t start = rdtsc();

    while (rdtsc() - start < cycles) {
        cpu_pause();
    }
}

static void timer_start(uint32_t lvtt, uint32_t count)
{
    apic_write(APIC_TDCR, APIC_TDCR_BY_1);
    apic_write(APIC_LVTT, lvtt);
    apic_write(APIC_TMICT, count);
}

/* ---- One core's interrupts ---- */

static void irq_off(void)
{
    irq_disable();
    for (unsigned v = FIRST_LEGAL_VECTOR; v < VECTORS; v++) {
        apic_self_ipi(v);
    }
    spin();
}

static void self_ipis_at_random(void)
{
    for (;;) {
        apic_self_ipi(FIRST_LEGAL_VECTOR + rdtsc() % 240);
    }
}

/* Every priority class ends up in service and stays there. */
static void no_eoi(void)
{
    handle_all(count_only);
    irq_enable();
    for (unsigned v = 0x20; v < VECTORS; v += 0x10) {
        apic_self_ipi(v + 0xf);
    }
    self_ipis_at_random();
}

static void tpr_15(void)
{
    handle_all(count_and_eoi);
    write_cr8(15);
    irq_enable();
    timer_start(APIC_LVT_PERIODIC | 0xfe, 1000);
    self_ipis_at_random();
}

static void spin_with_timer(void)
{
    timer_start(APIC_LVT_PERIODIC | guest_param("vector", 254),
                guest_param("count", 1));
    spin();
}

static void timer_1(void)
{
    irq_disable();
    spin_with_timer();
}

static void timer_1_taken(void)
{
    handle_all(count_and_eoi);
    irq_enable();
    spin_with_timer();
}

static void self_ipis(void)
{
    handle_all(count_and_eoi);
    for (;;) {
        irq_disable();
        for (unsigned v = 32; v < VECTORS; v++) {
            apic_self_ipi(v);
        }
        irq_enable();
    }
}

static void hlt_off(void)
{
    for (;;) {
        asm volatile("cli; hlt");
    }
}

/*
 * Does each vector that means something to the host reach the guest, once,
 * and nobody else? The guest says so; then it goes on for ever.
 */
static void vectors(void)
{
    unsigned long sent = 0;

    handle_all(count_and_eoi);
    irq_enable();
    for (unsigned v = 0; v < VECTORS; v++) {
        if ((v >= RESERVED_EXCEPTION && v < 27) || v == 0x80 || v >= 0xeb) {
            apic_self_ipi(v);
            delay(100000);
            print("vector %02x arrived %lu\n", v, arrived[v]);
        } else if (v < FIRST_LEGAL_VECTOR) {
            apic_self_ipi(v);
        }
    }
    print("abuse: vectors done\n");
    for (;;) {
        apic_self_ipi(sent % 2 ? HOST_VECTOR : sent / 2 % FIRST_LEGAL_VECTOR);
        sent++;
    }
}

/* ---- Registers ---- */

static void lvts(void)
{
    static const uint8_t regs[] = {
        0x2f, APIC_LVTT, 0x33, 0x34, APIC_LVT0, APIC_LVT1, APIC_LVTERR,
    };

    irq_disable();
    for (uint64_t n = 0; ; n++) {
        unsigned reg = regs[n % sizeof(regs)];
        uint32_t vector = n / sizeof(regs) % VECTORS;
        uint32_t mode = n / sizeof(regs) / VECTORS % 8;
        /* Polarity, trigger and timer mode, reserved combinations as well. */
        uint32_t high = n / sizeof(regs) / VECTORS / 8 % 64;

        wrmsr_safe(MSR_X2APIC(reg), high << 13 | mode << 8 | vector);
        if (reg == APIC_LVTT) {
            wrmsr_safe(MSR_X2APIC(APIC_TMICT), 1 + n % 5000);
            wrmsr_safe(MSR_TSC_DEADLINE, rdtsc() + n % 5000);
        }
        apic_self_ipi(n % 240 + FIRST_LEGAL_VECTOR);
    }
}

/*
 * What the result of an access is may depend on the host in no way. MSRs of
 * which every access faults are only counted.
 */
static void msr_results(void)
{
    static const uint64_t values[] = {
        0, 1, 0xff, 0x100, 0xffffffff, 0x100000000, ~0ull,
    };
    unsigned all_fault = 0;

    irq_disable();
    for (uint32_t reg = 0; reg < 0x100; reg++) {
        bool counts = reg == APIC_TMCCT;
        uint64_t value = 0;
        unsigned faults = !!rdmsr_safe(MSR_X2APIC(reg), &value);

        for (unsigned i = 0; i < sizeof(values) / sizeof(*values); i++) {
            /* Faults or not, the next one finds the APIC as this one did. */
            faults |= !!wrmsr_safe(MSR_X2APIC(reg), values[i]) << (i + 1);
            wrmsr_safe(MSR_X2APIC(APIC_SVR), APIC_SVR_ON);
            wrmsr_safe(MSR_X2APIC(APIC_TPR), 0);
            wrmsr_safe(MSR_X2APIC(APIC_LVTT), APIC_LVT_MASKED);
        }
        if (faults == 0xff) {
            all_fault++;
        } else {
            print("msr %03x faults %02x reads %lx\n", 0x800 + reg, faults,
                  counts || faults & 1 ? 0 : value);
        }
    }
    print("msr others %u\n", all_fault);
}

static void msrs(void)
{
    msr_results();
    print("abuse: msrs done\n");
    for (;;) {
        for (uint32_t reg = 0; reg < 0x100; reg++) {
            uint64_t value;

            rdmsr_safe(MSR_X2APIC(reg), &value);
            if (reg != APIC_ICR) {
                wrmsr_safe(MSR_X2APIC(reg), rdtsc());
            }
        }
    }
}

static void apic_modes(void)
{
    uint64_t base = rdmsr(MSR_APIC_BASE) & ~(uint64_t)(APIC_BASE_X2APIC |
                                                      APIC_BASE_ENABLED);
    uint32_t *xapic_svr = (uint32_t *)(uintptr_t)((base & ~0xfffull) + 0xf0);

    irq_disable();
    for (unsigned n = 0; ; n++) {
        /* In x2APIC mode, with a timer that runs and interrupts that wait. */
        wrmsr_safe(MSR_X2APIC(APIC_SVR), n % 4 ? APIC_SVR_ON : 0xff);
        timer_start(APIC_LVT_PERIODIC | 0xfe, 100);
        apic_self_ipi(FIRST_LEGAL_VECTOR + n % 240);
        wrmsr_safe(MSR_APIC_BASE, base);
        wrmsr_safe(MSR_APIC_BASE, base | APIC_BASE_X2APIC);     /* illegal */
        wrmsr_safe(MSR_APIC_BASE, base | APIC_BASE_ENABLED);
        asm volatile("movl %1, %0" : "=m"(*xapic_svr) : "r"(APIC_SVR_ON));
        wrmsr_safe(MSR_APIC_BASE, base | APIC_BASE_ENABLED | APIC_BASE_X2APIC);
    }
}

static void tsc(void)
{
    irq_disable();
    apic_write(APIC_LVTT, APIC_LVT_TSC_DEADLINE | 0xfe);
    for (uint64_t n = 1; ; n++) {
        uint64_t value = n * 0x9e3779b97f4a7c15ull;

        wrmsr_safe(n % 2 ? MSR_TSC : MSR_TSC_ADJUST, n % 5 ? value : 0);
        wrmsr_safe(MSR_TSC_DEADLINE, n % 3 ? rdtsc() + n % 1000 : value);
    }
}

/* ---- Several CPUs ---- */

static void ap_spin(unsigned index)
{
    (void)index;
    irq_disable();
    spin();
}

/* All that a destination, a shorthand and a mode can say, and nonsense. */
static void icrs(void)
{
    uint64_t seed = 1;

    isr_set(2, count_only);     /* NMIs for itself are among them */
    irq_disable();
    smp_start(ap_spin);
    for (;;) {
        uint32_t low, mode;

        seed = seed * 6364136223846793005ull + 1442695040888963407ull;
        low = seed >> 32;
        mode = low & 0x700;
        /* INIT and SIPI for the others only: this CPU has to go on. */
        if (mode == APIC_ICR_INIT || mode == APIC_ICR_SIPI) {
            low |= APIC_ICR_OTHERS;
        }
        wrmsr_safe(MSR_X2APIC(APIC_ICR), (seed & 0x8000000f) << 32 | low);
        /* Without the reserved bits it is more likely to be sent. */
        low &= 0xccfff;
        wrmsr_safe(MSR_X2APIC(APIC_ICR), (seed & 3) << 32 | low);
    }
}

/* One vector that the host may be made to capture, from all sides. */
static void icr_storm(unsigned index)
{
    uint32_t vector = guest_param("vector", 254);

    irq_disable();
    for (;;) {
        if (n_cpus > 2 && index == 0) {
            cpu_pause();        /* the target */
        } else {
            apic_icr(cpu_apic_id(index ? 0 : 1), APIC_ICR_ASSERT | vector);
        }
    }
}

static void icr_storms(void)
{
    smp_start(icr_storm);
    icr_storm(0);
}

/* ---- A device that was given to it ---- */

static struct edu edu;

/* Counted by a handler meanwhile. */
static unsigned long arrived_of(unsigned vector)
{
    return __atomic_load_n(&arrived[vector], __ATOMIC_RELAXED);
}

/* An MSI that goes through the host may take its time; one below 16 may never. */
static void await_arrival(unsigned vector)
{
    uint64_t start = rdtsc();

    while (!arrived_of(vector) &&
           rdtsc() - start < (vector < FIRST_LEGAL_VECTOR ? 1ull : 10ull) << 28) {
        cpu_pause();
    }
}

static void edu_setup(void)
{
    if (!edu_find(&edu, 0)) {
        print("Bail out! no edu device\n");
        guest_exit(2);
    }
}

/* CPU 1 has the device interrupt CPU 0 without pause. */
static void device_raise(unsigned index)
{
    (void)index;
    irq_disable();
    for (;;) {
        edu_raise(&edu);
    }
}

static void device_storm(void)
{
    uint32_t vector = guest_param("vector", 239);
    uint64_t printed = rdtsc();

    edu_setup();
    handle_all(count_and_eoi);
    edu_use_msi(&edu, vector, cpu_apic_id(0));
    irq_enable();
    smp_start(device_raise);
    for (;;) {
        if (rdtsc() - printed > 1ull << 28) {
            print("storm %lu\n", arrived_of(vector));
            printed = rdtsc();
        }
    }
}

/*
 * One MSI with each vector that means something to a host. What a processor
 * does with those below 16 is not to deliver them; they are exceptions here,
 * some with an error code, which an interrupt does not have.
 */
static void device_vectors(void)
{
    static const uint8_t below_16[] = { 0, 1, 3, 4, 5, 6, 7, 9, 15 };

    edu_setup();
    handle_all(count_and_eoi);
    isr_set(16, count_and_eoi);
    for (unsigned i = 0; i < sizeof(below_16); i++) {
        isr_set(below_16[i], count_only);
    }
    irq_enable();
    for (unsigned v = 0; v < VECTORS; v++) {
        bool taken = v == 16 || (v >= RESERVED_EXCEPTION && (v < 27 || v > 31));

        for (unsigned i = 0; i < sizeof(below_16); i++) {
            taken = taken || v == below_16[i];
        }
        if (taken) {
            edu_use_msi(&edu, v, cpu_apic_id(0));
            edu_raise(&edu);
            await_arrival(v);
            delay(1000000);     /* for a second one */
            print("vector %u arrived %lu\n", v, arrived_of(v));
        }
    }
    print("abuse: device-vectors done\n");
    spin();
}

/* One message, for the host to look at: it is never sent. */
static void device_message(void)
{
    uint32_t message = guest_param("vector", 254) |
                       guest_param("mode", 0) << 8;

    edu_setup();
    irq_disable();
    edu_use_message(&edu, message, guest_param("dest", 0));
    spin();
}

/* INIT for itself: every time the guest starts again. */
static void init_self(void)
{
    timer_start(APIC_LVT_PERIODIC | 0xfe, 1000);
    apic_icr(cpu_apic_id(0), APIC_ICR_INIT | APIC_ICR_ASSERT);
    spin();
}

/* ---- Instructions ---- */

static void triple_fault(void)
{
    static const struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) none;

    timer_start(APIC_LVT_PERIODIC | 0xfe, 1000);
    asm volatile("lidt %0; ud2" : : "m"(none));
}

/*
 * RDMSR and WRMSR have two bytes, VMCLEAR and VMXON four, all else that is tried
 * here three.
 */
static void skip_instruction(struct isr_frame *f)
{
    const uint8_t *insn = (const uint8_t *)(uintptr_t)f->rip;

    if (insn[0] == 0x66 || insn[0] == 0xf3) {
        f->rip += 4;
    } else {
        f->rip += insn[1] == 0x30 || insn[1] == 0x32 ? 2 : 3;
    }
}

static void mwait(void)
{
    static uint64_t line;

    isr_set(6, skip_instruction);
    isr_set(13, skip_instruction);
    irq_disable();
    for (unsigned n = 0; ; n++) {
        asm volatile("monitor" : : "a"(&line), "c"(0), "d"(0));
        asm volatile("mwait" : : "a"((n % 8) << 4), "c"(n % 2));
    }
}

static void svm(void)
{
    char *vmcb = page_alloc(1), *host_save = page_alloc(1);
    uint64_t efer = rdmsr(MSR_EFER);

    isr_set(6, skip_instruction);
    isr_set(13, skip_instruction);
    irq_disable();
    timer_start(APIC_LVT_PERIODIC | 0xfe, 1000);
    for (unsigned n = 0; ; n++) {
        wrmsr_safe(MSR_EFER, efer | EFER_SVME);
        wrmsr_safe(MSR_VM_HSAVE_PA, (uintptr_t)host_save);
        asm volatile("clgi" : : : "memory");
        apic_self_ipi(FIRST_LEGAL_VECTOR + n % 240);
        /* Nothing in it is valid, then nonsense, then no address at all. */
        memset(vmcb, n % 3 ? n : 0, 4096);
        asm volatile("vmrun" : : "a"(n % 7 ? (uintptr_t)vmcb : ~0ull)
                     : "memory");
        delay(1000000);         /* with GIF clear */
        if (n % 2) {
            asm volatile("stgi" : : : "memory");
        }
        wrmsr_safe(MSR_EFER, efer);
    }
}

static void write_cr4(uint64_t v)
{
    asm volatile("mov %0, %%cr4" : : "a"(v) : "memory");
}

/* As above, on a host of the other vendor's. */
static void vmx(void)
{
    char *region = page_alloc(1), *vmcs = page_alloc(1);
    uint64_t region_pa = (uintptr_t)region, vmcs_pa = (uintptr_t)vmcs;
    uint64_t revision = 0, cr4;

    isr_set(6, skip_instruction);
    isr_set(13, skip_instruction);
    irq_disable();
    asm volatile("mov %%cr4, %0" : "=r"(cr4));
    wrmsr_safe(MSR_FEATURE_CONTROL, FEATURE_CONTROL_VMX);
    rdmsr_safe(MSR_VMX_BASIC, &revision);
    timer_start(APIC_LVT_PERIODIC | 0xfe, 1000);
    for (unsigned n = 0; ; n++) {
        write_cr4(cr4 | CR4_VMXE);
        *(uint32_t *)region = revision;
        asm volatile("vmxon (%%rax)" : : "a"(&region_pa) : "memory");
        apic_self_ipi(FIRST_LEGAL_VECTOR + n % 240);
        /* Nothing in it is valid, then nonsense, then the wrong revision. */
        memset(vmcs, n % 3 ? n : 0, 4096);
        *(uint32_t *)vmcs = n % 5 ? revision : n;
        asm volatile("vmclear (%%rax)" : : "a"(&vmcs_pa) : "memory");
        asm volatile("vmptrld (%%rax)" : : "a"(&vmcs_pa) : "memory");
        asm volatile("vmlaunch" : : : "memory");
        if (n % 7) {
            asm volatile("vmxoff" : : : "memory");
        }
        write_cr4(cr4);         /* faults in VMX operation */
    }
}

/* ---- Not hostile ---- */

/*
 * The generic guest beside it: says every second or so for how long at most
 * it was kept from running, in units of 2^20 cycles.
 */
static void neighbour(void)
{
    uint64_t last = rdtsc(), printed = last, longest = 0;

    for (;;) {
        uint64_t now = rdtsc();

        if (now - last > longest) {
            longest = now - last;
        }
        last = now;
        if (now - printed > 1ull << 29) {
            print("neighbour gap %lu\n", longest >> 20);
            longest = 0;
            printed = last = rdtsc();
        }
    }
}

static const struct {
    const char *name;
    void (*fn)(void);
} scenarios[] = {
    { "irq-off", irq_off },
    { "no-eoi", no_eoi },
    { "tpr-15", tpr_15 },
    { "timer-1", timer_1 },
    { "timer-1-taken", timer_1_taken },
    { "self-ipis", self_ipis },
    { "hlt-off", hlt_off },
    { "vectors", vectors },
    { "lvts", lvts },
    { "msrs", msrs },
    { "apic-modes", apic_modes },
    { "tsc", tsc },
    { "icrs", icrs },
    { "icr-storms", icr_storms },
    { "device-storm", device_storm },
    { "device-vectors", device_vectors },
    { "device-message", device_message },
    { "init-self", init_self },
    { "triple-fault", triple_fault },
    { "mwait", mwait },
    { "svm", svm },
    { "vmx", vmx },
    { "spin", spin },
    { "neighbour", neighbour },
};

/* Is the word "do=@name" in the command line? */
static bool chosen(const char *name)
{
    for (const char *p = guest_cmdline(); *p; p++) {
        const char *n = name;

        if (p[0] != 'd' || p[1] != 'o' || p[2] != '=') {
            continue;
        }
        for (p += 3; *n && *p == *n; p++) {
            n++;
        }
        return !*n && (!*p || *p == ' ');
    }
    return false;
}

void guest_main(void)
{
    n_cpus = cpu_count();
    for (unsigned i = 0; i < sizeof(scenarios) / sizeof(*scenarios); i++) {
        if (chosen(scenarios[i].name)) {
            print("abuse: %s starts\n", scenarios[i].name);
            scenarios[i].fn();
        }
    }
    print("abuse: no such scenario\n");
}
