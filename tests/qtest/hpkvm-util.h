/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest: what the tests of the HPKVM accelerator have in common
 */

#ifndef TESTS_HPKVM_UTIL_H
#define TESTS_HPKVM_UTIL_H

#include "libqtest.h"

/* How long QEMU may take to do what needs no guest, in ms */
#define HPKVM_PATIENCE_MS 20000
#define HPKVM_POLL_MS 50

#define HPKVM_ALL_FEATURES "direct-interrupts direct-timer direct-ipi " \
                           "direct-msi direct-halt direct-vfio"

/* A kernel for the next QEMU; a NULL member leaves the variable unset */
typedef struct HpkvmKernel {
    const char *hpkvm;              /* KVM_HPKVM_F_* on offer */
    const char *enable;             /* errno of KVM_ENABLE_CAP */
    const char *timer;              /* "ns deadline" of the host's */
    const char *bus;                /* "1": VMs may have another rate */
    const char *refuse;             /* "cpu reason irq culprit" */
    const char *until;              /* a file that ends it */
    const char *online;             /* CPUs of the host */
    const char *lacks;              /* what makes the host unsuitable */
} HpkvmKernel;

/* One that offers all */
extern const HpkvmKernel hpkvm_patched;

typedef struct HpkvmFiles {
    char *dir;
    char *device;                   /* stands for /dev/kvm */
    char *log;                      /* what the fake KVM saw */
    char *err;                      /* what QEMU wrote to stderr */
    char *bios;                     /* an image of nothing */
} HpkvmFiles;

extern HpkvmFiles hpkvm_files;

/* In place of g_test_init() and g_test_run() */
void hpkvm_test_init(int *argc, char ***argv);
int hpkvm_test_run(void);

/* Let processes started from now on see the fake KVM, or none if NULL */
void hpkvm_use_kernel(const HpkvmKernel *kernel);
/* A VM whose KVM is @kernel; @accel are further properties of hpkvm */
QTestState *hpkvm_start_vm(const HpkvmKernel *kernel, const char *accel,
                           const char *args);
/* Run a QEMU that is to end by itself; returns its exit status */
int hpkvm_run_qemu(const HpkvmKernel *kernel, const char *args, char **out);

QDict *hpkvm_query(QTestState *qts);
/* What query-hpkvm says of one vCPU; the caller owns it */
QDict *hpkvm_query_vcpu(QTestState *qts, int index);
void hpkvm_assert_bound(QTestState *qts, int index, int host_cpu);
void hpkvm_assert_unbound(QTestState *qts, int index, const char *reason,
                          const char *message);
/* The same, and it asks again */
void hpkvm_assert_waiting(QTestState *qts, int index, const char *reason,
                          const char *message);

/* The fake KVM's log; the caller frees it */
char *hpkvm_read_log(void);
int hpkvm_count_log(const char *what);
void hpkvm_wait_for_log(const char *what);

/* That a text has @what in it, or the log or stderr has it so many times */
void hpkvm_assert_contains(const char *text, const char *what);
void hpkvm_assert_log(const char *what, int times);
void hpkvm_assert_stderr(const char *what, int times);

#endif /* TESTS_HPKVM_UTIL_H */
