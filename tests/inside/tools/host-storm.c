/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Makes a host do to some of its CPUs, and to one QEMU, all that interrupts a
 * CPU: function calls, TLB flushes, memory barriers, code patching, workqueues,
 * signals, competing threads, NMIs, a CPU that leaves and comes back, device
 * interrupts that move, and a VM that is paused, whose state is read and
 * written over QMP, and whose vCPUs are pinned elsewhere.
 *
 *     host-storm PID CPUS SPARE-CPU SEED [QMP-SOCKET [KIND...]]
 *
 * PID is the QEMU, CPUS a list such as 2,3, SPARE-CPU one that neither QEMU nor
 * the host needs; each KIND a name in kinds[], all without one. Says "each" when
 * each was done once, or turned out to be unavailable. Ends when PID has ended
 * or on SIGTERM, with one line per kind: its name and how often it was done, or
 * "unavailable" with the reason; and "misrouted" for each device interrupt that
 * was found on one of CPUS. Status 0 whatever could be done: the caller knows
 * which kinds it must insist on. STORM_PACE=N in the environment makes it N times
 * as slow. Needs root.
 * It must never change what outlives it: trace events, module parameters,
 * interrupt affinities and the spare CPU are put back.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/membarrier.h>
#include <linux/perf_event.h>
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
#define MAX_IRQS        256
#define LAST_HOST_CPU   0       /* with the spare one, all that keep house */
#define MSR_TSC         0x10    /* read with a function call on that CPU */
#define SIG_KICK        SIGUSR1 /* QEMU's SIG_IPI: makes KVM_RUN return */

struct kind {
    const char *name;
    bool (*once)(void);         /* false: unavailable, errno says why */
    void (*put_back)(void);     /* after the last, NULL: nothing to do */
    unsigned pause_us;          /* between two, at most; random */
    bool wanted;
    uint64_t done;
    int error;
    pthread_t thread;
};

static int cpus[MAX_CPUS], n_cpus, spare_cpu;
static pid_t qemu;
static pid_t vcpus[MAX_TASKS];
static unsigned n_vcpus;
static const char *qmp_path;
static volatile sig_atomic_t stop;
static unsigned pace = 1;

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

static bool read_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n;

    if (fd < 0) {
        return false;
    }
    n = read(fd, text, size - 1);
    close(fd);
    text[n > 0 ? n : 0] = 0;
    return n > 0;
}

/* Task 0 is the caller. */
static bool pin(pid_t task, int cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    return !sched_setaffinity(task, sizeof(set), &set);
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

    if (!pin(0, any_cpu())) {
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
    pin(0, (intptr_t)arg);
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
static bool qmp_exchange(int fd, const char *command)
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

/* QEMU serves one client, so all kinds share the connection. */
static bool qmp(const char *command)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    static int fd = -1;
    bool ok = false;

    if (!qmp_path) {
        errno = ENOENT;
        return false;
    }
    pthread_mutex_lock(&lock);
    if (fd < 0) {
        fd = qmp_connect();
        if (fd >= 0 &&
            !qmp_exchange(fd, "{\"execute\":\"qmp_capabilities\"}\n")) {
            close(fd);
            fd = -1;
        }
    }
    if (fd >= 0) {
        ok = qmp_exchange(fd, command);
    }
    pthread_mutex_unlock(&lock);
    return ok;
}

/* QEMU fetches a vCPU's whole state, LAPIC included: a demotion. */
static bool ask_for_lapic(void)
{
    char command[128];

    snprintf(command, sizeof(command), "{\"execute\":\"human-monitor-command\","
             "\"arguments\":{\"command-line\":\"info lapic\",\"cpu-index\":%u}}"
             "\n", rand() % (n_vcpus ? n_vcpus : 1));
    return qmp(command);
}

/*
 * An NMI by LINT1, which the guest has masked: QEMU fetches every vCPU's state,
 * and writes its registers and MSRs, the TSC deadline too, before it runs on.
 */
static bool write_state(void)
{
    return qmp("{\"execute\":\"inject-nmi\"}\n");
}

static bool pause_vm(void)
{
    bool paused = qmp("{\"execute\":\"stop\"}\n");

    usleep(rand() % 20000);
    return qmp("{\"execute\":\"cont\"}\n") && paused;
}

/* Keeps CPU *arg busy until that is -1, which may be before this has begun. */
static void *run_on(void *arg)
{
    int *cpu = arg, mine = __atomic_load_n(cpu, __ATOMIC_RELAXED);

    if (mine >= 0) {
        pin(0, mine);
    }
    while (__atomic_load_n(cpu, __ATOMIC_RELAXED) >= 0) {
        __builtin_ia32_pause();
    }
    return NULL;
}

/* A barrier on each CPU that runs a thread of this process, so on a leased. */
static bool order_memory(void)
{
    static bool registered;
    int cpu = any_cpu();
    pthread_t thread;
    bool ok;

    if (!registered &&
        syscall(SYS_membarrier,
                MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0)) {
        return false;
    }
    registered = true;
    if (pthread_create(&thread, NULL, run_on, &cpu)) {
        return false;
    }
    usleep(300);
    ok = !syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
    __atomic_store_n(&cpu, -1, __ATOMIC_RELAXED);
    pthread_join(thread, NULL);
    return ok;
}

/* The one CPU that vCPU @i may run on, or -1. */
static int vcpu_cpu(unsigned i)
{
    cpu_set_t set;
    int cpu = 0;

    if (sched_getaffinity(vcpus[i], sizeof(set), &set) ||
        CPU_COUNT(&set) != 1) {
        return -1;
    }
    while (!CPU_ISSET(cpu, &set)) {
        cpu++;
    }
    return cpu;
}

/* A vCPU goes to a CPU of ours that none has. QEMU looks once a second. */
static bool repin(void)
{
    unsigned vcpu = rand() % (n_vcpus ? n_vcpus : 1);
    int cpu = any_cpu();

    if (n_cpus <= (int)n_vcpus) {
        errno = EBUSY;
        return false;
    }
    for (unsigned i = 0; i < n_vcpus; i++) {
        if (vcpu_cpu(i) == cpu) {
            return true;
        }
    }
    return pin(vcpus[vcpu], cpu);
}

/* The spare CPU's timers, interrupts and work go elsewhere, and it returns. */
static bool spare_online(bool online)
{
    char path[64];

    snprintf(path, sizeof(path), "/sys/devices/system/cpu/cpu%d/online",
             spare_cpu);
    return write_file(path, online ? "1" : "0");
}

static bool unplug_cpu(void)
{
    bool gone = spare_online(false);

    usleep(rand() % 50000);
    return spare_online(true) && gone;
}

static void plug_cpu(void)
{
    spare_online(true);
}

/* ---- Device interrupts ---- */

static struct {
    int number;
    char affinity[64];          /* as it was */
} irqs[MAX_IRQS];
static unsigned n_irqs, n_misrouted;
static int last_misrouted;

static bool irq_file(int irq, const char *name, char *text, size_t size,
                     bool write)
{
    char path[64];

    snprintf(path, sizeof(path), "/proc/irq/%d/%s", irq, name);
    return write ? write_file(path, text) : read_file(path, text, size);
}

/* Has somebody requested it? One that nobody has may be routed anywhere. */
static bool in_use(int irq)
{
    char path[64], text[64];

    snprintf(path, sizeof(path), "/sys/kernel/irq/%d/actions", irq);
    return read_file(path, text, sizeof(text)) && text[0] != '\n';
}

/* Those that can be moved at all, and where they are. */
static void find_irqs(void)
{
    DIR *dir = opendir("/proc/irq");
    struct dirent *d;

    while (dir && (d = readdir(dir)) && n_irqs < MAX_IRQS) {
        char *text = irqs[n_irqs].affinity;
        size_t size = sizeof(irqs[0].affinity);
        int irq = atoi(d->d_name);

        if (*d->d_name >= '0' && *d->d_name <= '9' && in_use(irq) &&
            irq_file(irq, "smp_affinity_list", text, size, false) &&
            irq_file(irq, "smp_affinity_list", text, size, true)) {
            irqs[n_irqs++].number = irq;
        }
    }
    if (dir) {
        closedir(dir);
    }
}

/* Once its vCPUs are gone the cores may be the host's again. */
static bool vcpus_live(void)
{
    for (unsigned i = 0; i < n_vcpus; i++) {
        if (syscall(SYS_tgkill, qemu, vcpus[i], 0)) {
            return false;
        }
    }
    return n_vcpus;
}

static void check_route(int irq)
{
    char text[64];

    if (!irq_file(irq, "effective_affinity_list", text, sizeof(text), false) ||
        !vcpus_live()) {
        return;
    }
    for (int i = 0; i < n_cpus; i++) {
        if (atoi(text) == cpus[i]) {
            n_misrouted++;
            last_misrouted = irq;
        }
    }
}

/* To a CPU that keeps house, or to a leased one, which must not get it. */
static bool move_irq(void)
{
    char text[16];
    int irq, cpu;

    if (!n_irqs) {
        errno = ENOENT;
        return false;
    }
    irq = irqs[rand() % n_irqs].number;
    cpu = rand() & 7 ? rand() & 1 ? spare_cpu : LAST_HOST_CPU : any_cpu();
    snprintf(text, sizeof(text), "%d", cpu);
    irq_file(irq, "smp_affinity_list", text, 0, true);
    check_route(irq);
    return true;
}

static void put_irqs_back(void)
{
    for (unsigned i = 0; i < n_irqs; i++) {
        irq_file(irqs[i].number, "smp_affinity_list", irqs[i].affinity, 0,
                 true);
    }
}

/* ---- NMIs ---- */

/* Ten milliseconds of sampling by a hardware counter, if there is one. */
static bool sample(int cpu)
{
    struct perf_event_attr attr = {
        .type = PERF_TYPE_HARDWARE,
        .size = sizeof(attr),
        .config = PERF_COUNT_HW_CPU_CYCLES,
        .sample_period = 100000,
    };
    int fd = syscall(SYS_perf_event_open, &attr, -1, cpu, -1,
                     PERF_FLAG_FD_CLOEXEC);

    if (fd < 0) {
        return false;
    }
    usleep(10000);
    close(fd);
    return true;
}

/* Without a counter: every CPU's backtrace, now and then, for it is long. */
static bool nmi(void)
{
    static time_t last;
    struct timespec now;

    if (sample(any_cpu())) {
        return true;
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (last && now.tv_sec < last + 20) {
        return true;
    }
    last = now.tv_sec;
    return write_file("/proc/sysrq-trigger", "l");
}

static struct kind kinds[] = {
    { .name = "read-msr", .once = read_msr,
      .pause_us = 500 },
    { .name = "unmap", .once = unmap,
      .pause_us = 1000 },
    { .name = "membarrier", .once = order_memory,
      .pause_us = 5000 },
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
    { .name = "write-state", .once = write_state,
      .pause_us = 100000 },
    { .name = "pause", .once = pause_vm,
      .pause_us = 2000000 },
    { .name = "repin", .once = repin,
      .pause_us = 2000000 },
    { .name = "move-irqs", .once = move_irq, .put_back = put_irqs_back,
      .pause_us = 20000 },
    { .name = "unplug-cpu", .once = unplug_cpu, .put_back = plug_cpu,
      .pause_us = 3000000 },
    { .name = "nmi", .once = nmi,
      .pause_us = 1000000 },
};

#define N_KINDS (sizeof(kinds) / sizeof(kinds[0]))

static void *storm(void *arg)
{
    struct kind *k = arg;

    while (!stop) {
        if (k->once()) {
            k->done++;
        } else if (!stop) {
            k->error = errno ? errno : EIO;
            /* What never worked won't; what did may, unless QEMU is gone. */
            if (!k->done) {
                break;
            }
        }
        /* In steps: the end must not have to wait for the longest. */
        for (unsigned us = pace * (rand() % k->pause_us + 1); us && !stop;) {
            unsigned step = us < 50000 ? us : 50000;

            usleep(step);
            us -= step;
        }
    }
    if (k->put_back) {
        k->put_back();
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

/* Returns whether each name is known. */
static bool want_kinds(int argc, char **argv)
{
    for (unsigned i = 0; i < N_KINDS; i++) {
        kinds[i].wanted = !argc;
    }
    for (int a = 0; a < argc; a++) {
        unsigned i = 0;

        while (i < N_KINDS && strcmp(kinds[i].name, argv[a])) {
            i++;
        }
        if (i == N_KINDS) {
            fprintf(stderr, "host-storm: no kind is called '%s'\n", argv[a]);
            return false;
        }
        kinds[i].wanted = true;
    }
    return true;
}

/* Has each kind that there is on this host been done? */
static bool each_was_done(void)
{
    for (unsigned i = 0; i < N_KINDS; i++) {
        if (kinds[i].wanted && !*(volatile uint64_t *)&kinds[i].done &&
            !*(volatile int *)&kinds[i].error) {
            return false;
        }
    }
    return true;
}

/* Waits for each kind to end, and says how it went. */
static void report(void)
{
    for (unsigned i = 0; i < N_KINDS; i++) {
        if (!kinds[i].wanted) {
            continue;
        }
        pthread_join(kinds[i].thread, NULL);
        if (kinds[i].done) {
            printf("%s %llu\n", kinds[i].name,
                   (unsigned long long)kinds[i].done);
        } else {
            printf("%s unavailable: %s\n", kinds[i].name,
                   strerror(kinds[i].error));
        }
    }
    if (n_misrouted) {
        printf("misrouted %u, the last was irq %d\n", n_misrouted,
               last_misrouted);
    }
}

int main(int argc, char **argv)
{
    const struct sigaction term = { .sa_handler = on_term };
    const struct sigaction ignore = { .sa_handler = SIG_IGN };
    bool said = false;

    if (argc < 5) {
        fprintf(stderr, "usage: host-storm PID CPUS SPARE-CPU SEED "
                "[QMP-SOCKET [KIND...]]\n");
        return 2;
    }
    qemu = atoi(argv[1]);
    parse_cpus(argv[2]);
    spare_cpu = atoi(argv[3]);
    srand(atoi(argv[4]));
    qmp_path = argc > 5 ? argv[5] : NULL;
    if (getenv("STORM_PACE")) {
        pace = atoi(getenv("STORM_PACE"));
    }
    if (!want_kinds(argc > 6 ? argc - 6 : 0, argv + 6)) {
        return 2;
    }
    find_vcpus();
    find_irqs();
    if (!n_cpus || qemu <= 0) {
        fprintf(stderr, "host-storm: no CPU or no process given\n");
        return 2;
    }
    sigaction(SIGTERM, &term, NULL);
    sigaction(SIGPIPE, &ignore, NULL);

    for (unsigned i = 0; i < N_KINDS; i++) {
        if (kinds[i].wanted &&
            pthread_create(&kinds[i].thread, NULL, storm, &kinds[i])) {
            perror("host-storm: pthread_create");
            return 1;
        }
    }
    while (!stop && !kill(qemu, 0)) {
        usleep(20000);
        if (!said && each_was_done()) {
            said = true;
            puts("each");
            fflush(stdout);
        }
    }
    stop = 1;
    report();
    return 0;
}
