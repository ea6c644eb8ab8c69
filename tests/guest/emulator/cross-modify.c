/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One CPU changes code that another executes all the time, and waits until that
 * one has serialized itself: from then on the other must execute the new code
 * (Intel SDM 9.1.3, AMD APM vol. 2, 7.6.1), as the kernels of all operating
 * systems count on that patch themselves. An emulator that translates code may
 * keep what it translated while the old bytes were still there. Only one with a
 * thread for each CPU can get this wrong.
 */
#include "guest.h"

#define CHANGES         300000
#define RETURN_EAX      0xb8    /* mov $imm32, %eax; ret */
#define RET             0xc3

/* volatile: written by one CPU and read by the other */
static volatile uint32_t asked, answered, stale;
static volatile bool ready;     /* volatile: the same */

/* On a page with nothing else. */
static uint8_t *code;
/* The operand of the instruction. */
static volatile uint32_t *value;

static uint32_t call_code(void)
{
    return ((uint32_t (*)(void))code)();
}

/* Executes the code all the time; after each request it serializes, once. */
static void execute(unsigned index)
{
    uint32_t regs[4], seen = 0;

    (void)index;
    ready = true;
    for (;;) {
        uint32_t now = asked;

        if (now != seen) {
            cpuid(0, 0, regs);
            stale += call_code() != now;
            seen = now;
            answered = now;
        }
        call_code();
    }
}

void guest_main(void)
{
    tap_plan(1);
    code = page_alloc(1);
    code[0] = RETURN_EAX;
    code[5] = RET;
    value = (volatile uint32_t *)(code + 1);
    if (!smp_start(execute)) {
        print("Bail out! no second CPU\n");
        guest_exit(2);
    }
    while (!ready) {
        cpu_pause();
    }
    for (uint32_t i = 1; i <= CHANGES && stale < 3; i++) {
        *value = i;
        asked = i;
        while (answered != i) {
            cpu_pause();
        }
    }
    tap_ok(!stale, "of %u changes of code, %u were not seen", answered, stale);
}
