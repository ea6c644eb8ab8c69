/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Leases CPUs to vCPUs that never run:
 *
 *     lease [--user] hold CPU...           until its input ends
 *     lease [--user] cycles COUNT CPU...   COUNT times, and gives them back
 *
 * "hold" prints "leased" when all are.  With --user it is done by an ordinary
 * user, who has no capability.  What the kernel refuses is printed as
 *
 *     cpu=N errno=N reason=N irq=N culprit=NAME
 *
 * and is an error.
 */
#define _GNU_SOURCE
#include <asm/kvm_hpkvm.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define MAX_CPUS 16
#define NOBODY   65534

static pthread_barrier_t barrier;
static unsigned long cycles;
static int vm;

static struct lease {
    pthread_t thread;
    int id;
    unsigned cpu;
    bool refused;
} leases[MAX_CPUS];

static bool bind_core(struct lease *l, int vcpu)
{
    struct kvm_hpkvm_bind bind = { .cpu = l->cpu };

    if (!ioctl(vcpu, KVM_HPKVM_BIND, &bind)) {
        return true;
    }
    printf("cpu=%u errno=%d reason=%u irq=%u culprit=%.32s\n", l->cpu, errno,
           bind.reason, bind.irq, bind.culprit);
    l->refused = true;
    return false;
}

static void *work(void *arg)
{
    struct lease *l = arg;
    int vcpu = ioctl(vm, KVM_CREATE_VCPU, l->id);

    if (!cycles) {
        bind_core(l, vcpu);
        pthread_barrier_wait(&barrier);
        pthread_barrier_wait(&barrier);
    }
    for (unsigned long n = 0; n < cycles && bind_core(l, vcpu); n++) {
        if (ioctl(vcpu, KVM_HPKVM_UNBIND, 0)) {
            perror("KVM_HPKVM_UNBIND");
            l->refused = true;
        }
    }
    return NULL;
}

static bool create_vm(void)
{
    struct kvm_enable_cap cap = {
        .cap = KVM_CAP_X86_HPKVM, .args = { KVM_HPKVM_F_DIRECT_IRQ },
    };
    int kvm = open("/dev/kvm", O_RDWR);

    vm = ioctl(kvm, KVM_CREATE_VM, 0);
    return vm >= 0 && !ioctl(vm, KVM_CREATE_IRQCHIP, 0) &&
           !ioctl(vm, KVM_ENABLE_CAP, &cap);
}

static void usage(void)
{
    fprintf(stderr, "usage: lease [--user] hold|cycles COUNT CPU...\n");
    exit(2);
}

int main(int argc, char **argv)
{
    bool user = argc > 1 && !strcmp(argv[1], "--user"), refused = false;
    char **arg = argv + 1 + user, byte;
    int n = 0;

    if (*arg && !strcmp(*arg, "cycles") && arg[1]) {
        cycles = strtoul(*++arg, NULL, 0);
    } else if (!*arg || strcmp(*arg, "hold")) {
        usage();
    }
    if (!create_vm()) {
        perror("/dev/kvm");
        return 2;
    }
    if (user && (setgid(NOBODY) || setuid(NOBODY))) {
        perror("setuid");
        return 2;
    }
    while (*++arg && n < MAX_CPUS) {
        leases[n].id = n;
        leases[n++].cpu = atoi(*arg);
    }
    pthread_barrier_init(&barrier, NULL, n + 1);
    for (int i = 0; i < n; i++) {
        if (pthread_create(&leases[i].thread, NULL, work, &leases[i])) {
            return 2;
        }
    }
    if (!cycles) {
        pthread_barrier_wait(&barrier);
        puts("leased");
        fflush(stdout);
        while (read(STDIN_FILENO, &byte, 1) > 0) {
        }
        pthread_barrier_wait(&barrier);
    }
    for (int i = 0; i < n; i++) {
        pthread_join(leases[i].thread, NULL);
        refused |= leases[i].refused;
    }
    return refused;
}
