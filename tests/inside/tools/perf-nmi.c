/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Samples one CPU of the host for a while:
 *
 *     perf-nmi CPU cycles|cpu-clock SECONDS
 *
 * cycles are counted by the CPU's performance counter, whose overflow is an
 * NMI; cpu-clock by a timer of the host's.  Prints "EVENT samples=N guest=N",
 * the second being those taken while the CPU was in a guest, and exits 0; or
 * "EVENT unavailable: why" and exits 1. It must never fall back to another
 * event: a caller that asks for NMIs gets NMIs.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/perf_event.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SAMPLES_A_SECOND 100
#define PAGE             4096   /* x86's */
#define DATA_PAGES       64     /* a power of two */

static struct perf_event_mmap_page *map_ring(int fd)
{
    void *ring = mmap(NULL, (1 + DATA_PAGES) * PAGE, PROT_READ | PROT_WRITE,
                      MAP_SHARED, fd, 0);

    return ring == MAP_FAILED ? NULL : ring;
}

/* Nothing has been consumed yet: every record since the start is there. */
static void count(struct perf_event_mmap_page *ring, unsigned *samples,
                  unsigned *guest)
{
    uint64_t head = __atomic_load_n(&ring->data_head, __ATOMIC_ACQUIRE);
    const char *data = (const char *)ring + PAGE;
    const struct perf_event_header *record;

    for (uint64_t at = 0; at < head; at += record->size) {
        record = (const void *)(data + at % (DATA_PAGES * PAGE));
        if (record->type != PERF_RECORD_SAMPLE) {
            continue;
        }
        (*samples)++;
        switch (record->misc & PERF_RECORD_MISC_CPUMODE_MASK) {
        case PERF_RECORD_MISC_GUEST_KERNEL:
        case PERF_RECORD_MISC_GUEST_USER:
            (*guest)++;
        }
    }
}

int main(int argc, char **argv)
{
    bool cycles = argc == 4 && !strcmp(argv[2], "cycles");
    struct perf_event_attr attr = {
        .size = sizeof(attr),
        .type = cycles ? PERF_TYPE_HARDWARE : PERF_TYPE_SOFTWARE,
        .config = cycles ? PERF_COUNT_HW_CPU_CYCLES : PERF_COUNT_SW_CPU_CLOCK,
        .freq = 1,
        .sample_freq = SAMPLES_A_SECOND,
        .sample_type = PERF_SAMPLE_IP,
    };
    struct perf_event_mmap_page *ring = NULL;
    unsigned samples = 0, guest = 0;
    int fd;

    if (argc != 4) {
        fprintf(stderr, "usage: perf-nmi CPU cycles|cpu-clock SECONDS\n");
        return 2;
    }
    fd = syscall(SYS_perf_event_open, &attr, -1, atoi(argv[1]), -1, 0);
    if (fd >= 0) {
        ring = map_ring(fd);
    }
    if (!ring) {
        printf("%s unavailable: %s\n", argv[2], strerror(errno));
        return 1;
    }
    sleep(atoi(argv[3]));
    ioctl(fd, PERF_EVENT_IOC_DISABLE, 0);
    count(ring, &samples, &guest);
    printf("%s samples=%u guest=%u\n", argv[2], samples, guest);
    return 0;
}
