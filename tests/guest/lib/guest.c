/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runtime of a freestanding test guest; guest.h says what each part does.
 *
 * Owns the IDT, the table of handlers, the list of CPUs and COM1. It must
 * never enable interrupts by itself: when they are on is the test's decision.
 */
#include <stdarg.h>
#include "guest.h"
#include "start.h"

#define MSR_APIC_BASE           0x1b
#define APIC_BASE_EXTD_EN       0xc00
#define MSR_GS_BASE             0xc0000101

#define COM1                    0x3f8
#define COM1_LSR_THRE           0x20
#define FW_CFG_SELECT           0x510
#define FW_CFG_DATA             0x511
#define FW_CFG_NB_CPUS          5
#define DEBUG_EXIT_PORT         0xf4
#define PM1A_CNT_PORT           0x604   /* as SeaBIOS sets it up, pc and q35 */
#define PM1A_CNT_S5             0x2000
#define MB_INFO_CMDLINE         (1u << 2)

#define SEL_CODE64              0x08
#define GATE_INTERRUPT64        0x8e

struct gate {
    uint16_t offset_low, selector;
    uint8_t ist, type;
    uint16_t offset_mid;
    uint32_t offset_high, reserved;
};

struct cpu {
    unsigned index;
    uint32_t apic_id;
    bool up;
};

static struct gate idt[256];
static isr_handler *handlers[256];
static struct cpu cpus[GUEST_MAX_CPUS];
static void (*ap_fn)(unsigned index);
static char cmdline[512];
static unsigned tap_done, tap_failed, tap_planned;

/* ---- Memory and strings ---- */

void *memset(void *p, int c, size_t n)
{
    void *d = p;

    asm volatile("rep stosb" : "+D"(d), "+c"(n) : "a"(c) : "memory");
    return p;
}

void *memcpy(void *dst, const void *src, size_t n)
{
    void *d = dst;

    asm volatile("rep movsb" : "+D"(d), "+S"(src), "+c"(n) : : "memory");
    return dst;
}

int strcmp(const char *a, const char *b)
{
    while (*a && *a == *b) {
        a++;
        b++;
    }
    return (unsigned char)*a - (unsigned char)*b;
}

void *page_alloc(unsigned n)
{
    static char *next = guest_image_end;
    size_t size = (size_t)n * 4096;
    char *p = __atomic_fetch_add(&next, size, __ATOMIC_RELAXED);

    return memset(p, 0, size);
}

const char *guest_cmdline(void)
{
    return cmdline;
}

uint64_t guest_param(const char *name, uint64_t fallback)
{
    const char *p = cmdline;

    while (*p) {
        const char *n = name;
        uint64_t v = 0;

        while (*n && *p == *n) {
            n++;
            p++;
        }
        if (!*n && *p == '=') {
            for (p++; *p >= '0' && *p <= '9'; p++) {
                v = v * 10 + (*p - '0');
            }
            return v;
        }
        while (*p && *p != ' ') {
            p++;
        }
        while (*p == ' ') {
            p++;
        }
    }
    return fallback;
}

/* ---- Output ---- */

static void put_char(char c)
{
    if (c == '\n') {
        put_char('\r');
    }
    while (!(inb(COM1 + 5) & COM1_LSR_THRE)) {
        cpu_pause();
    }
    outb(COM1, c);
}

static void put_number(uint64_t v, unsigned base, unsigned width, char pad)
{
    char buf[24];
    unsigned n = 0;

    do {
        buf[n++] = "0123456789abcdef"[v % base];
        v /= base;
    } while (v);
    while (width > n) {
        put_char(pad);
        width--;
    }
    while (n) {
        put_char(buf[--n]);
    }
}

static void vprint(const char *fmt, va_list ap)
{
    for (; *fmt; fmt++) {
        unsigned width = 0;
        bool is_long = false;
        char pad = ' ';
        int64_t v;

        if (*fmt != '%') {
            put_char(*fmt);
            continue;
        }
        if (*++fmt == '0') {
            pad = '0';
            fmt++;
        }
        while (*fmt >= '0' && *fmt <= '9') {
            width = width * 10 + (*fmt++ - '0');
        }
        while (*fmt == 'l') {
            is_long = true;
            fmt++;
        }
        switch (*fmt) {
        case 'd':
            v = is_long ? va_arg(ap, long) : va_arg(ap, int);
            if (v < 0) {
                put_char('-');
                v = -v;
            }
            put_number(v, 10, width, pad);
            break;
        case 'u':
        case 'x':
            put_number(is_long ? va_arg(ap, unsigned long)
                               : va_arg(ap, unsigned int),
                       *fmt == 'x' ? 16 : 10, width, pad);
            break;
        case 'c':
            put_char(va_arg(ap, int));
            break;
        case 's':
            for (const char *s = va_arg(ap, const char *); *s; s++) {
                put_char(*s);
            }
            break;
        default:
            put_char(*fmt);
            break;
        }
    }
}

void print(const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vprint(fmt, ap);
    va_end(ap);
}

void tap_plan(unsigned n)
{
    tap_planned = n;
    print("1..%u\n", n);
}

bool tap_ok(bool ok, const char *fmt, ...)
{
    va_list ap;

    print("%sok %u - ", ok ? "" : "not ", ++tap_done);
    va_start(ap, fmt);
    vprint(fmt, ap);
    va_end(ap);
    print("\n");
    tap_failed += !ok;
    return ok;
}

void tap_skip(const char *name, const char *reason)
{
    print("ok %u - %s # SKIP %s\n", ++tap_done, name, reason);
}

void guest_exit(uint8_t code)
{
    outb(DEBUG_EXIT_PORT, code);
    outw(PM1A_CNT_PORT, PM1A_CNT_S5);
    for (;;) {
        asm volatile("cli; hlt");
    }
}

/* ---- Interrupts ---- */

void isr_set(uint8_t vector, isr_handler *fn)
{
    __atomic_store_n(&handlers[vector], fn, __ATOMIC_RELEASE);
}

void isr_dispatch(struct isr_frame *f)
{
    isr_handler *fn = __atomic_load_n(&handlers[f->vector], __ATOMIC_ACQUIRE);

    if (fn) {
        fn(f);
        return;
    }
    if (f->vector == 13 && (f->rip == (uintptr_t)rdmsr_safe_insn ||
                            f->rip == (uintptr_t)wrmsr_safe_insn)) {
        f->rip = (uintptr_t)msr_safe_fault;
        return;
    }
    print("Bail out! CPU %u: unexpected vector %lu error %lx at %lx\n",
          cpu_self(), f->vector, f->error_code, f->rip);
    print("# rsp=%lx rflags=%lx rax=%lx rbx=%lx rcx=%lx rdx=%lx rsi=%lx "
          "rdi=%lx\n", f->rsp, f->rflags, f->rax, f->rbx, f->rcx, f->rdx,
          f->rsi, f->rdi);
    guest_exit(2);
}

static void idt_fill(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uintptr_t stub = (uintptr_t)isr_stubs + 16 * i;

        idt[i] = (struct gate) {
            .offset_low = stub, .offset_mid = stub >> 16,
            .offset_high = stub >> 32,
            .selector = SEL_CODE64, .type = GATE_INTERRUPT64,
        };
    }
}

/* ---- Processors ---- */

static void cpu_setup(unsigned index)
{
    struct {
        uint16_t limit;
        uint64_t base;
    } __attribute__((packed)) idtr = { sizeof(idt) - 1, (uintptr_t)idt };

    asm volatile("lidt %0" : : "m"(idtr));
    wrmsr(MSR_GS_BASE, (uintptr_t)&cpus[index]);
    wrmsr(MSR_APIC_BASE, rdmsr(MSR_APIC_BASE) | APIC_BASE_EXTD_EN);
    apic_write(APIC_LVT0, APIC_LVT_MASKED);
    apic_write(APIC_LVT1, APIC_LVT_MASKED);
    apic_write(APIC_SVR, 0x1ff);
    cpus[index].index = index;
    cpus[index].apic_id = apic_read(APIC_ID);
    __atomic_store_n(&cpus[index].up, true, __ATOMIC_RELEASE);
}

unsigned cpu_self(void)
{
    unsigned index;

    asm("movl %%gs:%c1, %0" : "=r"(index) : "i"(offsetof(struct cpu, index)));
    return index;
}

uint32_t cpu_apic_id(unsigned index)
{
    return cpus[index].apic_id;
}

unsigned cpu_count(void)
{
    unsigned n;

    outw(FW_CFG_SELECT, FW_CFG_NB_CPUS);
    n = inb(FW_CFG_DATA);
    n |= inb(FW_CFG_DATA) << 8;
    return n < GUEST_MAX_CPUS ? n : GUEST_MAX_CPUS;
}

static unsigned cpus_up(void)
{
    unsigned n = 0;

    for (unsigned i = 0; i < GUEST_MAX_CPUS; i++) {
        n += __atomic_load_n(&cpus[i].up, __ATOMIC_ACQUIRE);
    }
    return n;
}

bool smp_start(void (*fn)(unsigned index))
{
    unsigned want = cpu_count();

    __atomic_store_n(&ap_fn, fn, __ATOMIC_RELEASE);
    memcpy((void *)AP_BASE, ap_trampoline, ap_trampoline_end - ap_trampoline);
    apic_icr(0, APIC_ICR_OTHERS | APIC_ICR_INIT | APIC_ICR_ASSERT);
    for (unsigned tries = 0; tries < 10000 && cpus_up() < want; tries++) {
        /* A CPU that is up ignores a SIPI, so repeating it does no harm. */
        if (tries % 1000 == 0) {
            apic_icr(0, APIC_ICR_OTHERS | APIC_ICR_SIPI | APIC_ICR_ASSERT |
                     AP_BASE >> 12);
        }
        for (unsigned i = 0; i < 1000 && cpus_up() < want; i++) {
            inb(0x80);          /* about 1 us on a PC */
        }
    }
    return cpus_up() >= want;
}

void guest_start_ap(unsigned index)
{
    cpu_setup(index);
    __atomic_load_n(&ap_fn, __ATOMIC_ACQUIRE)(index);
}

void guest_start_bsp(const uint32_t *mb_info)
{
    if (mb_info[0] & MB_INFO_CMDLINE) {
        /* It lies behind the image, where page_alloc() takes its pages. */
        memcpy(cmdline, (const char *)(uintptr_t)mb_info[4],
               sizeof(cmdline) - 1);
    }
    /* The 8259s, should the firmware have left them on, must stay silent. */
    outb(0x21, 0xff);
    outb(0xa1, 0xff);
    idt_fill();
    cpu_setup(0);
    guest_main();
    if (tap_done != tap_planned) {
        print("Bail out! %u tests planned, %u run\n", tap_planned, tap_done);
        guest_exit(2);
    }
    guest_exit(tap_failed ? 1 : 0);
}
