/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes to a disk and reads back, from one thread bound to each CPU given:
 *
 *     disk-io DEVICE CPU...
 *
 * until SIGTERM.  One request at a time and thread, past all caches: a request
 * is done only when its completion has been seen.  Then prints for each CPU
 *
 *     cpu=N requests=N bad=N slowest=MILLISECONDS
 *
 * and exits 0 if nothing was bad.  A thread that hangs is not waited for: its
 * line says "hangs".
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define MAX_CPUS 16
#define BLOCK    4096
#define BLOCKS   64             /* of each thread's own */
#define GRACE_S  120            /* for the last request, on a slow host */

static const char *device;
static atomic_bool stop;

static struct worker {
    pthread_t thread;
    int cpu;
    uint64_t requests, bad, slowest_ms;
    atomic_bool done;
} workers[MAX_CPUS];

static uint64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000ull + ts.tv_nsec / 1000000;
}

static void fill(uint64_t *block, uint64_t number, uint64_t round)
{
    for (unsigned i = 0; i < BLOCK / sizeof(*block); i++) {
        block[i] = number << 40 ^ round << 16 ^ i;
    }
}

/* One write and one read of the same block. */
static void transfer(struct worker *w, int fd, uint64_t number, uint64_t round)
{
    static _Thread_local uint64_t out[BLOCK / 8] __attribute__((aligned(BLOCK)));
    static _Thread_local uint64_t in[BLOCK / 8] __attribute__((aligned(BLOCK)));

    fill(out, number, round);
    memset(in, 0, sizeof(in));
    for (unsigned i = 0; i < 2; i++) {
        uint64_t begin = now_ms(), took;
        ssize_t n = i ? pread(fd, in, BLOCK, number * BLOCK)
                      : pwrite(fd, out, BLOCK, number * BLOCK);

        took = now_ms() - begin;
        w->slowest_ms = took > w->slowest_ms ? took : w->slowest_ms;
        w->requests++;
        w->bad += n != BLOCK;
    }
    w->bad += memcmp(in, out, BLOCK) != 0;
}

static void *work(void *arg)
{
    struct worker *w = arg;
    uint64_t first = (w - workers) * BLOCKS;
    cpu_set_t set;
    int fd = open(device, O_RDWR | O_DIRECT);

    CPU_ZERO(&set);
    CPU_SET(w->cpu, &set);
    if (fd < 0 || sched_setaffinity(0, sizeof(set), &set)) {
        perror(device);
        w->bad++;
    } else {
        for (uint64_t n = 0; !stop; n++) {
            transfer(w, fd, first + n % BLOCKS, n);
        }
    }
    w->done = true;
    return NULL;
}

int main(int argc, char **argv)
{
    uint64_t end, bad = 0;
    sigset_t signals;
    int n = argc - 2, signal;

    if (n < 1 || n > MAX_CPUS) {
        fprintf(stderr, "usage: disk-io DEVICE CPU...\n");
        return 2;
    }
    device = argv[1];
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    for (int i = 0; i < n; i++) {
        workers[i].cpu = atoi(argv[i + 2]);
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i])) {
            return 2;
        }
    }
    sigwait(&signals, &signal);
    stop = true;

    end = now_ms() + GRACE_S * 1000;
    for (int i = 0; i < n; i++) {
        struct worker *w = &workers[i];

        while (!w->done && now_ms() < end) {
            usleep(10000);
        }
        printf("cpu=%d requests=%ju bad=%ju slowest=%ju%s\n", w->cpu,
               (uintmax_t)w->requests, (uintmax_t)w->bad,
               (uintmax_t)w->slowest_ms, w->done ? "" : " hangs");
        bad += w->bad + !w->done;
    }
    fflush(stdout);
    _exit(bad != 0);
}
