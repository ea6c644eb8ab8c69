/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Measures for how long a host was kept from its work.
 *
 *     host-ticker SECONDS HOUSEKEEPING-CPUS [LEASED-CPUS]
 *
 * CPUs are lists such as 0,1. On each housekeeping CPU a real-time thread wants
 * to run every millisecond; for each leased CPU one on the first housekeeping
 * CPU has it called (an MSR read: a function call that is waited for). Prints
 *     begin US          after so many microseconds all threads were ready
 *     tick CPU N GAP    N times, GAP microseconds between two at most
 *     call CPU N GAP    N answers, GAP microseconds for one at most
 * A CPU that never answers leaves no line: the caller must miss it. It must
 * never be slow itself, hence real-time priority; a thread gets that when it
 * first runs, as an ordinary one, which may take its time. Needs root.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define MAX_WATCHES     16
#define MSR_TSC         0x10
#define TICK_NS         1000000
#define CALL_NS         5000000
#define PATIENCE_S      10      /* for a call that is not answered */

struct watch {
    bool call;                  /* call @cpu, else tick on it */
    int cpu;
    long n;
    long longest_us;
    pthread_t thread;
};

static struct watch watches[MAX_WATCHES];
static int n_watches;
static int first_cpu;
static atomic_int ready;
static atomic_llong end_ns;     /* 0 as long as not all are ready */

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000ll + now.tv_nsec;
}

static void pin(int cpu)
{
    struct sched_param fifo = { .sched_priority = 50 };
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set) ||
        sched_setscheduler(0, SCHED_FIFO, &fifo)) {
        perror("host-ticker: pin");
        exit(1);
    }
}

/* The end of the measurement, which begins when all have come here. */
static int64_t begin(void)
{
    struct timespec pause = { .tv_nsec = TICK_NS };
    int64_t end;

    ready++;
    while (!(end = end_ns)) {
        nanosleep(&pause, NULL);
    }
    return end;
}

static void record(struct watch *w, int64_t since)
{
    long us = (now_ns() - since) / 1000;

    w->n++;
    if (us > w->longest_us) {
        w->longest_us = us;
    }
}

static void *tick(void *arg)
{
    struct timespec pause = { .tv_nsec = TICK_NS };
    struct watch *w = arg;
    int64_t last, end;

    pin(w->cpu);
    end = begin();
    for (last = now_ns(); last < end; last = now_ns()) {
        nanosleep(&pause, NULL);
        record(w, last);
    }
    return NULL;
}

static void *call(void *arg)
{
    struct timespec pause = { .tv_nsec = CALL_NS };
    struct watch *w = arg;
    char path[64];
    int64_t end;
    int fd;

    snprintf(path, sizeof(path), "/dev/cpu/%d/msr", w->cpu);
    fd = open(path, O_RDONLY | O_CLOEXEC);
    pin(first_cpu);
    end = begin();
    for (int64_t start = now_ns(); start < end; start = now_ns()) {
        uint64_t value;

        if (pread(fd, &value, sizeof(value), MSR_TSC) != sizeof(value)) {
            perror("host-ticker: msr");
            exit(1);
        }
        record(w, start);
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void add(char *list, bool is_call)
{
    for (char *p = strtok(list, ","); p; p = strtok(NULL, ",")) {
        if (n_watches < MAX_WATCHES) {
            watches[n_watches++] = (struct watch) {
                .call = is_call, .cpu = atoi(p)
            };
        }
    }
}

/* Who does not come in time has no line of its own in the end. */
static void start(int seconds)
{
    struct timespec pause = { .tv_nsec = TICK_NS };
    int64_t from = now_ns();

    for (int i = 0; i < n_watches; i++) {
        pthread_create(&watches[i].thread, NULL,
                       watches[i].call ? call : tick, &watches[i]);
    }
    while (ready < n_watches && now_ns() - from < PATIENCE_S * 1000000000ll) {
        nanosleep(&pause, NULL);
    }
    printf("begin %lld\n", (long long)(now_ns() - from) / 1000);
    end_ns = now_ns() + seconds * 1000000000ll;
}

int main(int argc, char **argv)
{
    struct timespec limit;
    int missing = 0;

    if (argc < 3 || argc > 4) {
        fprintf(stderr, "usage: host-ticker SECONDS HOUSEKEEPING [LEASED]\n");
        return 2;
    }
    add(argv[2], false);
    first_cpu = watches[0].cpu;
    if (argc == 4) {
        add(argv[3], true);
    }
    mlockall(MCL_CURRENT | MCL_FUTURE);
    start(atoi(argv[1]));
    clock_gettime(CLOCK_REALTIME, &limit);
    limit.tv_sec += atoi(argv[1]) + PATIENCE_S;
    for (int i = 0; i < n_watches; i++) {
        struct watch *w = &watches[i];

        if (pthread_timedjoin_np(w->thread, NULL, &limit)) {
            missing++;
            continue;
        }
        printf("%s %d %ld %ld\n", w->call ? "call" : "tick", w->cpu, w->n,
               w->longest_us);
    }
    fflush(stdout);
    _exit(missing != 0);
}
