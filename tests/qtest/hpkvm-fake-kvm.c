/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A fake KVM of chosen capabilities, to be preloaded into QEMU
 *
 * Owns the behaviour of a kernel with or without KVM_CAP_X86_HPKVM as QEMU
 * sees it through ioctl().  No guest code runs: KVM_RUN blocks until QEMU
 * kicks the vCPU.  Must answer only for its own file descriptors, and must
 * pass on everything else.
 *
 * It is configured by environment variables:
 *   FAKE_KVM_DEVICE   path of the file that stands for /dev/kvm; QEMU opens
 *                     it by "-accel hpkvm,device="
 *   FAKE_KVM_LOG      file to append one line to for each event of interest
 *   FAKE_KVM_HPKVM    KVM_HPKVM_F_* to offer; absent for a kernel that cannot
 *   FAKE_KVM_LACKS    with FAKE_KVM_HPKVM absent: the culprit that a patched
 *                     kernel on an unsuitable host names; absent for an
 *                     unpatched kernel
 *   FAKE_KVM_ENABLE   errno to fail KVM_ENABLE_CAP of the capability with
 *   FAKE_KVM_TIMER    "NS DEADLINE": the attributes of KVM_X86_GRP_HPKVM;
 *                     absent for a kernel that has none
 *   FAKE_KVM_BUS      set for a KVM_CAP_X86_APIC_BUS_CYCLES_NS
 *   FAKE_KVM_REFUSE   "cpu reason irq culprit": bind of cpu fails with it
 *   FAKE_KVM_ONLINE   how many CPUs the host is said to have
 *   FAKE_KVM_UNTIL    a file: when it exists, nothing is refused any more
 *
 * File descriptors are told apart by inode, so that close() and dup() need
 * no attention: the device by the file's, VMs and vCPUs by their memfds'.
 */

#include <cpuid.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <linux/kvm.h>
#include <asm/kvm_hpkvm.h>
#include "standard-headers/asm-x86/kvm_para.h"

#define FAKE_MAX_VCPUS 16
#define FAKE_MMAP_SIZE (3 * 4096)

/* MCG_CTL_P and MCG_SER_P, all that QEMU's CPU models want */
#define FAKE_MCG_CAP 0x1000100

/* QEMU kicks vCPUs with this signal (SIG_IPI) */
#define FAKE_KICK_SIGNAL SIGUSR1

typedef struct FakeVcpu {
    ino_t ino;
    unsigned long id;
    struct kvm_run *run;
    bool ran;
    uint32_t host_cpu;
    bool bound;
} FakeVcpu;

static FakeVcpu vcpus[FAKE_MAX_VCPUS];
static int nr_vcpus;
static ino_t vm_ino;
static bool enabled;
static uint32_t features;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void __attribute__((format(printf, 1, 2))) fake_log(const char *fmt, ...)
{
    const char *path = getenv("FAKE_KVM_LOG");
    char line[160];
    va_list ap;
    int fd, len;

    if (!path) {
        return;
    }
    va_start(ap, fmt);
    len = vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    fd = open(path, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (fd < 0 || write(fd, line, len) != len) {
        abort();
    }
    close(fd);
}

static int fail(int err)
{
    errno = err;
    return -1;
}

/* A memfd of @size bytes; its inode identifies it in later ioctls */
static int new_fd(const char *name, off_t size, ino_t *ino)
{
    int fd = memfd_create(name, MFD_CLOEXEC);
    struct stat st;

    if (fd < 0 || ftruncate(fd, size) || fstat(fd, &st)) {
        abort();
    }
    *ino = st.st_ino;
    return fd;
}

/* The number in a variable of the environment, 0 if it is not set */
static int env_number(const char *name)
{
    const char *value = getenv(name);
    int number = 0;

    if (value && sscanf(value, "%i", &number) != 1) {
        abort();
    }
    return number;
}

static int check_extension(unsigned long cap)
{
    switch (cap) {
    case KVM_CAP_X86_HPKVM:
        return env_number("FAKE_KVM_HPKVM");
    case KVM_CAP_X86_APIC_BUS_CYCLES_NS:
        return env_number("FAKE_KVM_BUS");
    case KVM_CAP_NR_MEMSLOTS:
        return 512;
    case KVM_CAP_NR_VCPUS:
    case KVM_CAP_MAX_VCPUS:
    case KVM_CAP_MAX_VCPU_ID:
        return FAKE_MAX_VCPUS;
    case KVM_CAP_MCE:
        return 32;
    case KVM_CAP_IRQ_ROUTING:
        return 1024;
    case KVM_CAP_USER_MEMORY:
    case KVM_CAP_DESTROY_MEMORY_REGION_WORKS:
    case KVM_CAP_JOIN_MEMORY_REGIONS_WORKS:
    case KVM_CAP_INTERNAL_ERROR_DATA:
    case KVM_CAP_IOEVENTFD:
    case KVM_CAP_IOEVENTFD_ANY_LENGTH:
    case KVM_CAP_SET_TSS_ADDR:
    case KVM_CAP_EXT_CPUID:
    case KVM_CAP_MP_STATE:
    case KVM_CAP_SIGNAL_MSI:
    case KVM_CAP_DEBUGREGS:
    case KVM_CAP_XSAVE:
    case KVM_CAP_VCPU_EVENTS:
    case KVM_CAP_X86_ROBUST_SINGLESTEP:
    case KVM_CAP_ADJUST_CLOCK:
    case KVM_CAP_SET_IDENTITY_MAP_ADDR:
    case KVM_CAP_IMMEDIATE_EXIT:
    case KVM_CAP_SYNC_MMU:
    case KVM_CAP_IRQCHIP:
    case KVM_CAP_IRQFD:
    case KVM_CAP_IRQ_INJECT_STATUS:
    case KVM_CAP_PIT2:
    case KVM_CAP_PIT_STATE2:
    case KVM_CAP_TSC_DEADLINE_TIMER:
        return 1;
    default:
        return 0;
    }
}

/*
 * The host's own CPUID, so that QEMU finds the features of its CPU models,
 * and every feature in KVM's leaf
 */
static int get_supported_cpuid(struct kvm_cpuid2 *cpuid)
{
    static const uint32_t leaves[] = {
        0, 1, 2, 7, 0xd, 0x80000000, 0x80000001, 0x80000008,
        KVM_CPUID_SIGNATURE, KVM_CPUID_FEATURES,
    };
    const uint32_t nent = sizeof(leaves) / sizeof(leaves[0]);

    if (cpuid->nent < nent) {
        return fail(E2BIG);
    }
    for (uint32_t i = 0; i < nent; i++) {
        struct kvm_cpuid_entry2 *e = &cpuid->entries[i];

        memset(e, 0, sizeof(*e));
        e->function = leaves[i];
        if (leaves[i] == KVM_CPUID_FEATURES) {
            e->eax = ~0;
        } else {
            __cpuid_count(leaves[i], 0, e->eax, e->ebx, e->ecx, e->edx);
        }
        if (leaves[i] == 0xd) {
            /* up to AVX: more needs more room than KVM_GET_XSAVE has */
            e->eax &= 7;
            e->ebx = e->ecx = 832;
            e->edx = 0;
        }
    }
    cpuid->nent = nent;
    return 0;
}

static int enable_cap(const struct kvm_enable_cap *cap)
{
    int err = env_number("FAKE_KVM_ENABLE");

    if (cap->cap == KVM_CAP_SPLIT_IRQCHIP) {
        return 0;
    }
    if (cap->cap == KVM_CAP_X86_APIC_BUS_CYCLES_NS) {
        fake_log("BUS %llu\n", (unsigned long long)cap->args[0]);
        return nr_vcpus || !check_extension(cap->cap) ? fail(EINVAL) : 0;
    }
    if (cap->cap != KVM_CAP_X86_HPKVM) {
        return fail(EINVAL);
    }
    fake_log("ENABLE 0x%llx\n", (unsigned long long)cap->args[0]);
    if (err) {
        return fail(err);
    }
    if (nr_vcpus || cap->flags ||
        (cap->args[0] & ~(uint64_t)check_extension(cap->cap))) {
        return fail(EINVAL);
    }
    enabled = true;
    features = cap->args[0];
    return 0;
}

static int create_vcpu(unsigned long id)
{
    FakeVcpu *vcpu;
    int fd;

    if (nr_vcpus == FAKE_MAX_VCPUS) {
        return fail(EINVAL);
    }
    vcpu = &vcpus[nr_vcpus];
    fd = new_fd("fake-kvm-vcpu", FAKE_MMAP_SIZE, &vcpu->ino);
    vcpu->id = id;
    vcpu->host_cpu = -1;
    vcpu->run = mmap(NULL, FAKE_MMAP_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                     fd, 0);
    if (vcpu->run == MAP_FAILED) {
        abort();
    }
    nr_vcpus++;
    return fd;
}

/* Block until QEMU kicks the vCPU; never let a kick slip by in between */
static int run_vcpu(FakeVcpu *vcpu)
{
    sigset_t block, old;

    if (!vcpu->ran) {
        vcpu->ran = true;
        fake_log("RUN vcpu=%lu\n", vcpu->id);
    }
    sigemptyset(&block);
    sigaddset(&block, FAKE_KICK_SIGNAL);
    pthread_sigmask(SIG_BLOCK, &block, &old);
    if (!vcpu->run->immediate_exit) {
        ppoll(NULL, 0, NULL, &old);
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    vcpu->run->exit_reason = KVM_EXIT_INTR;
    return fail(EINTR);
}

static int bind_vcpu(FakeVcpu *vcpu, struct kvm_hpkvm_bind *bind)
{
    const char *refuse = getenv("FAKE_KVM_REFUSE");
    const char *until = getenv("FAKE_KVM_UNTIL");
    const char *lacks = getenv("FAKE_KVM_LACKS");
    unsigned int cpu, reason, irq;
    char culprit[sizeof(bind->culprit)] = "";

    if (!getenv("FAKE_KVM_HPKVM")) {
        if (!lacks) {
            return fail(EINVAL);
        }
        bind->reason = KVM_HPKVM_REASON_HOST_UNSUITABLE;
        snprintf(bind->culprit, sizeof(bind->culprit), "%s", lacks);
        return fail(EOPNOTSUPP);
    }
    fake_log("BIND vcpu=%lu cpu=%u tid=%ld\n", vcpu->id, bind->cpu,
             (long)syscall(SYS_gettid));
    if (!enabled) {
        bind->reason = KVM_HPKVM_REASON_NOT_ENABLED;
        return fail(EPERM);
    }
    if (bind->flags || bind->reserved[0] || bind->reserved[1] ||
        bind->reserved[2] || bind->reserved[3]) {
        bind->reason = KVM_HPKVM_REASON_BAD_FLAGS;
        return fail(EINVAL);
    }
    if (vcpu->bound) {
        bind->reason = KVM_HPKVM_REASON_ALREADY_BOUND;
        return fail(EBUSY);
    }
    if (until && !access(until, F_OK)) {
        refuse = NULL;
    }
    if (refuse && sscanf(refuse, "%u %u %u %31s", &cpu, &reason, &irq,
                         culprit) >= 3 && cpu == bind->cpu) {
        bind->reason = reason;
        bind->irq = irq;
        memcpy(bind->culprit, culprit, sizeof(culprit));
        return fail(EBUSY);
    }
    vcpu->bound = true;
    vcpu->host_cpu = bind->cpu;
    bind->reason = KVM_HPKVM_REASON_NONE;
    return 0;
}

/* Bound vCPUs with odd IDs run in passthrough, the others not yet */
static int get_state(const FakeVcpu *vcpu, struct kvm_hpkvm_state *state)
{
    memset(state, 0, sizeof(*state));
    state->features = features;
    state->cpu = vcpu->host_cpu;
    if (!vcpu->bound) {
        state->mode = KVM_HPKVM_MODE_UNBOUND;
        state->reason = KVM_HPKVM_REASON_NOT_BOUND;
    } else if (vcpu->id & 1) {
        state->mode = KVM_HPKVM_MODE_PASSTHROUGH;
        state->reason = KVM_HPKVM_REASON_NONE;
    } else {
        state->mode = KVM_HPKVM_MODE_EMULATED;
        state->reason = KVM_HPKVM_REASON_LAPIC_MODE;
    }
    state->promotions = 11;
    state->demotions = 12;
    state->captured = 13;
    state->injected = 14;
    state->direct_sent = 15;
    state->kicks = 16;
    /* Long ago, or never. */
    if (vcpu->id & 1) {
        state->tick_stopped_at = 1;
        state->work_at = 1;
        state->work = KVM_HPKVM_WORK_CALL;
        state->work_count = 17;
    }
    if (state->mode == KVM_HPKVM_MODE_PASSTHROUGH) {
        state->timer = KVM_HPKVM_TIMER_INTERCEPTED;
        state->timer_reason = KVM_HPKVM_TIMER_REASON_NO_DEADLINE;
    } else {
        state->timer_reason = KVM_HPKVM_TIMER_REASON_NOT_PASSTHROUGH;
    }
    return 0;
}

static int get_attr(const struct kvm_device_attr *attr)
{
    const char *timer = getenv("FAKE_KVM_TIMER");
    unsigned int values[2];

    if (!timer || attr->group != KVM_X86_GRP_HPKVM || attr->attr >= 2) {
        return fail(ENXIO);
    }
    if (sscanf(timer, "%u %u", &values[0], &values[1]) != 2) {
        abort();
    }
    *(uint64_t *)(uintptr_t)attr->addr = values[attr->attr];
    return 0;
}

static int system_ioctl(unsigned long request, void *arg)
{
    switch (request) {
    case KVM_GET_API_VERSION:
        return KVM_API_VERSION;
    case KVM_CHECK_EXTENSION:
        return check_extension((unsigned long)arg);
    case KVM_GET_VCPU_MMAP_SIZE:
        return FAKE_MMAP_SIZE;
    case KVM_GET_SUPPORTED_CPUID:
        return get_supported_cpuid(arg);
    case KVM_GET_MSR_INDEX_LIST:
    case KVM_GET_MSR_FEATURE_INDEX_LIST:
        ((struct kvm_msr_list *)arg)->nmsrs = 0;
        return 0;
    case KVM_GET_DEVICE_ATTR:
        return get_attr(arg);
    case KVM_CREATE_VM:
        /* QEMU makes one to ask, and closes it, before its own */
        nr_vcpus = 0;
        return new_fd("fake-kvm-vm", 0, &vm_ino);
    case KVM_X86_GET_MCE_CAP_SUPPORTED:
        *(uint64_t *)arg = FAKE_MCG_CAP;
        return 0;
    default:
        return fail(ENOTTY);
    }
}

/* What VMs and vCPUs have in common: they succeed, and read as zeros. */
static int any_ioctl(unsigned long request, void *arg)
{
    if (request == KVM_GET_STATS_FD) {
        return fail(ENOTTY);
    }
    if (_IOC_DIR(request) == _IOC_READ) {
        memset(arg, 0, _IOC_SIZE(request));
    }
    return 0;
}

static int vm_ioctl(unsigned long request, void *arg)
{
    int ret;

    switch (request) {
    case KVM_CHECK_EXTENSION:
        return check_extension((unsigned long)arg);
    case KVM_ENABLE_CAP:
        return enable_cap(arg);
    case KVM_CREATE_VCPU:
        pthread_mutex_lock(&lock);
        ret = create_vcpu((unsigned long)arg);
        pthread_mutex_unlock(&lock);
        return ret;
    default:
        return any_ioctl(request, arg);
    }
}

static int vcpu_ioctl(FakeVcpu *vcpu, unsigned long request, void *arg)
{
    switch (request) {
    case KVM_RUN:
        return run_vcpu(vcpu);
    case KVM_HPKVM_BIND:
        return bind_vcpu(vcpu, arg);
    case KVM_HPKVM_UNBIND:
        fake_log("UNBIND vcpu=%lu\n", vcpu->id);
        vcpu->bound = false;
        vcpu->host_cpu = -1;
        return 0;
    case KVM_HPKVM_GET_STATE:
        return get_state(vcpu, arg);
    case KVM_GET_MSRS:
    case KVM_SET_MSRS:
        return ((struct kvm_msrs *)arg)->nmsrs;
    default:
        return any_ioctl(request, arg);
    }
}

/* True if @fd is a KVM file of ours, with the answer in @ret */
static bool fake_ioctl(int fd, unsigned long request, void *arg, int *ret)
{
    const char *device = getenv("FAKE_KVM_DEVICE");
    struct stat st, dev;

    if (_IOC_TYPE(request) != KVMIO || !device || fstat(fd, &st) ||
        stat(device, &dev)) {
        return false;
    }
    if (st.st_ino == dev.st_ino && st.st_dev == dev.st_dev) {
        *ret = system_ioctl(request, arg);
        return true;
    }
    if (vm_ino && st.st_ino == vm_ino) {
        *ret = vm_ioctl(request, arg);
        return true;
    }
    for (int i = 0; i < nr_vcpus; i++) {
        if (st.st_ino == vcpus[i].ino) {
            *ret = vcpu_ioctl(&vcpus[i], request, arg);
            return true;
        }
    }
    return false;
}

long sysconf(int name)
{
    static long (*next)(int name);

    if (name == _SC_NPROCESSORS_ONLN && getenv("FAKE_KVM_ONLINE")) {
        return env_number("FAKE_KVM_ONLINE");
    }
    if (!next) {
        next = (long (*)(int))dlsym(RTLD_NEXT, "sysconf");
    }
    return next(name);
}

int ioctl(int fd, unsigned long request, ...)
{
    static int (*next)(int fd, unsigned long request, ...);
    void *arg;
    va_list ap;
    int ret;

    va_start(ap, request);
    arg = va_arg(ap, void *);
    va_end(ap);

    if (fake_ioctl(fd, request, arg, &ret)) {
        return ret;
    }
    if (!next) {
        next = (int (*)(int, unsigned long, ...))dlsym(RTLD_NEXT, "ioctl");
    }
    return next(fd, request, arg);
}
