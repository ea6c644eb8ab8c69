/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest: which vCPU of the HPKVM accelerator gets which core, and when
 *
 * Owns binding: by the list cpus=, by the pins of vCPU threads, of vCPUs that
 * are plugged, and what is said about a core that is refused.  Guests must not
 * be expected to run any code.
 */

#include "qemu/osdep.h"
#include <asm/kvm_hpkvm.h>

#include "libqtest.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "hpkvm-util.h"

/* How long to watch that something does not happen, in ms */
#define QUIET_MS 1500

static void cont(QTestState *qts)
{
    qtest_qmp_assert_success(qts, "{'execute': 'cont'}");
}

static int vcpu_tid(QTestState *qts, int index)
{
    QDict *vcpu = hpkvm_query_vcpu(qts, index);
    int tid = qdict_get_int(vcpu, "thread-id");

    qobject_unref(vcpu);
    return tid;
}

/* Two host CPUs that this test may use, or skip the test */
static bool two_cpus(int cpus[2])
{
    cpu_set_t set;
    int found = 0;

    if (sched_getaffinity(0, sizeof(set), &set)) {
        g_test_skip("cannot read the CPUs of this machine");
        return false;
    }
    for (int i = 0; i < CPU_SETSIZE && found < 2; i++) {
        if (CPU_ISSET(i, &set)) {
            cpus[found++] = i;
        }
    }
    if (found < 2) {
        g_test_skip("needs two host CPUs");
        return false;
    }
    return true;
}

static void pin(int tid, int host_cpu)
{
    cpu_set_t set;

    CPU_ZERO(&set);
    CPU_SET(host_cpu, &set);
    g_assert_cmpint(sched_setaffinity(tid, sizeof(set), &set), ==, 0);
}

static void test_bind_list(void)
{
    QTestState *qts = hpkvm_start_vm(&hpkvm_patched, "cpus=6,,3", "-smp 2 -S");
    g_autofree char *bind0 = NULL;
    g_autofree char *bind1 = NULL;
    g_autofree char *log = NULL;
    g_autofree char *text = NULL;
    QDict *vcpu, *work;

    /* libvirt pins now: nothing may be taken yet */
    hpkvm_assert_log("BIND", 0);
    hpkvm_assert_unbound(qts, 0, "not-bound", "owns no core");

    cont(qts);
    hpkvm_wait_for_log("RUN vcpu=0\n");
    hpkvm_wait_for_log("RUN vcpu=1\n");
    hpkvm_assert_bound(qts, 0, 6);
    hpkvm_assert_bound(qts, 1, 3);

    /* by the vCPU's own thread, and all before any of them runs */
    bind0 = g_strdup_printf("BIND vcpu=0 cpu=6 tid=%d\n", vcpu_tid(qts, 0));
    bind1 = g_strdup_printf("BIND vcpu=1 cpu=3 tid=%d\n", vcpu_tid(qts, 1));
    hpkvm_assert_log(bind0, 1);
    hpkvm_assert_log(bind1, 1);
    log = hpkvm_read_log();
    g_assert(strstr(log, bind0) < strstr(log, "RUN"));
    g_assert(strstr(log, bind1) < strstr(log, "RUN"));

    vcpu = hpkvm_query_vcpu(qts, 0);
    g_assert_cmpstr(qdict_get_str(vcpu, "mode"), ==, "emulated");
    g_assert_cmpstr(qdict_get_str(vcpu, "reason"), ==, "lapic-mode");
    hpkvm_assert_contains(qdict_get_str(vcpu, "message"), "x2APIC");
    g_assert(!qdict_haskey(vcpu, "tick-stopped"));
    g_assert(!qdict_haskey(vcpu, "work"));
    qobject_unref(vcpu);

    vcpu = hpkvm_query_vcpu(qts, 1);
    g_assert_cmpstr(qdict_get_str(vcpu, "mode"), ==, "passthrough");
    g_assert_cmpstr(qdict_get_str(vcpu, "reason"), ==, "none");
    g_assert(!qdict_haskey(vcpu, "message"));
    g_assert_cmpint(qdict_get_int(vcpu, "promotions"), ==, 11);
    g_assert_cmpint(qdict_get_int(vcpu, "demotions"), ==, 12);
    g_assert_cmpint(qdict_get_int(vcpu, "captured"), ==, 13);
    g_assert_cmpint(qdict_get_int(vcpu, "injected"), ==, 14);
    g_assert_cmpint(qdict_get_int(vcpu, "direct-sent"), ==, 15);
    g_assert_cmpint(qdict_get_int(vcpu, "kicks"), ==, 16);
    g_assert_cmpint(qdict_get_int(vcpu, "tick-stopped"), >, 0);
    work = qdict_get_qdict(vcpu, "work");
    g_assert_cmpstr(qdict_get_str(work, "kind"), ==, "call");
    g_assert_cmpint(qdict_get_int(work, "age"), >, 0);
    g_assert_cmpint(qdict_get_int(work, "last-minute"), ==, 17);
    qobject_unref(vcpu);

    text = qtest_hmp(qts, "info hpkvm");
    hpkvm_assert_contains(text, "hpkvm support: enabled");
    hpkvm_assert_contains(text, "features: " HPKVM_ALL_FEATURES);
    hpkvm_assert_contains(text, "vCPU 0: emulated on cpu 6: the guest's LAPIC "
                          "is not in x2APIC mode");
    hpkvm_assert_contains(text, "vCPU 1: passthrough on cpu 3");
    hpkvm_assert_contains(text, "promotions 11, demotions 12, captured 13, "
                          "injected 14, direct-sent 15, kicks 16");
    hpkvm_assert_contains(text, "\n  ticks, never disturbed");
    hpkvm_assert_contains(text, "(call), 17 times in the last minute");
    qtest_quit(qts);

    hpkvm_assert_stderr("hpkvm: ", 1);
    hpkvm_assert_stderr("hpkvm: 2 of 2 vCPUs own a core: vCPU 0 on cpu 6, "
                        "vCPU 1 on cpu 3\n", 1);
}

static void test_pause_and_reset(void)
{
    QTestState *qts = hpkvm_start_vm(&hpkvm_patched, "cpus=2-3", "-smp 2");

    hpkvm_wait_for_log("RUN vcpu=1\n");
    for (int i = 0; i < 3; i++) {
        qtest_qmp_assert_success(qts, "{'execute': 'stop'}");
        hpkvm_assert_bound(qts, 0, 2);
        cont(qts);
        qtest_qmp_assert_success(qts, "{'execute': 'system_reset'}");
        qtest_qmp_eventwait(qts, "RESET");
        hpkvm_assert_bound(qts, 1, 3);
    }
    qtest_quit(qts);
    hpkvm_assert_log("BIND vcpu=", 2);
    hpkvm_assert_log("UNBIND", 0);
    hpkvm_assert_stderr("hpkvm: ", 1);
}

/*
 * The next of these events, and none before it.  One that comes before the
 * monitor listens is lost: the VM must have been started by cont().
 */
static void assert_core_event(QTestState *qts, int index, bool owned,
                              int host_cpu, const char *reason)
{
    QDict *event = qtest_qmp_eventwait_ref(qts, "HPKVM_CORE");
    QDict *data = qdict_get_qdict(event, "data");

    g_assert_cmpint(qdict_get_int(data, "cpu-index"), ==, index);
    g_assert(qdict_get_bool(data, "owned") == owned);
    g_assert_cmpint(qdict_get_int(data, "host-cpu"), ==, host_cpu);
    g_assert_cmpstr(qdict_get_str(data, "reason"), ==, reason);
    qobject_unref(event);
}

/* Somewhere, from where nobody takes it */
static void migrate(QTestState *qts)
{
    g_autofree char *status = NULL;

    qtest_qmp_assert_success(qts, "{'execute': 'migrate', 'arguments':"
                                  " {'uri': 'exec:cat >/dev/null'}}");
    do {
        QDict *answer = qtest_qmp_assert_success_ref(
            qts, "{'execute': 'query-status'}");

        g_usleep(10000);
        g_free(status);
        status = g_strdup(qdict_get_str(answer, "status"));
        qobject_unref(answer);
    } while (g_strcmp0(status, "postmigrate"));
}

/* Who takes over may want the same cores; who stays after all does, too */
static void migrate_and_stay(QTestState *qts)
{
    assert_core_event(qts, 0, true, 2, "none");
    assert_core_event(qts, 1, true, 3, "none");
    migrate(qts);
    assert_core_event(qts, 0, false, 2, "not-bound");
    assert_core_event(qts, 1, false, 3, "not-bound");
    hpkvm_assert_unbound(qts, 0, "not-bound", "owns no core");
    hpkvm_assert_unbound(qts, 1, "not-bound", "owns no core");
    hpkvm_assert_log("UNBIND", 2);
    g_usleep(QUIET_MS * 1000);
    hpkvm_assert_log("BIND vcpu=", 2 + 2 /* UNBINDs */);

    cont(qts);
    hpkvm_assert_bound(qts, 0, 2);
    hpkvm_assert_bound(qts, 1, 3);
    qtest_quit(qts);
    hpkvm_assert_stderr("hpkvm: ", 1);
}

static void test_migrated(void)
{
    QTestState *qts = hpkvm_start_vm(&hpkvm_patched, "cpus=2-3",
                                     "-smp 2 -S");

    cont(qts);
    hpkvm_wait_for_log("RUN vcpu=1\n");
    migrate_and_stay(qts);
}

static void test_migrated_while_paused(void)
{
    QTestState *qts = hpkvm_start_vm(&hpkvm_patched, "cpus=2-3",
                                     "-smp 2 -S");

    cont(qts);
    hpkvm_wait_for_log("RUN vcpu=1\n");
    qtest_qmp_assert_success(qts, "{'execute': 'stop'}");
    migrate_and_stay(qts);
}

static void test_list_exhausted(void)
{
    g_autofree char *args = g_strdup_printf(
        "-M pc -m 64 -bios %s -smp 2 -accel hpkvm,fallback=off,cpus=2,"
        "device=%s", hpkvm_files.bios, hpkvm_files.device);
    QTestState *qts = hpkvm_start_vm(&hpkvm_patched, "cpus=2", "-smp 2");

    hpkvm_wait_for_log("RUN vcpu=1\n");
    hpkvm_assert_bound(qts, 0, 2);
    hpkvm_assert_waiting(qts, 1, "list-exhausted",
                         "cpus= has no CPU left for it");
    qtest_quit(qts);
    hpkvm_assert_stderr("hpkvm: 1 of 2 vCPUs own a core: vCPU 0 on cpu 2, "
                        "vCPU 1 as under KVM (cpus= has no CPU left for it)\n",
                        1);

    g_assert_cmpint(hpkvm_run_qemu(&hpkvm_patched, args, NULL), ==, 1);
    hpkvm_assert_stderr("cpus= names 1 host CPU(s) for 2 vCPUs, and "
                        "fallback=off", 1);
    hpkvm_assert_log("RUN", 0);
}

static const struct {
    const char *reason;
    int number;
    const char *rest;               /* irq and culprit */
    const char *message;
    bool for_good;                  /* nothing of this kind passes by itself */
} refusals[] = {
    { "cpu-irq", KVM_HPKVM_REASON_CPU_IRQ, "45 nvme0q3",
      "irq 45 nvme0q3 cannot leave cpu 3" },
    { "cpu-leased", KVM_HPKVM_REASON_CPU_LEASED, "0",
      "another vCPU owns cpu 3" },
    { "cpu-invalid", KVM_HPKVM_REASON_CPU_INVALID, "0",
      "the host has no cpu 3", true },
    { "cpu-offline", KVM_HPKVM_REASON_CPU_OFFLINE, "0", "cpu 3 is offline" },
    { "cpu-not-allowed", KVM_HPKVM_REASON_CPU_NOT_ALLOWED, "0",
      "cpu 3 is outside of QEMU's cpuset" },
    { "cpu-last", KVM_HPKVM_REASON_CPU_LAST, "0",
      "cpu 3 is the host's last housekeeping CPU" },
    { "no-permission", KVM_HPKVM_REASON_NO_PERMISSION, "0",
      "cpu 3 is not isolated and QEMU lacks CAP_SYS_NICE" },
    { "no-permission", KVM_HPKVM_REASON_NO_PERMISSION, "45 eth0-rx-1",
      "irq 45 eth0-rx-1 is meant for cpu 3 alone and QEMU lacks "
      "CAP_SYS_NICE" },
    { "no-vectors", KVM_HPKVM_REASON_NO_VECTORS, "0",
      "the other CPUs have no vectors left for host interrupts of cpu 3" },
    { "host-unsuitable", KVM_HPKVM_REASON_HOST_UNSUITABLE, "0 FRED",
      "the host cannot dedicate cores: FRED", true },
    { "unknown", 12345, "0", "no reason known to this QEMU", true },
    { "unknown", KVM_HPKVM_REASON_NONE, "0", "Device or resource busy", true },
};

static void test_refused(void)
{
    for (int i = 0; i < ARRAY_SIZE(refusals); i++) {
        g_autofree char *refuse = g_strdup_printf("3 %d %s",
            refusals[i].number, refusals[i].rest);
        HpkvmKernel kernel = { .hpkvm = "0x3f", .refuse = refuse };
        QTestState *qts = hpkvm_start_vm(&kernel, "cpus=2-3", "-smp 2");
        g_autofree char *text = NULL;

        hpkvm_wait_for_log("RUN vcpu=1\n");
        hpkvm_assert_bound(qts, 0, 2);
        if (refusals[i].for_good) {
            hpkvm_assert_unbound(qts, 1, refusals[i].reason,
                                 refusals[i].message);
        } else {
            hpkvm_assert_waiting(qts, 1, refusals[i].reason,
                                 refusals[i].message);
        }
        text = qtest_hmp(qts, "info hpkvm");
        hpkvm_assert_contains(text, refusals[i].for_good ?
                              "vCPU 1: unbound: " : "vCPU 1: waiting for ");
        hpkvm_assert_contains(text, refusals[i].message);
        qtest_quit(qts);

        hpkvm_assert_stderr("hpkvm: ", 1);
        hpkvm_assert_stderr("1 of 2 vCPUs own a core: vCPU 0 on cpu 2, vCPU 1 "
                            "as under KVM (", 1);
        hpkvm_assert_stderr(refusals[i].message, 1);
    }
}

static void test_refused_must(void)
{
    g_autofree char *refuse = g_strdup_printf("3 %d 45 nvme0q3",
                                              KVM_HPKVM_REASON_CPU_IRQ);
    HpkvmKernel kernel = { .hpkvm = "0x3f", .refuse = refuse };
    g_autofree char *args = g_strdup_printf(
        "-M pc -m 64 -bios %s -smp 2 -accel hpkvm,fallback=off,cpus=2-3,"
        "device=%s", hpkvm_files.bios, hpkvm_files.device);

    g_assert_cmpint(hpkvm_run_qemu(&kernel, args, NULL), ==, 1);
    hpkvm_assert_stderr("1 of 2 vCPUs own a core, and fallback=off does not "
                        "allow ordinary KVM: vCPU 0 on cpu 2, vCPU 1 refused "
                        "(irq 45 nvme0q3 cannot leave cpu 3)\n", 1);
    hpkvm_assert_log("BIND vcpu=0", 1);
    hpkvm_assert_log("RUN", 0);
}

static void test_unpinned_must(void)
{
    g_autofree char *args = g_strdup_printf(
        "-M pc -m 64 -bios %s -accel hpkvm,fallback=off,device=%s",
        hpkvm_files.bios, hpkvm_files.device);
    int cpus[2];

    if (!two_cpus(cpus)) {
        return;
    }
    g_assert_cmpint(hpkvm_run_qemu(&hpkvm_patched, args, NULL), ==, 1);
    hpkvm_assert_stderr("its thread is not pinned to one host CPU", 1);
    hpkvm_assert_log("RUN", 0);
}

/* What libvirt says for every domain, or "" where QEMU has no sandbox */
static const char *sandbox(void)
{
    if (hpkvm_run_qemu(NULL, "-sandbox on -accel help", NULL)) {
        g_test_message("no seccomp here: tested without a sandbox");
        return "";
    }
    return "-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,"
           "resourcecontrol=deny";
}

/* As libvirt does it: start paused in a sandbox, pin, continue */
static void test_pinned(void)
{
    g_autofree char *args = g_strdup_printf("%s -smp 2 -S", sandbox());
    QTestState *qts;
    int cpus[2];

    if (!two_cpus(cpus)) {
        return;
    }
    qts = hpkvm_start_vm(&hpkvm_patched, "fallback=off", args);
    pin(vcpu_tid(qts, 0), cpus[1]);
    pin(vcpu_tid(qts, 1), cpus[0]);
    hpkvm_assert_log("BIND", 0);
    cont(qts);
    hpkvm_wait_for_log("RUN vcpu=0\n");
    hpkvm_wait_for_log("RUN vcpu=1\n");
    hpkvm_assert_bound(qts, 0, cpus[1]);
    hpkvm_assert_bound(qts, 1, cpus[0]);
    qtest_quit(qts);
}

static void test_pinned_later(void)
{
    g_autofree char *bind = NULL;
    QTestState *qts;
    int cpus[2];

    if (!two_cpus(cpus)) {
        return;
    }
    qts = hpkvm_start_vm(&hpkvm_patched, "", "-smp 2");
    hpkvm_wait_for_log("RUN vcpu=0\n");
    hpkvm_wait_for_log("RUN vcpu=1\n");
    hpkvm_assert_unbound(qts, 0, "not-pinned", "not pinned to one host CPU");
    hpkvm_assert_unbound(qts, 1, "not-pinned", "not pinned to one host CPU");
    hpkvm_assert_log("BIND", 0);

    pin(vcpu_tid(qts, 1), cpus[1]);
    bind = g_strdup_printf("BIND vcpu=1 cpu=%d", cpus[1]);
    hpkvm_wait_for_log(bind);
    hpkvm_assert_bound(qts, 1, cpus[1]);
    hpkvm_assert_unbound(qts, 0, "not-pinned", "not pinned to one host CPU");
    qtest_quit(qts);
    hpkvm_assert_log("BIND", 1);
    hpkvm_assert_stderr("hpkvm: 0 of 2 vCPUs own a core", 1);
    hpkvm_assert_stderr("hpkvm: 1 of 2 vCPUs own a core", 1);
    hpkvm_assert_stderr("hpkvm: ", 2);
}

/* A pin that changes takes the vCPU along; two may change places */
static void test_pinned_elsewhere(void)
{
    g_autofree char *bind0 = NULL, *bind1 = NULL;
    QTestState *qts;
    int cpus[2];

    if (!two_cpus(cpus)) {
        return;
    }
    qts = hpkvm_start_vm(&hpkvm_patched, "", "-smp 2 -S");
    pin(vcpu_tid(qts, 0), cpus[0]);
    pin(vcpu_tid(qts, 1), cpus[1]);
    qtest_qmp_assert_success(qts, "{ 'execute': 'cont' }");
    hpkvm_wait_for_log("RUN vcpu=0\n");
    hpkvm_wait_for_log("RUN vcpu=1\n");
    hpkvm_assert_bound(qts, 0, cpus[0]);
    hpkvm_assert_bound(qts, 1, cpus[1]);
    hpkvm_assert_log("BIND", 2);

    pin(vcpu_tid(qts, 0), cpus[1]);
    pin(vcpu_tid(qts, 1), cpus[0]);
    bind0 = g_strdup_printf("BIND vcpu=0 cpu=%d", cpus[1]);
    bind1 = g_strdup_printf("BIND vcpu=1 cpu=%d", cpus[0]);
    hpkvm_wait_for_log(bind0);
    hpkvm_wait_for_log(bind1);
    hpkvm_assert_bound(qts, 0, cpus[1]);
    hpkvm_assert_bound(qts, 1, cpus[0]);
    hpkvm_assert_log("UNBIND vcpu=0", 1);
    hpkvm_assert_log("UNBIND vcpu=1", 1);
    qtest_quit(qts);
}

static void assert_running(QTestState *qts)
{
    QDict *status = qtest_qmp_assert_success_ref(qts,
                                                 "{'execute': 'query-status'}");

    g_assert_cmpstr(qdict_get_str(status, "status"), ==, "running");
    qobject_unref(status);
}

/* Whether by cpus= or by its pin: QEMU asks again, and says it once */
static void test_refused_for_now(void)
{
    g_autofree char *until = g_strdup_printf("%s/until", hpkvm_files.dir);
    g_autofree char *refuse = g_strdup_printf("2 %d 0 x",
                                              KVM_HPKVM_REASON_CPU_LEASED);
    HpkvmKernel kernel = { .hpkvm = "0x3f", .refuse = refuse, .until = until };
    QTestState *qts = hpkvm_start_vm(&kernel, "cpus=2-3", "-smp 2 -S");

    cont(qts);
    hpkvm_wait_for_log("RUN vcpu=0\n");
    hpkvm_wait_for_log("RUN vcpu=1\n");
    g_usleep(QUIET_MS * 1000);
    hpkvm_assert_waiting(qts, 0, "cpu-leased", "another vCPU owns cpu 2");
    hpkvm_assert_bound(qts, 1, 3);
    g_assert_cmpint(hpkvm_count_log("BIND vcpu=0"), >=, 3);
    hpkvm_assert_log("BIND vcpu=1", 1);
    hpkvm_assert_stderr("hpkvm: 1 of 2 vCPUs own a core", 1);

    assert_core_event(qts, 0, false, 2, "cpu-leased");
    assert_core_event(qts, 1, true, 3, "none");

    g_assert(g_file_set_contents(until, "", -1, NULL));
    assert_core_event(qts, 0, true, 2, "none");
    hpkvm_assert_bound(qts, 0, 2);
    qtest_quit(qts);
    unlink(until);
    hpkvm_assert_stderr("hpkvm: 2 of 2 vCPUs own a core", 1);
}

/* A pin that is refused is asked for again, and is no obstacle to another */
static void test_pinned_refused(void)
{
    g_autofree char *refuse = NULL;
    g_autofree char *other = NULL;
    HpkvmKernel kernel = { .hpkvm = "0x3f" };
    QTestState *qts;
    int cpus[2];

    if (!two_cpus(cpus)) {
        return;
    }
    refuse = g_strdup_printf("%d %d 0 x", cpus[0],
                             KVM_HPKVM_REASON_CPU_TIMEKEEPER);
    kernel.refuse = refuse;
    qts = hpkvm_start_vm(&kernel, "", "-S");
    pin(vcpu_tid(qts, 0), cpus[0]);
    cont(qts);
    hpkvm_wait_for_log("RUN vcpu=0\n");
    g_usleep(QUIET_MS * 1000);
    hpkvm_assert_waiting(qts, 0, "cpu-timekeeper", "keeps the host's time");
    g_assert_cmpint(hpkvm_count_log("BIND"), >=, 3);
    hpkvm_assert_stderr("keeps the host's time", 1);

    other = g_strdup_printf("BIND vcpu=0 cpu=%d", cpus[1]);
    pin(vcpu_tid(qts, 0), cpus[1]);
    hpkvm_wait_for_log(other);
    hpkvm_assert_bound(qts, 0, cpus[1]);
    qtest_quit(qts);
}

static void test_emulator_confined(void)
{
    g_autofree char *accel = NULL;
    QTestState *qts;
    cpu_set_t all;
    int cpus[2];

    if (!two_cpus(cpus)) {
        return;
    }
    accel = g_strdup_printf("cpus=%d", cpus[0]);
    g_assert_cmpint(sched_getaffinity(0, sizeof(all), &all), ==, 0);
    pin(0, cpus[0]);
    qts = hpkvm_start_vm(&hpkvm_patched, accel, "");
    g_assert_cmpint(sched_setaffinity(0, sizeof(all), &all), ==, 0);

    hpkvm_wait_for_log("RUN vcpu=0\n");
    hpkvm_assert_waiting(qts, 0, "emulator-confined", "the rest of QEMU");
    qtest_quit(qts);
    hpkvm_assert_log("BIND", 0);
}

/* taskset, or libvirt's <vcpu cpuset=>: one core is left for the main loop */
static void test_emulator_confined_to_cores(void)
{
    static const HpkvmKernel kernel = { .hpkvm = "0x3f", .online = "8" };
    g_autofree char *accel = NULL;
    QTestState *qts;
    cpu_set_t all, both;
    int cpus[2];

    if (!two_cpus(cpus)) {
        return;
    }
    accel = g_strdup_printf("cpus=%d,,%d", cpus[0], cpus[1]);
    g_assert_cmpint(sched_getaffinity(0, sizeof(all), &all), ==, 0);
    CPU_ZERO(&both);
    CPU_SET(cpus[0], &both);
    CPU_SET(cpus[1], &both);
    g_assert_cmpint(sched_setaffinity(0, sizeof(both), &both), ==, 0);
    qts = hpkvm_start_vm(&kernel, accel, "-smp 2");
    g_assert_cmpint(sched_setaffinity(0, sizeof(all), &all), ==, 0);

    hpkvm_wait_for_log("RUN vcpu=0\n");
    hpkvm_wait_for_log("RUN vcpu=1\n");
    hpkvm_assert_bound(qts, 0, cpus[0]);
    hpkvm_assert_waiting(qts, 1, "emulator-confined", "the rest of QEMU");
    qtest_quit(qts);
    hpkvm_assert_log("BIND", 1);
}

/* Plug a vCPU; its index is that of its core, as there is one socket */
static void plug_vcpu(QTestState *qts, int index)
{
    QDict *response = qtest_qmp(qts,
                                "{'execute': 'query-hotpluggable-cpus'}");
    QListEntry *entry;
    QDict *args = NULL;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(response, "return"), entry) {
        QDict *slot = qobject_to(QDict, qlist_entry_obj(entry));

        QDict *props = qdict_get_qdict(slot, "props");

        if (qdict_get_int(props, "core-id") == index) {
            args = qdict_clone_shallow(props);
            qdict_put_str(args, "driver", qdict_get_str(slot, "type"));
        }
    }
    qobject_unref(response);
    g_assert(args);
    qtest_qmp_assert_success(qts, "{'execute': 'device_add', "
                             "'arguments': %p}", args);
}

static void test_hotplug(void)
{
    QTestState *qts = hpkvm_start_vm(&hpkvm_patched, "cpus=2-4",
                                     "-smp 1,maxcpus=4");

    hpkvm_wait_for_log("RUN vcpu=0\n");
    /* vCPU i takes the i-th, whatever is plugged before it */
    plug_vcpu(qts, 2);
    hpkvm_wait_for_log("RUN vcpu=2\n");
    hpkvm_assert_bound(qts, 0, 2);
    hpkvm_assert_bound(qts, 2, 4);
    /* one beyond the end takes what is left */
    plug_vcpu(qts, 3);
    hpkvm_wait_for_log("RUN vcpu=3\n");
    hpkvm_assert_bound(qts, 3, 3);
    qtest_quit(qts);
    hpkvm_assert_stderr("hpkvm: 2 of 2 vCPUs own a core", 1);
    hpkvm_assert_stderr("hpkvm: 3 of 3 vCPUs own a core", 1);
}

/* A running VM is not ended for a vCPU that gets no core: that one waits */
static void test_hotplug_must(void)
{
    QTestState *qts = hpkvm_start_vm(&hpkvm_patched, "fallback=off,cpus=2",
                                     "-smp 1,maxcpus=2");

    hpkvm_wait_for_log("RUN vcpu=0\n");
    plug_vcpu(qts, 1);
    g_usleep(QUIET_MS * 1000);
    hpkvm_assert_waiting(qts, 1, "list-exhausted", "no CPU left");
    hpkvm_assert_log("RUN vcpu=1", 0);
    assert_running(qts);

    /* it obeys even so, and may be continued */
    qtest_qmp_assert_success(qts, "{'execute': 'stop'}");
    cont(qts);
    assert_running(qts);
    g_usleep(QUIET_MS * 1000);
    hpkvm_assert_log("RUN vcpu=1", 0);
    assert_running(qts);
    qtest_quit(qts);
    hpkvm_assert_stderr("vCPU 1 refused (cpus= has no CPU left for it)", 1);
}

/* The same, pinned later, as libvirt does with a hotplugged vCPU */
static void test_hotplug_pinned(void)
{
    g_autofree char *args = g_strdup_printf("%s -smp 1,maxcpus=2 -S",
                                            sandbox());
    QTestState *qts;
    int cpus[2];

    if (!two_cpus(cpus)) {
        return;
    }
    qts = hpkvm_start_vm(&hpkvm_patched, "fallback=off", args);
    pin(vcpu_tid(qts, 0), cpus[0]);
    cont(qts);
    hpkvm_wait_for_log("RUN vcpu=0\n");
    plug_vcpu(qts, 1);
    g_usleep(QUIET_MS * 1000);
    hpkvm_assert_log("RUN vcpu=1", 0);
    pin(vcpu_tid(qts, 1), cpus[1]);
    hpkvm_wait_for_log("RUN vcpu=1\n");
    hpkvm_assert_bound(qts, 1, cpus[1]);
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    hpkvm_test_init(&argc, &argv);

    qtest_add_func("hpkvm/bind/list", test_bind_list);
    qtest_add_func("hpkvm/bind/pause-and-reset", test_pause_and_reset);
    qtest_add_func("hpkvm/bind/migrated", test_migrated);
    qtest_add_func("hpkvm/bind/migrated-while-paused",
                   test_migrated_while_paused);
    qtest_add_func("hpkvm/bind/list-exhausted", test_list_exhausted);
    qtest_add_func("hpkvm/bind/refused", test_refused);
    qtest_add_func("hpkvm/bind/refused-must", test_refused_must);
    qtest_add_func("hpkvm/bind/refused-for-now", test_refused_for_now);
    qtest_add_func("hpkvm/bind/unpinned-must", test_unpinned_must);
    qtest_add_func("hpkvm/bind/pinned", test_pinned);
    qtest_add_func("hpkvm/bind/pinned-later", test_pinned_later);
    qtest_add_func("hpkvm/bind/pinned-elsewhere", test_pinned_elsewhere);
    qtest_add_func("hpkvm/bind/pinned-refused", test_pinned_refused);
    qtest_add_func("hpkvm/bind/emulator-confined", test_emulator_confined);
    qtest_add_func("hpkvm/bind/emulator-confined-to-cores",
                   test_emulator_confined_to_cores);
    qtest_add_func("hpkvm/hotplug/list", test_hotplug);
    qtest_add_func("hpkvm/hotplug/must", test_hotplug_must);
    qtest_add_func("hpkvm/hotplug/pinned", test_hotplug_pinned);

    return hpkvm_test_run();
}
