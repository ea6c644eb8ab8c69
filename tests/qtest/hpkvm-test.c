/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The HPKVM accelerator: options, negotiation, binding, and its views
 *
 * Owns what can be tested of the accelerator without a kernel that knows
 * dedicated cores: a fake KVM of chosen capabilities is preloaded into QEMU
 * (hpkvm-fake-kvm.c).  If the machine has a KVM of its own, it serves as the
 * host without support.  Guests must not be expected to run any code.
 */

#include "qemu/osdep.h"
#include "qemu/units.h"
#include "qapi/error.h"
#include <sys/ioctl.h>
#include <linux/kvm.h>
#include <asm/kvm_hpkvm.h>

#include "libqtest.h"
#include "qobject/qdict.h"
#include "qobject/qjson.h"
#include "qobject/qlist.h"
#include "qobject/qnum.h"
#include "qobject/qstring.h"
#include "hpkvm-fake-kvm.h"


/* How long QEMU may take to do what needs no guest, in ms */
#define PATIENCE_MS 20000
#define POLL_MS 50
/* How long to watch that something does not happen, in ms */
#define QUIET_MS 1500

#define ALL_FEATURES "direct-interrupts direct-timer direct-ipi direct-msi " \
                     "direct-halt direct-vfio"

static char *tmpdir;
static char *device_path;           /* stands for /dev/kvm */
static char *log_path;              /* what the fake KVM saw */
static char *err_path;              /* what QEMU wrote to stderr */
static char *bios_path;             /* an image of nothing */

/* A kernel for the next QEMU; a NULL member leaves the variable unset */
typedef struct Kernel {
    const char *hpkvm;              /* KVM_HPKVM_F_* on offer */
    const char *enable;             /* errno of KVM_ENABLE_CAP */
    const char *refuse;             /* "cpu reason irq culprit" */
    const char *lacks;              /* what makes the host unsuitable */
} Kernel;

static const Kernel patched = { .hpkvm = "0x3f" };
static const Kernel unpatched = { };
static const Kernel unsuitable = { .lacks = "no nested paging" };

static void set_or_unset(const char *name, const char *value)
{
    if (value) {
        g_setenv(name, value, true);
    } else {
        g_unsetenv(name);
    }
}

/* Let processes started from now on see the fake KVM, or none if NULL */
static void use_kernel(const Kernel *kernel)
{
    set_or_unset("LD_PRELOAD", kernel ? HPKVM_FAKE_KVM : NULL);
    set_or_unset("FAKE_KVM_DEVICE", kernel ? device_path : NULL);
    set_or_unset("FAKE_KVM_LOG", kernel ? log_path : NULL);
    set_or_unset("FAKE_KVM_HPKVM", kernel ? kernel->hpkvm : NULL);
    set_or_unset("FAKE_KVM_ENABLE", kernel ? kernel->enable : NULL);
    set_or_unset("FAKE_KVM_REFUSE", kernel ? kernel->refuse : NULL);
    set_or_unset("FAKE_KVM_LACKS", kernel ? kernel->lacks : NULL);
    if (kernel) {
        unlink(log_path);
    }
}

static char *read_file(const char *path)
{
    char *text;

    return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("");
}

static int count(const char *text, const char *what)
{
    int n = 0;

    while ((text = strstr(text, what))) {
        text += strlen(what);
        n++;
    }
    return n;
}

static int count_log(const char *what)
{
    g_autofree char *text = read_file(log_path);

    return count(text, what);
}

static void assert_contains(const char *text, const char *what)
{
    if (!strstr(text, what)) {
        g_test_message("'%s' is not in: %s", what, text);
        g_test_fail();
    }
}

static void assert_log(const char *what, int times)
{
    g_autofree char *text = read_file(log_path);

    if (count(text, what) != times) {
        g_test_message("expected %d times '%s' in the fake KVM's log: %s",
                       times, what, text);
        g_test_fail();
    }
}

static void assert_stderr(const char *what, int times)
{
    g_autofree char *text = read_file(err_path);

    if (count(text, what) != times) {
        g_test_message("expected %d times '%s' in: %s", times, what, text);
        g_test_fail();
    }
}

/* A VM whose KVM is @kernel; @accel are further properties of hpkvm */
static QTestState *start_vm(const Kernel *kernel, const char *accel,
                            const char *args)
{
    QTestState *qts;

    use_kernel(kernel);
    qts = qtest_initf("-accel hpkvm,device=%s%s%s -M pc -cpu qemu64 "
                      "-nodefaults -m 64 -bios %s %s 2>%s", device_path,
                      *accel ? "," : "", accel, bios_path, args, err_path);
    use_kernel(NULL);
    return qts;
}

/* Run a QEMU that is to end by itself; returns its exit status */
static int run_qemu(const Kernel *kernel, const char *args, char **out)
{
    g_autofree char *command = g_strdup_printf(
        "timeout --kill-after=5 60 %s -display none -nodefaults %s",
        getenv("QTEST_QEMU_BINARY"), args);
    g_autofree char *unused = NULL;
    g_autofree char *errors = NULL;
    int status;

    use_kernel(kernel);
    /* not to the test's own stdout, which is TAP */
    g_assert(g_spawn_command_line_sync(command, out ?: &unused, &errors,
                                       &status, NULL));
    use_kernel(NULL);
    g_assert(g_file_set_contents(err_path, errors, -1, NULL));
    g_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

static QDict *query(QTestState *qts)
{
    return qtest_qmp_assert_success_ref(qts, "{'execute': 'query-hpkvm'}");
}

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
    QDict *info = query(qts);
    g_autofree char *features = join(qdict_get_qlist(info, member));

    g_assert_cmpstr(features, ==, expected);
    qobject_unref(info);
}

/* What query-hpkvm says of one vCPU; the caller owns it */
static QDict *query_vcpu(QTestState *qts, int index)
{
    QDict *info = query(qts), *found = NULL;
    QListEntry *entry;

    QLIST_FOREACH_ENTRY(qdict_get_qlist(info, "vcpus"), entry) {
        QDict *vcpu = qobject_to(QDict, qlist_entry_obj(entry));

        if (qdict_get_int(vcpu, "cpu-index") == index) {
            found = qobject_ref(vcpu);
        }
    }
    qobject_unref(info);
    return found;
}

static void assert_bound(QTestState *qts, int index, int host_cpu)
{
    QDict *vcpu = query_vcpu(qts, index);

    g_assert(vcpu);
    g_assert_cmpstr(qdict_get_str(vcpu, "mode"), !=, "unbound");
    g_assert_cmpint(qdict_get_int(vcpu, "host-cpu"), ==, host_cpu);
    qobject_unref(vcpu);
}

static void assert_unbound(QTestState *qts, int index, const char *reason,
                           const char *message)
{
    QDict *vcpu = query_vcpu(qts, index);

    g_assert(vcpu);
    g_assert_cmpstr(qdict_get_str(vcpu, "mode"), ==, "unbound");
    g_assert(!qdict_haskey(vcpu, "host-cpu"));
    g_assert_cmpstr(qdict_get_str(vcpu, "reason"), ==, reason);
    assert_contains(qdict_get_str(vcpu, "message"), message);
    qobject_unref(vcpu);
}

static void wait_for_log(const char *what)
{
    for (int ms = 0; !count_log(what); ms += POLL_MS) {
        if (ms >= PATIENCE_MS) {
            g_autofree char *text = read_file(log_path);

            g_error("no '%s' in the fake KVM's log: %s", what, text);
        }
        g_usleep(POLL_MS * 1000);
    }
}

static void cont(QTestState *qts)
{
    qtest_qmp_assert_success(qts, "{'execute': 'cont'}");
}

static int vcpu_tid(QTestState *qts, int index)
{
    QDict *vcpu = query_vcpu(qts, index);
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

/* ------------------------------------------------------------- options */

static void test_help(void)
{
    static const char *const names[] = {
        "cpus=", "fallback=", "direct-interrupts=", "direct-timer=",
        "direct-ipi=", "direct-msi=", "direct-halt=", "direct-vfio=",
        "kernel-irqchip=",
        "turns the other direct-* off",
    };
    g_autofree char *out = NULL;
    g_autofree char *list = NULL;

    g_assert_cmpint(run_qemu(NULL, "-accel hpkvm,help", &out), ==, 0);
    for (int i = 0; i < ARRAY_SIZE(names); i++) {
        assert_contains(out, names[i]);
    }

    g_assert_cmpint(run_qemu(NULL, "-accel help", &list), ==, 0);
    assert_contains(list, "\nhpkvm\n");
    g_assert_cmpint(run_qemu(NULL, "-accel nosuch,help", NULL), ==, 1);
    assert_stderr("invalid accelerator nosuch", 1);
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
    { "nosuch=1", "Property 'hpkvm-accel.nosuch' not found" },
};

static void test_bad_value(const void *opaque)
{
    const BadValue *bad = opaque;
    g_autofree char *direct = g_strdup_printf("-M none -accel hpkvm,%s",
                                              bad->property);

    g_assert_cmpint(run_qemu(NULL, direct, NULL), ==, 1);
    assert_stderr(bad->message, 1);
    assert_stderr("-accel hpkvm,", 1);
}

static void test_bad_environment(void)
{
    g_setenv("QEMU_HPKVM", "fallback=off,cpus=5-2", true);
    g_assert_cmpint(run_qemu(NULL, "-M none -accel kvm", NULL), ==, 1);
    g_unsetenv("QEMU_HPKVM");
    assert_stderr("QEMU_HPKVM=fallback=off,cpus=5-2: '5-2' in cpus=5-2 runs "
                  "backwards; expected 2-5", 1);
}

/* --------------------------------------------------------- negotiation */

static void test_no_kvm(void)
{
    QTestState *qts = qtest_init("-M none -accel hpkvm,device=/nonexistent "
                                 "2>/dev/null");
    QDict *info = query(qts);

    g_assert(!qdict_get_bool(info, "enabled"));
    g_assert(!qdict_get_bool(info, "present"));
    assert_contains(qdict_get_str(info, "message"), "not the accelerator");
    g_assert(qlist_empty(qdict_get_qlist(info, "vcpus")));
    qobject_unref(info);
    qtest_quit(qts);

    g_assert_cmpint(run_qemu(NULL, "-M none -accel hpkvm,device=/nonexistent",
                             NULL), ==, 1);
    assert_stderr("Could not access KVM kernel module: No such file", 1);
}

static void test_no_kvm_tcg(void)
{
    QTestState *qts = qtest_init("-M none -accel hpkvm,device=/nonexistent "
                                 "-accel tcg 2>/dev/null");
    QDict *info = query(qts);
    g_autofree char *text = qtest_hmp(qts, "info hpkvm");

    g_assert(!qdict_get_bool(info, "enabled"));
    g_assert(!qdict_get_bool(info, "present"));
    assert_contains(text, "hpkvm support: disabled");
    qobject_unref(info);
    qtest_quit(qts);
}

static void test_unpatched(void)
{
    QTestState *qts = start_vm(&unpatched, "cpus=2-3", "-smp 2");
    QDict *info, *kvm;
    g_autofree char *text = NULL;

    wait_for_log("RUN vcpu=0\n");
    wait_for_log("RUN vcpu=1\n");
    info = query(qts);
    g_assert(!qdict_get_bool(info, "enabled"));
    g_assert(!qdict_get_bool(info, "present"));
    g_assert(qdict_get_bool(info, "fallback"));
    g_assert_cmpstr(qdict_get_str(info, "cpus"), ==, "2-3");
    assert_contains(qdict_get_str(info, "message"), "KVM_CAP_X86_HPKVM");
    assert_unbound(qts, 0, "not-enabled", "not enabled");
    assert_unbound(qts, 1, "not-enabled", "not enabled");
    assert_features(qts, "features", "");
    qobject_unref(info);

    kvm = qtest_qmp_assert_success_ref(qts, "{'execute': 'query-kvm'}");
    g_assert(qdict_get_bool(kvm, "enabled"));
    g_assert(qdict_get_bool(kvm, "present"));
    qobject_unref(kvm);

    text = qtest_hmp(qts, "info hpkvm");
    assert_contains(text, "hpkvm support: disabled: the host kernel has no");
    qtest_quit(qts);

    assert_log("ENABLE", 0);
    assert_log("BIND", 0);
    assert_stderr("hpkvm: ", 1);
    assert_stderr("running as ordinary KVM", 1);
}

/* A kernel that knows dedicated cores, but cannot have any, says why */
static void test_unsuitable(void)
{
    QTestState *qts = start_vm(&unsuitable, "cpus=2", "-smp 1");
    QDict *info = query(qts);

    g_assert(!qdict_get_bool(info, "enabled"));
    g_assert(!qdict_get_bool(info, "present"));
    g_assert_cmpstr(qdict_get_str(info, "message"), ==,
                    "the host cannot dedicate cores: no nested paging");
    qobject_unref(info);
    wait_for_log("RUN vcpu=0\n");
    qtest_quit(qts);

    assert_log("BIND", 0);
    assert_stderr("hpkvm: the host cannot dedicate cores: no nested paging: "
                  "running as ordinary KVM", 1);
}

static void test_unpatched_must(void)
{
    g_autofree char *args = g_strdup_printf(
        "-M pc -m 64 -bios %s -accel hpkvm,fallback=off,device=%s",
        bios_path, device_path);
    g_autofree char *with_kvm = g_strdup_printf(
        "%s -accel kvm,device=/nonexistent", args);

    g_assert_cmpint(run_qemu(&unpatched, args, NULL), ==, 1);
    assert_stderr("no support for dedicated cores (KVM_CAP_X86_HPKVM), and "
                  "fallback=off does not allow ordinary KVM", 1);
    assert_log("RUN", 0);

    /* the next -accel is the user's own choice, so it gets its turn */
    g_assert_cmpint(run_qemu(&unpatched, with_kvm, NULL), ==, 1);
    assert_stderr("failed to initialize kvm", 1);
}

static void test_machine_none(void)
{
    QTestState *qts;
    QDict *info;

    /* how libvirt asks what QEMU can do: no complaint, no failure */
    use_kernel(&unpatched);
    qts = qtest_initf("-M none -accel hpkvm,fallback=off,cpus=2,device=%s "
                      "2>%s", device_path, err_path);
    use_kernel(NULL);
    info = query(qts);
    g_assert(!qdict_get_bool(info, "enabled"));
    g_assert(!qdict_get_bool(info, "fallback"));
    qobject_unref(info);
    qtest_quit(qts);
    assert_stderr("hpkvm", 0);

    use_kernel(&patched);
    qts = qtest_initf("-M none -accel hpkvm,cpus=2,device=%s 2>%s",
                      device_path, err_path);
    use_kernel(NULL);
    info = query(qts);
    g_assert(qdict_get_bool(info, "enabled"));
    g_assert(qdict_get_bool(info, "present"));
    g_assert(!qdict_haskey(info, "message"));
    g_assert(qlist_empty(qdict_get_qlist(info, "vcpus")));
    qobject_unref(info);
    qtest_quit(qts);
    assert_stderr("hpkvm", 0);
    assert_log("BIND", 0);
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
    { "all", "0x3f", "", "ENABLE 0x3f\n", ALL_FEATURES, ALL_FEATURES },
    { "no-timer", "0x3f", "direct-timer=off", "ENABLE 0x3d\n",
      "direct-interrupts direct-ipi direct-msi direct-halt direct-vfio",
      ALL_FEATURES },
    { "no-ipi", "0x3f", "direct-ipi=off", "ENABLE 0x3b\n",
      "direct-interrupts direct-timer direct-msi direct-halt direct-vfio",
      ALL_FEATURES },
    { "no-msi", "0x3f", "direct-msi=off", "ENABLE 0x37\n",
      "direct-interrupts direct-timer direct-ipi direct-halt direct-vfio",
      ALL_FEATURES },
    { "no-halt", "0x3f", "direct-halt=off", "ENABLE 0x2f\n",
      "direct-interrupts direct-timer direct-ipi direct-msi direct-vfio",
      ALL_FEATURES },
    { "no-vfio", "0x3f", "direct-vfio=off", "ENABLE 0x1f\n",
      "direct-interrupts direct-timer direct-ipi direct-msi direct-halt",
      ALL_FEATURES },
    { "host-subset", "0x3", "", "ENABLE 0x3\n",
      "direct-interrupts direct-timer", "direct-interrupts direct-timer" },
    { "newer-host", "0xff", "", "ENABLE 0x3f\n", ALL_FEATURES, ALL_FEATURES },
};

static void test_features(const void *opaque)
{
    const FeatureCase *c = opaque;
    Kernel kernel = { .hpkvm = c->offered };
    QTestState *qts = start_vm(&kernel, c->accel, "-S");

    assert_features(qts, "features", c->features);
    assert_features(qts, "host-features", c->host_features);
    qtest_quit(qts);
    assert_log("ENABLE", 1);
    assert_log(c->requested, 1);
}

static void test_missing_technique(void)
{
    Kernel no_timer = { .hpkvm = "0x1d" }, no_base = { .hpkvm = "0x2" };
    QTestState *qts = start_vm(&no_timer, "", "-S");

    qtest_quit(qts);
    assert_stderr("hpkvm: the host kernel does not offer direct-timer\n", 1);

    qts = start_vm(&no_base, "", "-S");
    qtest_quit(qts);
    assert_stderr("does not offer direct-interrupts: running as ordinary KVM",
                  1);
    assert_log("ENABLE", 0);
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
        bios_path, device_path, c->accel);

    g_assert_cmpint(run_qemu(&patched, args, NULL), ==, 1);
    assert_stderr(c->message, 1);
    assert_log("ENABLE", 0);
    assert_log("RUN", 0);
}

typedef struct IrteCase {
    const char *name;
    const char *offered;            /* by the kernel, NULL: not patched */
    const char *accel;
    const char *message;            /* of irte=on */
} IrteCase;

static const IrteCase irte_cases[] = {
    { "kvm", "0x3f", "kvm", "irte=on: hpkvm is not the accelerator" },
    { "unpatched", NULL, "hpkvm",
      "irte=on: the host kernel has no support for dedicated cores" },
    { "no-remapping", "0x1f", "hpkvm",
      "irte=on: the host does not offer direct-vfio" },
    { "switched-off", "0x3f", "hpkvm,direct-vfio=off",
      "irte=on: direct-vfio=off" },
};

/* With irte=on a host that cannot do it is an error, and it says why */
static void test_irte_on(const void *opaque)
{
    const IrteCase *c = opaque;
    Kernel kernel = { .hpkvm = c->offered };
    g_autofree char *args = g_strdup_printf(
        "-M q35 -m 64 -bios %s -accel %s,device=%s "
        "-device vfio-hp-pci,irte=on,host=0000:00:1f.7",
        bios_path, c->accel, device_path);

    g_assert_cmpint(run_qemu(&kernel, args, NULL), ==, 1);
    assert_stderr(c->message, 1);
    assert_stderr("Use irte=auto to do without", 1);
    assert_log("RUN", 0);
}

/* Where it can, the device itself is what is missing here */
static void test_irte_possible(void)
{
    static const char *const policies[] = { "on", "auto", "off" };

    for (int i = 0; i < ARRAY_SIZE(policies); i++) {
        g_autofree char *args = g_strdup_printf(
            "-M q35 -m 64 -bios %s -accel hpkvm,device=%s "
            "-device vfio-hp-pci,irte=%s,host=ffff:ff:1f.7",
            bios_path, device_path, policies[i]);

        g_assert_cmpint(run_qemu(&patched, args, NULL), ==, 1);
        assert_stderr("no such host device", 1);
        assert_stderr("irte=on: ", 0);
    }
}

static void test_irte_bad_value(void)
{
    g_autofree char *args = g_strdup_printf(
        "-M q35 -m 64 -bios %s -accel hpkvm,device=%s "
        "-device vfio-hp-pci,irte=maybe,host=0000:00:1f.7",
        bios_path, device_path);

    g_assert_cmpint(run_qemu(&patched, args, NULL), ==, 1);
    assert_stderr("'maybe'", 1);
}

/* The base of all techniques is off, so the others are */
static void test_no_interrupts(void)
{
    QTestState *qts = start_vm(&patched, "direct-interrupts=off,cpus=2", "");

    wait_for_log("RUN vcpu=0\n");
    assert_features(qts, "features", "");
    assert_features(qts, "host-features", ALL_FEATURES);
    assert_unbound(qts, 0, "not-enabled", "not enabled");
    qtest_quit(qts);
    assert_log("ENABLE", 0);
    assert_log("BIND", 0);
    assert_stderr("direct-interrupts=off turns every technique off: running "
                  "as ordinary KVM\n", 1);
}

static void test_userspace_irqchip(void)
{
    /* QEMU's own LAPIC does not work with KVM */
    QTestState *qts = start_vm(&patched, "kernel-irqchip=off",
                               "-cpu qemu64,apic=off -S");
    QDict *info = query(qts);

    g_assert(qdict_get_bool(info, "present"));
    g_assert(!qdict_get_bool(info, "enabled"));
    assert_contains(qdict_get_str(info, "message"), "kernel-irqchip=off");
    qobject_unref(info);
    qtest_quit(qts);
    assert_log("ENABLE", 0);
    assert_stderr("hpkvm: ", 1);
}

/* libvirt's <ioapic driver='qemu'/>: there still is a LAPIC in the kernel */
static void test_split_irqchip(void)
{
    QTestState *qts = start_vm(&patched, "cpus=2", "-M kernel-irqchip=split");

    wait_for_log("RUN vcpu=0\n");
    assert_bound(qts, 0, 2);
    qtest_quit(qts);
}

static void test_enable_refused(void)
{
    g_autofree char *einval = g_strdup_printf("%d", EINVAL);
    Kernel kernel = { .hpkvm = "0x3f", .enable = einval };
    g_autofree char *args = g_strdup_printf(
        "-M pc -m 64 -bios %s -accel hpkvm,fallback=off,device=%s",
        bios_path, device_path);
    QTestState *qts = start_vm(&kernel, "cpus=2", "");

    wait_for_log("RUN vcpu=0\n");
    assert_unbound(qts, 0, "not-enabled", "not enabled");
    qtest_quit(qts);
    assert_stderr("refused the capability: Invalid argument: running as "
                  "ordinary KVM", 1);
    assert_log("BIND", 0);

    g_assert_cmpint(run_qemu(&kernel, args, NULL), ==, 1);
    assert_stderr("refused the capability: Invalid argument, and "
                  "fallback=off", 1);
    assert_log("RUN", 0);
}

/* ------------------------------------------------------------- binding */

static void test_bind_list(void)
{
    QTestState *qts = start_vm(&patched, "cpus=6,,3", "-smp 2 -S");
    g_autofree char *bind0 = NULL;
    g_autofree char *bind1 = NULL;
    g_autofree char *log = NULL;
    g_autofree char *text = NULL;
    QDict *vcpu;

    /* libvirt pins now: nothing may be taken yet */
    assert_log("BIND", 0);
    assert_unbound(qts, 0, "not-bound", "owns no core");

    cont(qts);
    wait_for_log("RUN vcpu=0\n");
    wait_for_log("RUN vcpu=1\n");
    assert_bound(qts, 0, 6);
    assert_bound(qts, 1, 3);

    /* by the vCPU's own thread, and all before any of them runs */
    bind0 = g_strdup_printf("BIND vcpu=0 cpu=6 tid=%d\n", vcpu_tid(qts, 0));
    bind1 = g_strdup_printf("BIND vcpu=1 cpu=3 tid=%d\n", vcpu_tid(qts, 1));
    assert_log(bind0, 1);
    assert_log(bind1, 1);
    log = read_file(log_path);
    g_assert(strstr(log, bind0) < strstr(log, "RUN"));
    g_assert(strstr(log, bind1) < strstr(log, "RUN"));

    vcpu = query_vcpu(qts, 0);
    g_assert_cmpstr(qdict_get_str(vcpu, "mode"), ==, "emulated");
    g_assert_cmpstr(qdict_get_str(vcpu, "reason"), ==, "lapic-mode");
    assert_contains(qdict_get_str(vcpu, "message"), "x2APIC");
    qobject_unref(vcpu);

    vcpu = query_vcpu(qts, 1);
    g_assert_cmpstr(qdict_get_str(vcpu, "mode"), ==, "passthrough");
    g_assert_cmpstr(qdict_get_str(vcpu, "reason"), ==, "none");
    g_assert(!qdict_haskey(vcpu, "message"));
    g_assert_cmpint(qdict_get_int(vcpu, "promotions"), ==, 11);
    g_assert_cmpint(qdict_get_int(vcpu, "demotions"), ==, 12);
    g_assert_cmpint(qdict_get_int(vcpu, "captured"), ==, 13);
    g_assert_cmpint(qdict_get_int(vcpu, "injected"), ==, 14);
    g_assert_cmpint(qdict_get_int(vcpu, "direct-sent"), ==, 15);
    g_assert_cmpint(qdict_get_int(vcpu, "kicks"), ==, 16);
    qobject_unref(vcpu);

    text = qtest_hmp(qts, "info hpkvm");
    assert_contains(text, "hpkvm support: enabled");
    assert_contains(text, "features: " ALL_FEATURES);
    assert_contains(text, "vCPU 0: emulated on cpu 6: the guest's LAPIC is "
                    "not in x2APIC mode");
    assert_contains(text, "vCPU 1: passthrough on cpu 3");
    assert_contains(text, "promotions 11, demotions 12, captured 13, "
                    "injected 14, direct-sent 15, kicks 16");
    qtest_quit(qts);

    assert_stderr("hpkvm: ", 1);
    assert_stderr("hpkvm: 2 of 2 vCPUs own a core: vCPU 0 on cpu 6, vCPU 1 "
                  "on cpu 3\n", 1);
}

static void test_pause_and_reset(void)
{
    QTestState *qts = start_vm(&patched, "cpus=2-3", "-smp 2");

    wait_for_log("RUN vcpu=1\n");
    for (int i = 0; i < 3; i++) {
        qtest_qmp_assert_success(qts, "{'execute': 'stop'}");
        assert_bound(qts, 0, 2);
        cont(qts);
        qtest_qmp_assert_success(qts, "{'execute': 'system_reset'}");
        qtest_qmp_eventwait(qts, "RESET");
        assert_bound(qts, 1, 3);
    }
    qtest_quit(qts);
    assert_log("BIND vcpu=", 2);
    assert_log("UNBIND", 0);
    assert_stderr("hpkvm: ", 1);
}

static void test_list_exhausted(void)
{
    g_autofree char *args = g_strdup_printf(
        "-M pc -m 64 -bios %s -smp 2 -accel hpkvm,fallback=off,cpus=2,"
        "device=%s", bios_path, device_path);
    QTestState *qts = start_vm(&patched, "cpus=2", "-smp 2");

    wait_for_log("RUN vcpu=1\n");
    assert_bound(qts, 0, 2);
    assert_unbound(qts, 1, "list-exhausted", "cpus= has no CPU left for it");
    qtest_quit(qts);
    assert_stderr("hpkvm: 1 of 2 vCPUs own a core: vCPU 0 on cpu 2, vCPU 1 "
                  "as under KVM (cpus= has no CPU left for it)\n", 1);

    g_assert_cmpint(run_qemu(&patched, args, NULL), ==, 1);
    assert_stderr("cpus= names 1 host CPU(s) for 2 vCPUs, and fallback=off",
                  1);
    assert_log("RUN", 0);
}

static const struct {
    const char *reason;
    int number;
    const char *rest;               /* irq and culprit */
    const char *message;
} refusals[] = {
    { "cpu-irq", KVM_HPKVM_REASON_CPU_IRQ, "45 nvme0q3",
      "irq 45 nvme0q3 is bound to cpu 3" },
    { "cpu-leased", KVM_HPKVM_REASON_CPU_LEASED, "0",
      "another vCPU owns cpu 3" },
    { "cpu-invalid", KVM_HPKVM_REASON_CPU_INVALID, "0",
      "the host has no cpu 3" },
    { "cpu-offline", KVM_HPKVM_REASON_CPU_OFFLINE, "0", "cpu 3 is offline" },
    { "cpu-not-allowed", KVM_HPKVM_REASON_CPU_NOT_ALLOWED, "0",
      "cpu 3 is outside of QEMU's cpuset" },
    { "cpu-last", KVM_HPKVM_REASON_CPU_LAST, "0",
      "cpu 3 is the host's last housekeeping CPU" },
    { "no-permission", KVM_HPKVM_REASON_NO_PERMISSION, "0",
      "cpu 3 is not isolated and QEMU lacks CAP_SYS_NICE" },
    { "host-unsuitable", KVM_HPKVM_REASON_HOST_UNSUITABLE, "0 FRED",
      "the host cannot dedicate cores: FRED" },
    { "unknown", 12345, "0", "no reason known to this QEMU" },
    { "unknown", KVM_HPKVM_REASON_NONE, "0", "Device or resource busy" },
};

static void test_refused(void)
{
    for (int i = 0; i < ARRAY_SIZE(refusals); i++) {
        g_autofree char *refuse = g_strdup_printf("3 %d %s",
            refusals[i].number, refusals[i].rest);
        Kernel kernel = { .hpkvm = "0x3f", .refuse = refuse };
        QTestState *qts = start_vm(&kernel, "cpus=2-3", "-smp 2");
        g_autofree char *text = NULL;

        wait_for_log("RUN vcpu=1\n");
        assert_bound(qts, 0, 2);
        assert_unbound(qts, 1, refusals[i].reason, refusals[i].message);
        text = qtest_hmp(qts, "info hpkvm");
        assert_contains(text, "vCPU 1: unbound: ");
        assert_contains(text, refusals[i].message);
        qtest_quit(qts);

        assert_stderr("hpkvm: ", 1);
        assert_stderr("1 of 2 vCPUs own a core: vCPU 0 on cpu 2, vCPU 1 as "
                      "under KVM (", 1);
        assert_stderr(refusals[i].message, 1);
    }
}

static void test_refused_must(void)
{
    g_autofree char *refuse = g_strdup_printf("3 %d 45 nvme0q3",
                                              KVM_HPKVM_REASON_CPU_IRQ);
    Kernel kernel = { .hpkvm = "0x3f", .refuse = refuse };
    g_autofree char *args = g_strdup_printf(
        "-M pc -m 64 -bios %s -smp 2 -accel hpkvm,fallback=off,cpus=2-3,"
        "device=%s", bios_path, device_path);

    g_assert_cmpint(run_qemu(&kernel, args, NULL), ==, 1);
    assert_stderr("1 of 2 vCPUs own a core, and fallback=off does not allow "
                  "ordinary KVM: vCPU 0 on cpu 2, vCPU 1 refused (irq 45 "
                  "nvme0q3 is bound to cpu 3)\n", 1);
    assert_log("BIND vcpu=0", 1);
    assert_log("RUN", 0);
}

static void test_unpinned_must(void)
{
    g_autofree char *args = g_strdup_printf(
        "-M pc -m 64 -bios %s -accel hpkvm,fallback=off,device=%s",
        bios_path, device_path);
    int cpus[2];

    if (!two_cpus(cpus)) {
        return;
    }
    g_assert_cmpint(run_qemu(&patched, args, NULL), ==, 1);
    assert_stderr("its thread is not pinned to one host CPU", 1);
    assert_log("RUN", 0);
}

/* What libvirt says for every domain, or "" where QEMU has no sandbox */
static const char *sandbox(void)
{
    if (run_qemu(NULL, "-sandbox on -accel help", NULL)) {
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
    qts = start_vm(&patched, "fallback=off", args);
    pin(vcpu_tid(qts, 0), cpus[1]);
    pin(vcpu_tid(qts, 1), cpus[0]);
    assert_log("BIND", 0);
    cont(qts);
    wait_for_log("RUN vcpu=0\n");
    wait_for_log("RUN vcpu=1\n");
    assert_bound(qts, 0, cpus[1]);
    assert_bound(qts, 1, cpus[0]);
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
    qts = start_vm(&patched, "", "-smp 2");
    wait_for_log("RUN vcpu=0\n");
    wait_for_log("RUN vcpu=1\n");
    assert_unbound(qts, 0, "not-pinned", "not pinned to one host CPU");
    assert_unbound(qts, 1, "not-pinned", "not pinned to one host CPU");
    assert_log("BIND", 0);

    pin(vcpu_tid(qts, 1), cpus[1]);
    bind = g_strdup_printf("BIND vcpu=1 cpu=%d", cpus[1]);
    wait_for_log(bind);
    assert_bound(qts, 1, cpus[1]);
    assert_unbound(qts, 0, "not-pinned", "not pinned to one host CPU");
    qtest_quit(qts);
    assert_log("BIND", 1);
    assert_stderr("hpkvm: 0 of 2 vCPUs own a core", 1);
    assert_stderr("hpkvm: 1 of 2 vCPUs own a core", 1);
    assert_stderr("hpkvm: ", 2);
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
    qts = start_vm(&patched, "", "-smp 2 -S");
    pin(vcpu_tid(qts, 0), cpus[0]);
    pin(vcpu_tid(qts, 1), cpus[1]);
    qtest_qmp_assert_success(qts, "{ 'execute': 'cont' }");
    wait_for_log("RUN vcpu=0\n");
    wait_for_log("RUN vcpu=1\n");
    assert_bound(qts, 0, cpus[0]);
    assert_bound(qts, 1, cpus[1]);
    assert_log("BIND", 2);

    pin(vcpu_tid(qts, 0), cpus[1]);
    pin(vcpu_tid(qts, 1), cpus[0]);
    bind0 = g_strdup_printf("BIND vcpu=0 cpu=%d", cpus[1]);
    bind1 = g_strdup_printf("BIND vcpu=1 cpu=%d", cpus[0]);
    wait_for_log(bind0);
    wait_for_log(bind1);
    assert_bound(qts, 0, cpus[1]);
    assert_bound(qts, 1, cpus[0]);
    assert_log("UNBIND vcpu=0", 1);
    assert_log("UNBIND vcpu=1", 1);
    qtest_quit(qts);
}

/* A pin that is refused is not asked for again and again */
static void test_pinned_refused(void)
{
    g_autofree char *refuse = NULL;
    Kernel kernel = { .hpkvm = "0x3f" };
    QTestState *qts;
    int cpus[2];

    if (!two_cpus(cpus)) {
        return;
    }
    refuse = g_strdup_printf("%d %d 0 x", cpus[0],
                             KVM_HPKVM_REASON_CPU_TIMEKEEPER);
    kernel.refuse = refuse;
    qts = start_vm(&kernel, "", "-S");
    pin(vcpu_tid(qts, 0), cpus[0]);
    cont(qts);
    wait_for_log("RUN vcpu=0\n");
    g_usleep(QUIET_MS * 1000);
    assert_unbound(qts, 0, "cpu-timekeeper", "keeps the host's time");
    assert_log("BIND", 1);

    pin(vcpu_tid(qts, 0), cpus[1]);
    for (int ms = 0; count_log("BIND") < 2 && ms < PATIENCE_MS;
         ms += POLL_MS) {
        g_usleep(POLL_MS * 1000);
    }
    assert_bound(qts, 0, cpus[1]);
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
    qts = start_vm(&patched, accel, "");
    g_assert_cmpint(sched_setaffinity(0, sizeof(all), &all), ==, 0);

    wait_for_log("RUN vcpu=0\n");
    assert_unbound(qts, 0, "emulator-confined", "the rest of QEMU");
    qtest_quit(qts);
    assert_log("BIND", 0);
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
    QTestState *qts = start_vm(&patched, "cpus=2-4", "-smp 1,maxcpus=4");

    wait_for_log("RUN vcpu=0\n");
    /* vCPU i takes the i-th, whatever is plugged before it */
    plug_vcpu(qts, 2);
    wait_for_log("RUN vcpu=2\n");
    assert_bound(qts, 0, 2);
    assert_bound(qts, 2, 4);
    /* one beyond the end takes what is left */
    plug_vcpu(qts, 3);
    wait_for_log("RUN vcpu=3\n");
    assert_bound(qts, 3, 3);
    qtest_quit(qts);
    assert_stderr("hpkvm: 2 of 2 vCPUs own a core", 1);
    assert_stderr("hpkvm: 3 of 3 vCPUs own a core", 1);
}

/* A running VM is not ended for a vCPU that gets no core: that one waits */
static void test_hotplug_must(void)
{
    QTestState *qts = start_vm(&patched, "fallback=off,cpus=2",
                               "-smp 1,maxcpus=2");
    QDict *status;

    wait_for_log("RUN vcpu=0\n");
    plug_vcpu(qts, 1);
    g_usleep(QUIET_MS * 1000);
    assert_unbound(qts, 1, "list-exhausted", "no CPU left");
    assert_log("RUN vcpu=1", 0);
    status = qtest_qmp_assert_success_ref(qts, "{'execute': 'query-status'}");
    g_assert_cmpstr(qdict_get_str(status, "status"), ==, "running");
    qobject_unref(status);

    /* it obeys even so */
    qtest_qmp_assert_success(qts, "{'execute': 'stop'}");
    qtest_quit(qts);
    assert_stderr("vCPU 1 refused (cpus= has no CPU left for it)", 1);
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
    qts = start_vm(&patched, "fallback=off", args);
    pin(vcpu_tid(qts, 0), cpus[0]);
    cont(qts);
    wait_for_log("RUN vcpu=0\n");
    plug_vcpu(qts, 1);
    g_usleep(QUIET_MS * 1000);
    assert_log("RUN vcpu=1", 0);
    pin(vcpu_tid(qts, 1), cpus[1]);
    wait_for_log("RUN vcpu=1\n");
    assert_bound(qts, 1, cpus[1]);
    qtest_quit(qts);
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

    set_or_unset("QEMU_HPKVM", c->env);
    use_kernel(&patched);
    qts = qtest_initf("-M none -accel %s,device=%s", c->accel, device_path);
    use_kernel(NULL);
    g_unsetenv("QEMU_HPKVM");

    info = query(qts);
    g_assert_cmpint(qdict_get_bool(info, "enabled"), ==, c->promoted);
    g_assert_cmpstr(qdict_get_try_str(info, "cpus"), ==, c->cpus);
    qobject_unref(info);
    qtest_quit(qts);
}

static void test_promote_by_name(void)
{
    g_autofree char *program = g_build_filename(tmpdir,
        "qemu-system-x86_64-hpkvm", NULL);
    g_autofree char *binary = g_canonicalize_filename(
        getenv("QTEST_QEMU_BINARY"), NULL);
    g_autofree char *args = g_strdup_printf(
        "timeout --kill-after=5 60 %s -display none -nodefaults -M pc -m 64 "
        "-bios %s -accel kvm,device=%s", program, bios_path, device_path);
    g_autofree char *must = g_strdup_printf("%s,fallback=off", args);
    g_autofree char *errors = NULL;
    int status;

    g_assert_cmpint(symlink(binary, program), ==, 0);
    use_kernel(&unpatched);
    g_assert(g_spawn_command_line_sync(must, NULL, &errors, &status, NULL));
    use_kernel(NULL);
    unlink(program);
    g_assert(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    assert_contains(errors, "KVM_CAP_X86_HPKVM");
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
                      "-smp 2 -bios %s 2>%s", bios_path, err_path);
    info = query(qts);
    g_assert_cmpint(qdict_get_bool(info, "present"), ==, features > 0);
    if (!features) {
        g_assert(!qdict_get_bool(info, "enabled"));
        assert_unbound(qts, 1, "not-enabled", "not enabled");
        assert_stderr("running as ordinary KVM", 1);
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

        assert_contains(kvm, "\"return\"");
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
    for (int i = 0; i < ARRAY_SIZE(irte_cases); i++) {
        g_autofree char *path = g_strdup_printf("hpkvm/irte/on/%s",
                                                irte_cases[i].name);
        qtest_add_data_func(path, &irte_cases[i], test_irte_on);
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

static void make_files(void)
{
    g_autofree char *nothing = g_malloc0(64 * KiB);

    tmpdir = g_dir_make_tmp("hpkvm-test-XXXXXX", NULL);
    g_assert(tmpdir);
    device_path = g_build_filename(tmpdir, "kvm", NULL);
    log_path = g_build_filename(tmpdir, "log", NULL);
    err_path = g_build_filename(tmpdir, "stderr", NULL);
    bios_path = g_build_filename(tmpdir, "bios", NULL);
    g_assert(g_file_set_contents(device_path, "", 0, NULL));
    g_assert(g_file_set_contents(bios_path, nothing, 64 * KiB, NULL));
}

static void remove_files(void)
{
    unlink(device_path);
    unlink(log_path);
    unlink(err_path);
    unlink(bios_path);
    rmdir(tmpdir);
    g_free(device_path);
    g_free(log_path);
    g_free(err_path);
    g_free(bios_path);
    g_free(tmpdir);
}

int main(int argc, char **argv)
{
    int ret;

    g_test_init(&argc, &argv, NULL);
    g_test_set_nonfatal_assertions();
    make_files();

    qtest_add_func("hpkvm/options/help", test_help);
    qtest_add_func("hpkvm/options/bad-environment", test_bad_environment);
    qtest_add_func("hpkvm/no-kvm/qtest", test_no_kvm);
    qtest_add_func("hpkvm/no-kvm/tcg", test_no_kvm_tcg);
    qtest_add_func("hpkvm/unpatched/fallback", test_unpatched);
    qtest_add_func("hpkvm/unpatched/must", test_unpatched_must);
    qtest_add_func("hpkvm/unsuitable", test_unsuitable);
    qtest_add_func("hpkvm/machine-none", test_machine_none);
    qtest_add_func("hpkvm/missing-technique", test_missing_technique);
    qtest_add_func("hpkvm/no-interrupts", test_no_interrupts);
    qtest_add_func("hpkvm/userspace-irqchip", test_userspace_irqchip);
    qtest_add_func("hpkvm/split-irqchip", test_split_irqchip);
    qtest_add_func("hpkvm/enable-refused", test_enable_refused);
    qtest_add_func("hpkvm/bind/list", test_bind_list);
    qtest_add_func("hpkvm/bind/pause-and-reset", test_pause_and_reset);
    qtest_add_func("hpkvm/bind/list-exhausted", test_list_exhausted);
    qtest_add_func("hpkvm/bind/refused", test_refused);
    qtest_add_func("hpkvm/bind/refused-must", test_refused_must);
    qtest_add_func("hpkvm/bind/unpinned-must", test_unpinned_must);
    qtest_add_func("hpkvm/bind/pinned", test_pinned);
    qtest_add_func("hpkvm/bind/pinned-later", test_pinned_later);
    qtest_add_func("hpkvm/bind/pinned-elsewhere", test_pinned_elsewhere);
    qtest_add_func("hpkvm/bind/pinned-refused", test_pinned_refused);
    qtest_add_func("hpkvm/bind/emulator-confined", test_emulator_confined);
    qtest_add_func("hpkvm/hotplug/list", test_hotplug);
    qtest_add_func("hpkvm/hotplug/must", test_hotplug_must);
    qtest_add_func("hpkvm/hotplug/pinned", test_hotplug_pinned);
    qtest_add_func("hpkvm/irte/possible", test_irte_possible);
    qtest_add_func("hpkvm/irte/bad-value", test_irte_bad_value);
    qtest_add_func("hpkvm/promote-by-name", test_promote_by_name);
    qtest_add_func("hpkvm/real-kvm/run", test_real_kvm);
    qtest_add_func("hpkvm/real-kvm/same-answers", test_real_kvm_same);
    add_tables();

    ret = g_test_run();
    remove_files();
    return ret;
}
