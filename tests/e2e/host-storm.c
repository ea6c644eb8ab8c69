/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes a host do to some of its CPUs, and to one QEMU, all that interrupts a
 * CPU: function calls, TLB flushes, code patching, workqueues, signals,
 * competing threads, and requests for the guest's state over QMP.
 *
 *     host-storm PID CPUS [QMP-SOCKET]
 *
 * PID is the QEMU, CPUS a list such as 2,3. Ends when PID has ended or on
 * SIGTERM, with one line per kind: its name and how often it was done, or
 * "unavailable" with the reason. Status 0 whatever could be done: the caller
 * knows which kinds it must insist on. Needs root.
 * It must never change what outlives it: trace events and module parameters
 * are put back.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_CPUS        16
#define MAX_TASKS       32
#define MSR_TSC         0x10    /* read with a function call on that CPU */
#define SIG_KICK        SIGUSR1 /* QEMU's SIG_IPI: makes KVM_RUN return */

struct kind {
    const char *name;
    bool (*once)(void);         /* false: unavailable, errno says why */
    unsigned pause_us;          /* between two, at most; random */
    uint64_t done;
    int error;
    pthread_t thread;
};

static int cpus[MAX_CPUS], n_cpus;
static pid_t qemu;
static pid_t vcpus[MAX_TASKS];
static unsigned n_vcpus;
static const char *qmp_path;
static volatile sig_atomic_t stop;

static void on_term(int sig)
{
    (void)sig;
    stop = 1;
}

static int any_cpu(void)
{
    return cpus[rand() % n_cpus];
}

static bool write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    bool ok;

    if (fd < 0) {
        return false;
    }
    ok = write(fd, text, strlen(text)) == (ssize_t)strlen(text);
    close(fd);
    return ok;
}

static bool pin(int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return !sched_setaffinity(0, sizeof(set), &set);
}

/* ---- The kinds ---- */

/* One synchronous function call to the CPU. */
static bool read_msr(void)
{
    static int fds[MAX_CPUS];
    int i = rand() % n_cpus;
    uint64_t tsc;

    if (!fds[i]) {
        char path[32];

        snprintf(path, sizeof(path), "/dev/cpu/%d/msr", cpus[i]);
        fds[i] = open(path, O_RDONLY | O_CLOEXEC);
        if (fds[i] < 0) {
            fds[i] = 0;
            return false;
        }
    }
    return pread(fds[i], &tsc, sizeof(tsc), MSR_TSC) == sizeof(tsc);
}

/* Work queued on every CPU, the leased ones included. */
static bool refresh_vm_statistics(void)
{
    return write_file("/proc/sys/vm/stat_refresh", "1");
}

/* Static keys and trace points: every CPU has to see the new code. */
static bool patch_kernel_text(void)
{
    static const char path[] =
        "/sys/kernel/tracing/events/timer/timer_start/enable";
    bool ok = write_file(path, "1");

    return write_file(path, "0") && ok;
}

/* Every mapping of every guest goes, with a kick of every vCPU. */
static bool zap_guest_mappings(void)
{
    static const char path[] = "/sys/module/kvm/parameters/nx_huge_pages";
    bool ok = write_file(path, "force");

    return write_file(path, "off") && ok;
}

/* A TLB flush on each CPU that has QEMU's address space loaded. */
static bool flush_qemu_tlb(void)
{
    char path[48];

    snprintf(path, sizeof(path), "/proc/%d/clear_refs", qemu);
    return write_file(path, "1");
}

static bool signal_vcpu(void)
{
    if (!n_vcpus) {
        errno = ESRCH;
        return false;
    }
    return !syscall(SYS_tgkill, qemu, vcpus[rand() % n_vcpus], SIG_KICK);
}

/* A thread that wants the CPU, takes it for a moment and goes. */
static bool compete(void)
{
    struct timespec t0, t;

    if (!pin(any_cpu())) {
        return false;
    }
    clock_gettime(CLOCK_MONOTONIC, &t0);
    do {
        clock_gettime(CLOCK_MONOTONIC, &t);
    } while ((t.tv_sec - t0.tv_sec) * 1000000000L + t.tv_nsec - t0.tv_nsec <
             200000);
    return true;
}

/* Unmapping what a thread on another CPU shares: a TLB flush there. */
static void *share_address_space(void *arg)
{
    pin((intptr_t)arg);
    while (!stop) {
        usleep(200);
    }
    return NULL;
}

static bool unmap(void)
{
    static bool started;
    char *p;

    for (int i = 0; !started && i < n_cpus; i++) {
        pthread_t thread;

        if (pthread_create(&thread, NULL, share_address_space,
                           (void *)(intptr_t)cpus[i])) {
            return false;
        }
        pthread_detach(thread);
    }
    started = true;
    p = mmap(NULL, 65536, PROT_READ | PROT_WRITE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    return p != MAP_FAILED && !munmap(p, 65536);
}

static int qmp_connect(void)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    if (fd < 0) {
        return -1;
    }
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", qmp_path);
    if (connect(fd, (struct sockaddr *)&addr, sizeof(addr))) {
        close(fd);
        return -1;
    }
    return fd;
}

/* Send @command, wait for its "return". Events and greetings are passed by. */
static bool qmp(int fd, const char *command)
{
    char buf[65536];
    size_t n = 0;

    if (write(fd, command, strlen(command)) != (ssize_t)strlen(command)) {
        return false;
    }
    while (n < sizeof(buf) - 1) {
        ssize_t got = read(fd, buf + n, sizeof(buf) - 1 - n);

        if (got <= 0) {
            errno = got ? errno : EPIPE;
            return false;
        }
        n += got;
        buf[n] = 0;
        if (strstr(buf, "\"error\"")) {
            errno = EPROTO;
            return false;
        }
        if (strstr(buf, "\"return\"") && buf[n - 1] == '\n') {
            return true;
        }
    }
    errno = EMSGSIZE;
    return false;
}

/* QEMU fetches a vCPU's whole state, LAPIC included: a demotion. */
static bool ask_for_lapic(void)
{
    static int fd = -1;
    char command[128];

    if (!qmp_path) {
        errno = ENOENT;
        return false;
    }
    if (fd < 0) {
        fd = qmp_connect();
        if (fd < 0 || !qmp(fd, "{\"execute\":\"qmp_capabilities\"}\n")) {
            return false;
        }
    }
    snprintf(command, sizeof(command), "{\"execute\":\"human-monitor-command\","
             "\"arguments\":{\"command-line\":\"info lapic\",\"cpu-index\":%u}}"
             "\n", rand() % (n_vcpus ? n_vcpus : 1));
    return qmp(fd, command);
}

static struct kind kinds[] = {
    { .name = "read-msr", .once = read_msr,
      .pause_us = 500 },
    { .name = "unmap", .once = unmap,
      .pause_us = 1000 },
    { .name = "signal-vcpu", .once = signal_vcpu,
      .pause_us = 2000 },
    { .name = "flush-qemu-tlb", .once = flush_qemu_tlb,
      .pause_us = 5000 },
    { .name = "compete", .once = compete,
      .pause_us = 20000 },
    { .name = "patch-kernel-text", .once = patch_kernel_text,
      .pause_us = 50000 },
    { .name = "refresh-vm-statistics", .once = refresh_vm_statistics,
      .pause_us = 20000 },
    { .name = "zap-guest-mappings", .once = zap_guest_mappings,
      .pause_us = 100000 },
    { .name = "ask-for-lapic", .once = ask_for_lapic,
      .pause_us = 10000 },
};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void *storm(void *arg)
{
    struct kind *k = arg;

    while (!stop) {
        if (k->once()) {
            k->done++;
        } else if (!stop) {
            k->error = errno;
            /* What never worked won't; what did may, unless QEMU is gone. */
            if (!k->done) {
                break;
            }
        }
        usleep(rand() % k->pause_us + 1);
    }
    return NULL;
}

/* ---- Set-up ---- */

static void parse_cpus(const char *list)
{
    int length;

    while (n_cpus < MAX_CPUS &&
           sscanf(list, "%d%n", &cpus[n_cpus], &length) == 1) {
        n_cpus++;
        list += length;
        list += *list == ',';
    }
}

/* vCPU threads are called "CPU N/KVM", whatever the accelerator's name. */
static void find_vcpus(void)
{
    char path[300], comm[32];
    struct dirent *d;
    DIR *dir;

    snprintf(path, sizeof(path), "/proc/%d/task", qemu);
    dir = opendir(path);
    while (dir && (d = readdir(dir)) && n_vcpus < MAX_TASKS) {
        FILE *f;

        snprintf(path, sizeof(path), "/proc/%d/task/%s/comm", qemu, d->d_name);
        f = fopen(path, "r");
        if (!f) {
            continue;
        }
        if (fgets(comm, sizeof(comm), f) && !strncmp(comm, "CPU ", 4)) {
            vcpus[n_vcpus++] = atoi(d->d_name);
        }
        fclose(f);
    }
    if (dir) {
        closedir(dir);
    }
}

int main(int argc, char **argv)
{
    const struct sigaction term = { .sa_handler = on_term };
    const struct sigaction ignore = { .sa_handler = SIG_IGN };

    if (argc < 3) {
        fprintf(stderr, "usage: host-storm PID CPUS [QMP-SOCKET]\n");
        return 2;
    }
    qemu = atoi(argv[1]);
    parse_cpus(argv[2]);
    qmp_path = argc > 3 ? argv[3] : NULL;
    find_vcpus();
    if (!n_cpus || qemu <= 0) {
        fprintf(stderr, "host-storm: no CPU or no process given\n");
        return 2;
    }
    sigaction(SIGTERM, &term, NULL);
    sigaction(SIGPIPE, &ignore, NULL);

    for (unsigned i = 0; i < N_KINDS; i++) {
        if (pthread_create(&kinds[i].thread, NULL, storm, &kinds[i])) {
            perror("host-storm: pthread_create");
            return 1;
        }
    }
    while (!stop && !kill(qemu, 0)) {
        usleep(20000);
    }
    stop = 1;
    for (unsigned i = 0; i < N_KINDS; i++) {
        pthread_join(kinds[i].thread, NULL);
        if (kinds[i].done) {
            printf("%s %llu\n", kinds[i].name,
                   (unsigned long long)kinds[i].done);
        } else {
            printf("%s unavailable: %s\n", kinds[i].name,
                   strerror(kinds[i].error));
        }
    }
    return 0;
}
