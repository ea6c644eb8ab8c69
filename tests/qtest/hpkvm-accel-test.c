/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest: the HPKVM accelerator's options, and what it makes of a host
 *
 * Owns what is decided before any core is asked for: options, a kernel that
 * lacks support or offers a part, "kvm" that means "hpkvm".  If the machine
 * has a KVM of its own, it serves as the host without support.  Guests must
 * not be expected to run any code.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include <sys/ioctl.h>
#include <linux/kvm.h>
#include <asm/kvm_hpkvm.h>

#include "libqtest.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qstring.h"
#include "hpkvm-util.h"

static const HpkvmKernel unpatched = { };
static const HpkvmKernel unsuitable = { .lacks = "no nested paging" };

/* ------------------------------------------------------------- options */

static void test_help(void)
{
    static const char *const names[] = {
        "cpus=", "fallback=", "direct-interrupts=", "direct-timer=",
        "direct-ipi=", "direct-msi=", "direct-halt=", "direct-vfio=",
        "apic-bus-frequency=", "kernel-irqchip=",
        "turns the other direct-* off",
    };
    g_autofree char *out = NULL;
    g_autofree char *list = NULL;

    g_assert_cmpint(hpkvm_run_qemu(NULL, "-accel hpkvm,help", &out), ==, 0);
    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        hpkvm_assert_contains(out, names[i]);
    }

    g_assert_cmpint(hpkvm_run_qemu(NULL, "-accel help", &list), ==, 0);
    hpkvm_assert_contains(list, "\nhpkvm\n");
    g_assert_cmpint(hpkvm_run_qemu(NULL, "-accel nosuch,help", NULL), ==, 1);
    hpkvm_assert_stderr("invalid accelerator nosuch", 1);
}

typedef struct BadValue {
    const char *property;
    const char *message;
} BadValue;

static const BadValue bad_values[] = {
    { "cpus=x", "'x' in cpus=x is not a host CPU; expected" },
    { "cpus=", "cpus= is empty; expected" },
    { "cpus=-1", "'-1' in cpus=-1 is not a host CPU; expected" },
    { "cpus=2-", "'2-' in cpus=2- is not a host CPU; expected" },
    { "cpus=2-4-6", "'2-4-6' in cpus=2-4-6 is not a host CPU; expected" },
    { "cpus=0x10", "'0x10' in cpus=0x10 is not a host CPU; expected" },
    { "cpus=2,,", "'' in cpus=2, is not a host CPU; expected" },
    { "cpus=5-2", "'5-2' in cpus=5-2 runs backwards; expected 2-5" },
    { "cpus=2-4,,3", "CPU 3 appears twice in cpus=2-4,3; expected" },
    { "cpus=8192", "'8192' in cpus=8192 is too high; expected" },
    { "cpus=99999999999",
      "'99999999999' in cpus=99999999999 is not a host CPU; expected" },
    { "fallback=maybe",
      "fallback=maybe: Parameter 'fallback' expects 'on' or 'off'" },
    { "direct-interrupts=2", "direct-interrupts=2: Parameter "
      "'direct-interrupts' expects 'on' or 'off'" },
    { "direct-timer=x",
      "direct-timer=x: Parameter 'direct-timer' expects 'on' or 'off'" },
    { "apic-bus-frequency=24000000", "apic-bus-frequency=24000000: must be "
      "1000000000 Hz divided by a whole number up to 33554431" },
    { "apic-bus-frequency=3", "apic-bus-frequency=3: must be" },
    { "apic-bus-frequency=2000000000", "apic-bus-frequency=2000000000: must" },
    { "apic-bus-frequency=x", "'apic-bus-frequency' expects uint64" },
    { "nosuch=1", "Property 'hpkvm-accel.nosuch' not found" },
};

static void test_bad_value(const void *opaque)
{
    const BadValue *bad = opaque;
    g_autofree char *direct = g_strdup_printf("-M none -accel hpkvm,%s",
                                              bad->property);

    g_assert_cmpint(hpkvm_run_qemu(NULL, direct, NULL), ==, 1);
    hpkvm_assert_stderr(bad->message, 1);
    hpkvm_assert_stderr("-accel hpkvm,", 1);
}

static void test_bad_environment(void)
{
    g_setenv("QEMU_HPKVM", "fallback=off,cpus=5-2", true);
    g_assert_cmpint(hpkvm_run_qemu(NULL, "-M none -accel kvm", NULL), ==, 1);
    g_unsetenv("QEMU_HPKVM");
    hpkvm_assert_stderr("QEMU_HPKVM=fallback=off,cpus=5-2: '5-2' in cpus=5-2 "
                        "runs backwards; expected 2-5", 1);
}

/* --------------------------------------------------------- negotiation */

/* The members of a list of strings, separated by spaces */
static char *join(QList *list)
{
    GString *str = g_string_new(NULL);
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(list, entry) {
        g_string_append_printf(str, "%s%s", str->len ? " " : "",
            qstring_get_str(qobject_to(QString, qlist_entry_obj(entry))));
    }
    return g_string_free(str, false);
}

static void assert_features(QTestState *qts, const char *member,
                            const char *expected)
{
    QDict *info = hpkvm_query(qts);
    g_autofree char *features = join(qdict_get_qlist(info, member));

    g_assert_cmpstr(features, ==, expected);
    qobject_unref(info);
}

static void test_no_kvm(void)
{
    QTestState *qts = qtest_init("-M none -accel hpkvm,device=/nonexistent "
                                 "2>/dev/null");
    QDict *info = hpkvm_query(qts);

    g_assert(!qdict_get_bool(info, "enabled"));
    g_assert(!qdict_get_bool(info, "present"));
    hpkvm_assert_contains(qdict_get_str(info, "message"),
                          "not the accelerator");
    g_assert(qlist_empty(qdict_get_qlist(info, "vcpus")));
    qobject_unref(info);
    qtest_quit(qts);

    g_assert_cmpint(hpkvm_run_qemu(NULL,
                                   "-M none -accel hpkvm,device=/nonexistent",
                                   NULL), ==, 1);
    hpkvm_assert_stderr("Could not access KVM kernel module: No such file", 1);
}

static void test_no_kvm_tcg(void)
{
    QTestState *qts = qtest_init("-M none -accel hpkvm,device=/nonexistent "
                                 "-accel tcg 2>/dev/null");
    QDict *info = hpkvm_query(qts);
    g_autofree char *text = qtest_hmp(qts, "info hpkvm");

    g_assert(!qdict_get_bool(info, "enabled"));
    g_assert(!qdict_get_bool(info, "present"));
    hpkvm_assert_contains(text, "hpkvm support: disabled");
    qobject_unref(info);
    qtest_quit(qts);
}

static void test_unpatched(void)
{
    QTestState *qts = hpkvm_start_vm(&unpatched, "cpus=2-3", "-smp 2");
    QDict *info, *kvm;
    g_autofree char *text = NULL;

    hpkvm_wait_for_log("RUN vcpu=0\n");
    hpkvm_wait_for_log("RUN vcpu=1\n");
    info = hpkvm_query(qts);
    g_assert(!qdict_get_bool(info, "enabled"));
    g_assert(!qdict_get_bool(info, "present"));
    g_assert(qdict_get_bool(info, "fallback"));
    g_assert_cmpstr(qdict_get_str(info, "cpus"), ==, "2-3");
    hpkvm_assert_contains(qdict_get_str(info, "message"), "KVM_CAP_X86_HPKVM");
    hpkvm_assert_unbound(qts, 0, "not-enabled", "not enabled");
    hpkvm_assert_unbound(qts, 1, "not-enabled", "not enabled");
    assert_features(qts, "features", "");
    qobject_unref(info);

    kvm = qtest_qmp_assert_success_ref(qts, "{'execute': 'query-kvm'}");
    g_assert(qdict_get_bool(kvm, "enabled"));
    g_assert(qdict_get_bool(kvm, "present"));
    qobject_unref(kvm);

    text = qtest_hmp(qts, "info hpkvm");
    hpkvm_assert_contains(text,
                          "hpkvm support: disabled: the host kernel has no");
    qtest_quit(qts);

    hpkvm_assert_log("ENABLE", 0);
    hpkvm_assert_log("BIND", 0);
    hpkvm_assert_stderr("hpkvm: ", 1);
    hpkvm_assert_stderr("running as ordinary KVM", 1);
}

/* A kernel that knows dedicated cores, but cannot have any, says why */
static void test_unsuitable(void)
{
    QTestState *qts = hpkvm_start_vm(&unsuitable, "cpus=2", "-smp 1");
    QDict *info = hpkvm_query(qts);

    g_assert(!qdict_get_bool(info, "enabled"));
    g_assert(!qdict_get_bool(info, "present"));
    g_assert_cmpstr(qdict_get_str(info, "message"), ==,
                    "the host cannot dedicate cores: no nested paging");
    qobject_unref(info);
    hpkvm_wait_for_log("RUN vcpu=0\n");
    qtest_quit(qts);

    hpkvm_assert_log("BIND", 0);
    hpkvm_assert_stderr("hpkvm: the host cannot dedicate cores: no nested "
                        "paging: running as ordinary KVM", 1);
}

static void test_unpatched_must(void)
{
    g_autofree char *args = g_strdup_printf(
        "-M pc -m 64 -bios %s -accel hpkvm,fallback=off,device=%s",
        hpkvm_files.bios, hpkvm_files.device);
    g_autofree char *with_kvm = g_strdup_printf(
        "%s -accel kvm,device=/nonexistent", args);

    g_assert_cmpint(hpkvm_run_qemu(&unpatched, args, NULL), ==, 1);
    hpkvm_assert_stderr("no support for dedicated cores (KVM_CAP_X86_HPKVM), "
                        "and fallback=off does not allow ordinary KVM", 1);
    hpkvm_assert_log("RUN", 0);

    /* the next -accel is the user's own choice, so it gets its turn */
    g_assert_cmpint(hpkvm_run_qemu(&unpatched, with_kvm, NULL), ==, 1);
    hpkvm_assert_stderr("failed to initialize kvm", 1);
}

/* A file descriptor that management has opened stands for /dev/kvm */
static void test_fdset(void)
{
    g_autofree char *args = g_strdup_printf(
        "-M none -accel hpkvm,device=/dev/fdset/1 -add-fd fd=9,set=1 "
        "9<>%s 2>%s", hpkvm_files.device, hpkvm_files.err);
    QTestState *qts;
    QDict *info;

    hpkvm_use_kernel(&hpkvm_patched);
    qts = qtest_init(args);
    hpkvm_use_kernel(NULL);
    info = hpkvm_query(qts);
    g_assert(qdict_get_bool(info, "enabled"));
    qobject_unref(info);
    qtest_quit(qts);
}

static void test_machine_none(void)
{
    QTestState *qts;
    QDict *info;

    /* how libvirt asks what QEMU can do: no complaint, no failure */
    hpkvm_use_kernel(&unpatched);
    qts = qtest_initf("-M none -accel hpkvm,fallback=off,cpus=2,device=%s "
                      "2>%s", hpkvm_files.device, hpkvm_files.err);
    hpkvm_use_kernel(NULL);
    info = hpkvm_query(qts);
    g_assert(!qdict_get_bool(info, "enabled"));
    g_assert(!qdict_get_bool(info, "fallback"));
    qobject_unref(info);
    qtest_quit(qts);
    hpkvm_assert_stderr("hpkvm", 0);

    hpkvm_use_kernel(&hpkvm_patched);
    qts = qtest_initf("-M none -accel hpkvm,cpus=2,device=%s 2>%s",
                      hpkvm_files.device, hpkvm_files.err);
    hpkvm_use_kernel(NULL);
    info = hpkvm_query(qts);
    g_assert(qdict_get_bool(info, "enabled"));
    g_assert(qdict_get_bool(info, "present"));
    g_assert(!qdict_haskey(info, "message"));
    g_assert(qlist_empty(qdict_get_qlist(info, "vcpus")));
    qobject_unref(info);
    qtest_quit(qts);
    hpkvm_assert_stderr("hpkvm", 0);
    hpkvm_assert_log("BIND", 0);
}

typedef struct FeatureCase {
    const char *name;
    const char *offered;            /* by the kernel */
    const char *accel;              /* properties */
    const char *requested;          /* in KVM_ENABLE_CAP */
    const char *features;           /* of the VM */
    const char *host_features;
} FeatureCase;

static const FeatureCase feature_cases[] = {
    { "all", "0x3f", "", "ENABLE 0x3f\n",
      HPKVM_ALL_FEATURES, HPKVM_ALL_FEATURES },
    { "no-timer", "0x3f", "direct-timer=off", "ENABLE 0x3d\n",
      "direct-interrupts direct-ipi direct-msi direct-halt direct-vfio",
      HPKVM_ALL_FEATURES },
    { "no-ipi", "0x3f", "direct-ipi=off", "ENABLE 0x3b\n",
      "direct-interrupts direct-timer direct-msi direct-halt direct-vfio",
      HPKVM_ALL_FEATURES },
    { "no-msi", "0x3f", "direct-msi=off", "ENABLE 0x37\n",
      "direct-interrupts direct-timer direct-ipi direct-halt direct-vfio",
      HPKVM_ALL_FEATURES },
    { "no-halt", "0x3f", "direct-halt=off", "ENABLE 0x2f\n",
      "direct-interrupts direct-timer direct-ipi direct-msi direct-vfio",
      HPKVM_ALL_FEATURES },
    { "no-vfio", "0x3f", "direct-vfio=off", "ENABLE 0x1f\n",
      "direct-interrupts direct-timer direct-ipi direct-msi direct-halt",
      HPKVM_ALL_FEATURES },
    { "host-subset", "0x3", "", "ENABLE 0x3\n",
      "direct-interrupts direct-timer", "direct-interrupts direct-timer" },
    { "newer-host", "0xff", "", "ENABLE 0x3f\n",
      HPKVM_ALL_FEATURES, HPKVM_ALL_FEATURES },
};

static void test_features(const void *opaque)
{
    const FeatureCase *c = opaque;
    HpkvmKernel kernel = { .hpkvm = c->offered };
    QTestState *qts = hpkvm_start_vm(&kernel, c->accel, "-S");

    assert_features(qts, "features", c->features);
    assert_features(qts, "host-features", c->host_features);
    qtest_quit(qts);
    hpkvm_assert_log("ENABLE", 1);
    hpkvm_assert_log(c->requested, 1);
}

static void test_missing_technique(void)
{
    HpkvmKernel no_timer = { .hpkvm = "0x1d" }, no_base = { .hpkvm = "0x2" };
    QTestState *qts = hpkvm_start_vm(&no_timer, "", "-S");

    qtest_quit(qts);
    hpkvm_assert_stderr("hpkvm: the host kernel does not offer direct-timer\n",
                        1);

    qts = hpkvm_start_vm(&no_base, "", "-S");
    qtest_quit(qts);
    hpkvm_assert_stderr("does not offer direct-interrupts: running as "
                        "ordinary KVM", 1);
    hpkvm_assert_log("ENABLE", 0);
}

typedef struct GenericCase {
    const char *name;
    const char *accel;
    const char *message;
} GenericCase;

static const GenericCase generic_cases[] = {
    { "no-interrupts", "direct-interrupts=off",
      "direct-interrupts=off turns every technique off" },
    { "userspace-irqchip", "kernel-irqchip=off",
      "kernel-irqchip=off leaves no LAPIC in the kernel" },
    { "xen", "xen-version=0x4000a,kernel-irqchip=split",
      "guests with Xen emulation cannot have dedicated cores" },
};

/* What cannot have dedicated cores is refused with fallback=off */
static void test_generic(const void *opaque)
{
    const GenericCase *c = opaque;
    g_autofree char *args = g_strdup_printf(
        "-M pc -m 64 -bios %s -accel hpkvm,fallback=off,device=%s,%s",
        hpkvm_files.bios, hpkvm_files.device, c->accel);

    g_assert_cmpint(hpkvm_run_qemu(&hpkvm_patched, args, NULL), ==, 1);
    hpkvm_assert_stderr(c->message, 1);
    hpkvm_assert_log("ENABLE", 0);
    hpkvm_assert_log("RUN", 0);
}

/* The base of all techniques is off, so the others are */
static void test_no_interrupts(void)
{
    QTestState *qts = hpkvm_start_vm(&hpkvm_patched,
                                     "direct-interrupts=off,cpus=2", "");

    hpkvm_wait_for_log("RUN vcpu=0\n");
    assert_features(qts, "features", "");
    assert_features(qts, "host-features", HPKVM_ALL_FEATURES);
    hpkvm_assert_unbound(qts, 0, "not-enabled", "not enabled");
    qtest_quit(qts);
    hpkvm_assert_log("ENABLE", 0);
    hpkvm_assert_log("BIND", 0);
    hpkvm_assert_stderr("direct-interrupts=off turns every technique off: "
                        "running as ordinary KVM\n", 1);
}

static void test_userspace_irqchip(void)
{
    /* QEMU's own LAPIC does not work with KVM */
    QTestState *qts = hpkvm_start_vm(&hpkvm_patched, "kernel-irqchip=off",
                                     "-cpu qemu64,apic=off -S");
    QDict *info = hpkvm_query(qts);

    g_assert(qdict_get_bool(info, "present"));
    g_assert(!qdict_get_bool(info, "enabled"));
    hpkvm_assert_contains(qdict_get_str(info, "message"),
                          "kernel-irqchip=off");
    qobject_unref(info);
    qtest_quit(qts);
    hpkvm_assert_log("ENABLE", 0);
    hpkvm_assert_stderr("hpkvm: ", 1);
}

/* libvirt's <ioapic driver='qemu'/>: there still is a LAPIC in the kernel */
static void test_split_irqchip(void)
{
    QTestState *qts = hpkvm_start_vm(&hpkvm_patched, "cpus=2",
                                     "-M kernel-irqchip=split");

    hpkvm_wait_for_log("RUN vcpu=0\n");
    hpkvm_assert_bound(qts, 0, 2);
    qtest_quit(qts);
}

static void test_enable_refused(void)
{
    g_autofree char *einval = g_strdup_printf("%d", EINVAL);
    HpkvmKernel kernel = { .hpkvm = "0x3f", .enable = einval };
    g_autofree char *args = g_strdup_printf(
        "-M pc -m 64 -bios %s -accel hpkvm,fallback=off,device=%s",
        hpkvm_files.bios, hpkvm_files.device);
    QTestState *qts = hpkvm_start_vm(&kernel, "cpus=2", "");

    hpkvm_wait_for_log("RUN vcpu=0\n");
    hpkvm_assert_unbound(qts, 0, "not-enabled", "not enabled");
    qtest_quit(qts);
    hpkvm_assert_stderr("refused the capability: Invalid argument: running as "
                        "ordinary KVM", 1);
    hpkvm_assert_log("BIND", 0);

    g_assert_cmpint(hpkvm_run_qemu(&kernel, args, NULL), ==, 1);
    hpkvm_assert_stderr("refused the capability: Invalid argument, and "
                        "fallback=off", 1);
    hpkvm_assert_log("RUN", 0);
}

/* ----------------------------------------------------------- promotion */

typedef struct PromoteCase {
    const char *name;
    const char *env;
    const char *accel;
    bool promoted;
    const char *cpus;
} PromoteCase;

static const PromoteCase promote_cases[] = {
    { "unset", NULL, "kvm", false, NULL },
    { "on", "1", "kvm", true, NULL },
    { "word", "on", "kvm", true, NULL },
    { "empty", "", "kvm", true, NULL },
    { "off", "0", "kvm", false, NULL },
    { "properties", "cpus=2-3,,6,fallback=on", "kvm", true, "2-3,6" },
    { "explicit", "cpus=2-3", "hpkvm", true, NULL },
};

static void test_promote(const void *opaque)
{
    const PromoteCase *c = opaque;
    QTestState *qts;
    QDict *info;

    g_unsetenv("QEMU_HPKVM");
    if (c->env) {
        g_setenv("QEMU_HPKVM", c->env, true);
    }
    hpkvm_use_kernel(&hpkvm_patched);
    qts = qtest_initf("-M none -accel %s,device=%s", c->accel,
                      hpkvm_files.device);
    hpkvm_use_kernel(NULL);
    g_unsetenv("QEMU_HPKVM");

    info = hpkvm_query(qts);
    g_assert_cmpint(qdict_get_bool(info, "enabled"), ==, c->promoted);
    g_assert_cmpstr(qdict_get_try_str(info, "cpus"), ==, c->cpus);
    qobject_unref(info);
    qtest_quit(qts);
}

static void test_promote_by_name(void)
{
    g_autofree char *program = g_build_filename(hpkvm_files.dir,
        "qemu-system-x86_64-hpkvm", NULL);
    g_autofree char *binary = g_canonicalize_filename(
        getenv("QTEST_QEMU_BINARY"), NULL);
    g_autofree char *args = g_strdup_printf(
        "timeout --kill-after=5 60 %s -display none -nodefaults -M pc -m 64 "
        "-bios %s -accel kvm,device=%s", program, hpkvm_files.bios,
        hpkvm_files.device);
    g_autofree char *must = g_strdup_printf("%s,fallback=off", args);
    g_autofree char *errors = NULL;
    int status;

    g_assert_cmpint(symlink(binary, program), ==, 0);
    hpkvm_use_kernel(&unpatched);
    g_assert(g_spawn_command_line_sync(must, NULL, &errors, &status, NULL));
    hpkvm_use_kernel(NULL);
    unlink(program);
    g_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    hpkvm_assert_contains(errors, "KVM_CAP_X86_HPKVM");
}

/* --------------------------------------------------- this machine's KVM */

/* The KVM_HPKVM_F_* of /dev/kvm; -1, and the test skipped, if none works */
static int real_kvm(void)
{
    int fd = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    int ret;

    if (fd < 0) {
        g_test_skip("/dev/kvm cannot be opened");
        return -1;
    }
    ret = ioctl(fd, KVM_CHECK_EXTENSION, KVM_CAP_X86_HPKVM);
    close(fd);
    return MAX(ret, 0);
}

static void test_real_kvm(void)
{
    int features = real_kvm();
    QTestState *qts;
    QDict *info, *status;

    if (features < 0) {
        return;
    }
    qts = qtest_initf("-accel hpkvm -M pc -cpu qemu64 -nodefaults -m 64 "
                      "-smp 2 -bios %s 2>%s", hpkvm_files.bios,
                      hpkvm_files.err);
    info = hpkvm_query(qts);
    g_assert_cmpint(qdict_get_bool(info, "present"), ==, features > 0);
    if (!features) {
        g_assert(!qdict_get_bool(info, "enabled"));
        hpkvm_assert_unbound(qts, 1, "not-enabled", "not enabled");
        hpkvm_assert_stderr("running as ordinary KVM", 1);
    }
    qobject_unref(info);
    status = qtest_qmp_assert_success_ref(qts, "{'execute': 'query-status'}");
    g_assert_cmpstr(qdict_get_str(status, "status"), ==, "running");
    qobject_unref(status);
    qtest_quit(qts);
}

/* The answer to a command under an accelerator, as text */
static char *answer(const char *accel, const char *command)
{
    QTestState *qts = qtest_initf("-accel %s -M none 2>/dev/null", accel);
    QDict *response = qtest_qmp(qts, "%p",
        qobject_to(QDict, qobject_from_json(command, &error_abort)));
    GString *json = qobject_to_json(QOBJECT(response));

    qobject_unref(response);
    qtest_quit(qts);
    return g_string_free(json, false);
}

/* What libvirt asks must not depend on which of the two it gets */
static void test_real_kvm_same(void)
{
    static const char *const commands[] = {
        "{'execute': 'query-kvm'}",
        "{'execute': 'query-cpu-definitions'}",
        "{'execute': 'query-cpu-model-expansion', 'arguments': "
        "{'type': 'full', 'model': {'name': 'host'}}}",
        "{'execute': 'query-machines'}",
        "{'execute': 'query-migrate-capabilities'}",
    };

    if (real_kvm() < 0) {
        return;
    }
    for (int i = 0; i < ARRAY_SIZE(commands); i++) {
        g_autofree char *kvm = answer("kvm", commands[i]);
        g_autofree char *hpkvm = answer("hpkvm", commands[i]);

        hpkvm_assert_contains(kvm, "\"return\"");
        g_assert_cmpstr(kvm, ==, hpkvm);
    }
}

/* ---------------------------------------------------------------- main */

static void add_tables(void)
{
    for (int i = 0; i < ARRAY_SIZE(bad_values); i++) {
        g_autofree char *path = g_strdup_printf("hpkvm/options/bad/%s",
                                                bad_values[i].property);
        qtest_add_data_func(path, &bad_values[i], test_bad_value);
    }
    for (int i = 0; i < ARRAY_SIZE(feature_cases); i++) {
        g_autofree char *path = g_strdup_printf("hpkvm/features/%s",
                                                feature_cases[i].name);
        qtest_add_data_func(path, &feature_cases[i], test_features);
    }
    for (int i = 0; i < ARRAY_SIZE(generic_cases); i++) {
        g_autofree char *path = g_strdup_printf("hpkvm/refused/%s",
                                                generic_cases[i].name);
        qtest_add_data_func(path, &generic_cases[i], test_generic);
    }
    for (int i = 0; i < ARRAY_SIZE(promote_cases); i++) {
        g_autofree char *path = g_strdup_printf("hpkvm/promote/%s",
                                                promote_cases[i].name);
        qtest_add_data_func(path, &promote_cases[i], test_promote);
    }
}

int main(int argc, char **argv)
{
    hpkvm_test_init(&argc, &argv);

    qtest_add_func("hpkvm/options/help", test_help);
    qtest_add_func("hpkvm/options/bad-environment", test_bad_environment);
    qtest_add_func("hpkvm/no-kvm/qtest", test_no_kvm);
    qtest_add_func("hpkvm/no-kvm/tcg", test_no_kvm_tcg);
    qtest_add_func("hpkvm/unpatched/fallback", test_unpatched);
    qtest_add_func("hpkvm/unpatched/must", test_unpatched_must);
    qtest_add_func("hpkvm/unsuitable", test_unsuitable);
    qtest_add_func("hpkvm/fdset", test_fdset);
    qtest_add_func("hpkvm/machine-none", test_machine_none);
    qtest_add_func("hpkvm/missing-technique", test_missing_technique);
    qtest_add_func("hpkvm/no-interrupts", test_no_interrupts);
    qtest_add_func("hpkvm/userspace-irqchip", test_userspace_irqchip);
    qtest_add_func("hpkvm/split-irqchip", test_split_irqchip);
    qtest_add_func("hpkvm/enable-refused", test_enable_refused);
    qtest_add_func("hpkvm/promote-by-name", test_promote_by_name);
    qtest_add_func("hpkvm/real-kvm/run", test_real_kvm);
    qtest_add_func("hpkvm/real-kvm/same-answers", test_real_kvm_same);
    add_tables();

    return hpkvm_test_run();
}
