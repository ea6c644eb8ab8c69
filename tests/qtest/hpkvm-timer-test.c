/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest: the rate of the guest's LAPIC timers under the HPKVM accelerator
 *
 * Owns what is made of a host's timers: the APIC bus frequency of the VM, what
 * "-cpu host" has, and what is said of it.
 */

#include "qemu/osdep.h"

#include "libqtest.h"
#include "qobject/qdict.h"
#include "hpkvm-util.h"

#define EMULATED "hpkvm: timers that count are emulated"
#define EXITS "hpkvm: a timer in TSC-deadline mode exits when it is armed"

typedef struct Case {
    const char *name;
    HpkvmKernel kernel;
    const char *accel;
    const char *cpu;
    /* what comes of it */
    uint64_t frequency;
    bool deadline;
    int emulated, exits;            /* warnings */
} Case;

#define PATCHED(what) { .hpkvm = "0x3f", .timer = what, .bus = "1" }

static const Case cases[] = {
    { "amd", PATCHED("10 0"), "cpus=2", "host", 100000000, false },
    { "amd-deadline", PATCHED("10 0"), "cpus=2", "host,+tsc-deadline",
      100000000, true, .exits = 1 },
    { "amd-model", PATCHED("10 0"), "cpus=2", "qemu64", 100000000, false },
    { "amd-as-kvm", PATCHED("10 0"), "cpus=2,apic-bus-frequency=1000000000",
      "host", 1000000000, true, .emulated = 1, .exits = 1 },
    { "amd-no-timer", PATCHED("10 0"), "cpus=2,direct-timer=off", "host",
      1000000000, true },
    { "amd-no-core", PATCHED("10 0"), "", "host", 100000000, false },
    { "amd-odd-rate", PATCHED("0 0"), "cpus=2", "host", 1000000000, true,
      .emulated = 1, .exits = 1 },
    { "amd-old-kvm", { .hpkvm = "0x3f", .timer = "10 0" }, "cpus=2", "host",
      1000000000, true, .emulated = 1, .exits = 1 },
    { "intel", PATCHED("0 1"), "cpus=2", "host", 1000000000, true },
    { "intel-counts", PATCHED("0 1"), "cpus=2", "host,-tsc-deadline",
      1000000000, false, .emulated = 1 },
    { "intel-as-amd", PATCHED("10 1"), "cpus=2,apic-bus-frequency=100000000",
      "host", 100000000, false },
    { "old-hpkvm", { .hpkvm = "0x3f", .bus = "1" }, "cpus=2", "host",
      1000000000, true },
    { "unpatched", { .bus = "1" }, "", "host", 1000000000, true },
    { "unpatched-as-amd", { .bus = "1" }, "apic-bus-frequency=100000000",
      "host", 100000000, false },
};

static bool cpu_has_deadline(QTestState *qts)
{
    QDict *answer = qtest_qmp(qts,
        "{'execute': 'qom-get', 'arguments': {"
        " 'path': '/machine/unattached/device[0]',"
        " 'property': 'tsc-deadline' } }");
    bool has = qdict_get_bool(answer, "return");

    qobject_unref(answer);
    return has;
}

static void test_case(const void *opaque)
{
    const Case *c = opaque;
    g_autofree char *cpu = g_strdup_printf("-cpu %s", c->cpu);
    QTestState *qts = hpkvm_start_vm(&c->kernel, c->accel, cpu);
    QDict *info = hpkvm_query(qts);

    g_assert_cmpint(qdict_get_int(info, "apic-bus-frequency"), ==,
                    c->frequency);
    g_assert(cpu_has_deadline(qts) == c->deadline);
    hpkvm_assert_log("BUS", c->frequency != 1000000000);
    hpkvm_assert_log("BUS 10\n", c->frequency == 100000000);
    hpkvm_assert_stderr(EMULATED, c->emulated);
    hpkvm_assert_stderr(EXITS, c->exits);
    qobject_unref(info);
    qtest_quit(qts);
}

static void test_impossible(void)
{
    static const HpkvmKernel old = { .hpkvm = "0x3f", .timer = "10 0" };
    g_autofree char *args = g_strdup_printf(
        "-M pc -bios %s -accel hpkvm,device=%s,apic-bus-frequency=100000000",
        hpkvm_files.bios, hpkvm_files.device);

    g_assert_cmpint(hpkvm_run_qemu(&old, args, NULL), ==, 1);
    hpkvm_assert_stderr("hpkvm: apic-bus-frequency=100000000: the host kernel "
                        "can have 1000000000 only", 1);
}

/* The fake KVM has vCPUs with odd IDs in passthrough. */
static void test_query(void)
{
    static const HpkvmKernel kernel = PATCHED("10 0");
    QTestState *qts = hpkvm_start_vm(&kernel, "cpus=2-3", "-smp 2");
    QDict *vcpu = hpkvm_query_vcpu(qts, 0);

    g_assert_cmpstr(qdict_get_str(vcpu, "timer"), ==, "emulated");
    g_assert_cmpstr(qdict_get_str(vcpu, "timer-reason"), ==,
                    "not-passthrough");
    qobject_unref(vcpu);
    vcpu = hpkvm_query_vcpu(qts, 1);
    g_assert_cmpstr(qdict_get_str(vcpu, "timer"), ==, "intercepted");
    g_assert_cmpstr(qdict_get_str(vcpu, "timer-reason"), ==, "no-deadline");
    qobject_unref(vcpu);
    qtest_quit(qts);

    qts = hpkvm_start_vm(&kernel, "", "");
    vcpu = hpkvm_query_vcpu(qts, 0);
    g_assert(!qdict_haskey(vcpu, "timer"));
    g_assert(!qdict_haskey(vcpu, "timer-reason"));
    qobject_unref(vcpu);
    qtest_quit(qts);
}

int main(int argc, char **argv)
{
    hpkvm_test_init(&argc, &argv);
    for (int i = 0; i < ARRAY_SIZE(cases); i++) {
        g_autofree char *path = g_strdup_printf("hpkvm/timer/%s",
                                                cases[i].name);

        qtest_add_data_func(path, &cases[i], test_case);
    }
    qtest_add_func("hpkvm/timer/impossible", test_impossible);
    qtest_add_func("hpkvm/timer/query", test_query);
    return hpkvm_test_run();
}
