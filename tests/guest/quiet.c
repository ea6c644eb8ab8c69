/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest that asks nothing of its host, but for what it is told to ask.
 *
 * Parameters (-append), in cycles of the TSC, 0 for never:
 *     exits=N  write to a port that QEMU serves, each time
 *     maps=N   turn the local APIC off and on: KVM frees its map of them by RCU
 * All vCPUs do so, for ever.  Console: "quiet: start" once all of them run.
 * It must never take an exit besides.
 */
#include "guest.h"

#define PORT_POST       0x80
#define APIC_SVR_OFF    0x0ffu
#define APIC_SVR_ON     0x1ffu

static void write_port(void)
{
    asm volatile("outb %b0, %w1" : : "a"(0), "d"(PORT_POST));
}

static void change_map(void)
{
    apic_write(APIC_SVR, APIC_SVR_OFF);
    apic_write(APIC_SVR, APIC_SVR_ON);
}

static void be_quiet(unsigned index)
{
    uint64_t exits = guest_param("exits", 0), maps = guest_param("maps", 0);
    uint64_t exited = rdtsc(), mapped = exited;

    (void)index;
    for (;;) {
        uint64_t now = rdtsc();

        cpu_pause();
        if (exits && now - exited >= exits) {
            exited = now;
            write_port();
        }
        if (maps && now - mapped >= maps) {
            mapped = now;
            change_map();
        }
    }
}

void guest_main(void)
{
    if (cpu_count() > 1 && !smp_start(be_quiet)) {
        print("quiet: a CPU does not start\n");
        guest_exit(1);
    }
    print("quiet: start\n");
    be_quiet(0);
}
