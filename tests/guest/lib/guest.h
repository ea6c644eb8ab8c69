/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a freestanding test guest can use: 64-bit mode, one identity map of
 * the first 4 GiB, interrupts with C handlers, x2APIC, SMP, serial output in
 * TAP form, power-off.
 *
 * A guest defines guest_main(); it runs on the boot processor with interrupts
 * off and x2APIC mode on, its LAPIC enabled, LINT0 and LINT1 masked, on a stack
 * of 16 KiB. Returning from it ends the guest with the TAP result.
 * Guests must be compiled by build-guest, which forbids SSE and the red zone.
 */
#ifndef GUEST_H
#define GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- Instructions ---- */

static inline void outb(uint16_t port, uint8_t v)
{
    asm volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint16_t inw(uint16_t port)
{
    uint16_t v;

    asm volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline void outw(uint16_t port, uint16_t v)
{
    asm volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}

static inline void outl(uint16_t port, uint32_t v)
{
    asm volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}

static inline uint8_t inb(uint16_t port)
{
    uint8_t v;

    asm volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
    return v;
}

static inline uint64_t rdmsr(uint32_t msr)
{
    uint32_t lo, hi;

    asm volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr) : "memory");
    return (uint64_t)hi << 32 | lo;
}

static inline void wrmsr(uint32_t msr, uint64_t v)
{
    asm volatile("wrmsr" : : "a"((uint32_t)v), "d"((uint32_t)(v >> 32)),
                 "c"(msr) : "memory");
}

/* As above, but return 13 (#GP's vector) when the access faults, else 0. */
uint64_t rdmsr_safe(uint32_t msr, uint64_t *val);
uint64_t wrmsr_safe(uint32_t msr, uint64_t val);

static inline uint64_t rdtsc(void)
{
    uint32_t lo, hi;

    asm volatile("rdtsc" : "=a"(lo), "=d"(hi) : : "memory");
    return (uint64_t)hi << 32 | lo;
}

/* Spin until *@counter is @want; false after @ticks of the TSC. */
static inline bool becomes(const volatile unsigned *counter, unsigned want,
                           uint64_t ticks)
{
    uint64_t end = rdtsc() + ticks;

    while (*counter != want) {
        if (rdtsc() > end) {
            return false;
        }
    }
    return true;
}

static inline void cpuid(uint32_t leaf, uint32_t sub, uint32_t r[4])
{
    asm volatile("cpuid" : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
                 : "a"(leaf), "c"(sub));
}

static inline uint64_t read_cr8(void)
{
    uint64_t v;

    asm volatile("mov %%cr8, %0" : "=r"(v) : : "memory");
    return v;
}

static inline void write_cr8(uint64_t v)
{
    asm volatile("mov %0, %%cr8" : : "r"(v) : "memory");
}

static inline void irq_enable(void)
{
    asm volatile("sti; nop" : : : "memory");
}

static inline void irq_disable(void)
{
    asm volatile("cli" : : : "memory");
}

/* STI's shadow keeps an interrupt from slipping in between it and HLT. */
static inline void irq_enable_and_hlt(void)
{
    asm volatile("sti; hlt" : : : "memory");
}

static inline void cpu_pause(void)
{
    asm volatile("pause" : : : "memory");
}

/* ---- Interrupts ---- */

/* The registers an interrupt stub saves, in memory order. */
struct isr_frame {
    uint64_t r15, r14, r13, r12, r11, r10, r9, r8;
    uint64_t rdi, rsi, rbp, rbx, rdx, rcx, rax;
    uint64_t vector, error_code;
    uint64_t rip, cs, rflags, rsp, ss;
};

typedef void isr_handler(struct isr_frame *f);

/*
 * Calls @fn for @vector on every CPU; the handler itself must EOI. NULL takes
 * the handler away: an exception or interrupt nobody handles ends the guest
 * with a register dump and a failing status.
 */
void isr_set(uint8_t vector, isr_handler *fn);

/* ---- Local APIC, x2APIC mode; @reg is the MSR's number minus 0x800 ---- */

enum {
    APIC_ID = 0x02, APIC_VERSION = 0x03, APIC_TPR = 0x08, APIC_PPR = 0x0a,
    APIC_EOI = 0x0b, APIC_LDR = 0x0d, APIC_SVR = 0x0f, APIC_ISR = 0x10,
    APIC_TMR = 0x18, APIC_IRR = 0x20, APIC_ESR = 0x28, APIC_ICR = 0x30,
    APIC_LVTT = 0x32, APIC_LVT0 = 0x35, APIC_LVT1 = 0x36, APIC_LVTERR = 0x37,
    APIC_TMICT = 0x38, APIC_TMCCT = 0x39, APIC_TDCR = 0x3e,
    APIC_SELF_IPI = 0x3f,
};

#define MSR_X2APIC(reg)         (0x800u + (reg))
#define MSR_TSC_DEADLINE        0x6e0u

#define APIC_LVT_MASKED         (1u << 16)
#define APIC_LVT_PERIODIC       (1u << 17)
#define APIC_LVT_TSC_DEADLINE   (1u << 18)
#define APIC_TDCR_BY_1          0xbu

#define APIC_ICR_NMI            (4u << 8)
#define APIC_ICR_INIT           (5u << 8)
#define APIC_ICR_SIPI           (6u << 8)
#define APIC_ICR_LOGICAL        (1u << 11)
#define APIC_ICR_ASSERT         (1u << 14)
#define APIC_ICR_SELF           (1u << 18)
#define APIC_ICR_ALL            (2u << 18)
#define APIC_ICR_OTHERS         (3u << 18)

static inline uint64_t apic_read(unsigned reg)
{
    return rdmsr(MSR_X2APIC(reg));
}

static inline void apic_write(unsigned reg, uint64_t v)
{
    wrmsr(MSR_X2APIC(reg), v);
}

static inline void apic_eoi(void)
{
    apic_write(APIC_EOI, 0);
}

static inline void apic_icr(uint32_t dest_apic_id, uint32_t low)
{
    apic_write(APIC_ICR, (uint64_t)dest_apic_id << 32 | low);
}

static inline void apic_self_ipi(uint8_t vector)
{
    apic_write(APIC_SELF_IPI, vector);
}

/* Is @vector's bit set in the 256-bit register that starts at @reg? */
static inline bool apic_test(unsigned reg, uint8_t vector)
{
    return apic_read(reg + vector / 32) >> (vector % 32) & 1;
}

/* ---- Processors ---- */

/* CPUs the machine has (fw_cfg), at most GUEST_MAX_CPUS; the BSP is index 0. */
unsigned cpu_count(void);

/* Index of the CPU that calls, in the order in which they came up. */
unsigned cpu_self(void);

/* x2APIC ID of the CPU of that index; valid for CPUs that have come up. */
uint32_t cpu_apic_id(unsigned index);

/*
 * Starts all APs by INIT and SIPI and has each call @fn(its index), interrupts
 * off, x2APIC mode on, LAPIC enabled; an AP whose @fn returns halts for ever.
 * Returns true once all of cpu_count() run, false after about 10 s of trying.
 */
bool smp_start(void (*fn)(unsigned index));

/* ---- Memory ---- */

/* @n zeroed, contiguous 4 KiB pages above the image; never freed. */
void *page_alloc(unsigned n);

void *memset(void *p, int c, size_t n);
void *memcpy(void *d, const void *s, size_t n);
int strcmp(const char *a, const char *b);

/* The -append string, "" if there is none. */
const char *guest_cmdline(void);

/* Decimal value of "@name=" in the command line, @fallback if it is absent. */
uint64_t guest_param(const char *name, uint64_t fallback);

/* ---- Output on COM1: %d %u %x %c %s, with l and zero-padded widths ---- */

void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Test Anything Protocol. tap_plan() comes first, tap_ok() returns @ok. */
void tap_plan(unsigned n);
bool tap_ok(bool ok, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));
void tap_skip(const char *name, const char *reason);

/*
 * Ends the guest: isa-debug-exit at port 0xf4 when the machine has one (QEMU's
 * exit status is then 2 * @code + 1), else ACPI S5.
 */
void guest_exit(uint8_t code) __attribute__((noreturn));

/* Called by start.S on the BSP when all of the above works. */
void guest_main(void);

#endif
