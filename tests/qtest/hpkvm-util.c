/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest: what the tests of the HPKVM accelerator have in common
 *
 * Owns the fake KVM that is preloaded into QEMU (hpkvm-fake-kvm.c): what it
 * offers, the files that it and QEMU leave behind, and assertions about them
 * and about query-hpkvm.  Must not know what a test is about.
 */

#include "qemu/osdep.h"
#include "qemu/units.h"

#include "libqtest.h"
#include "qobject/qdict.h"
#include "qobject/qlist.h"
#include "hpkvm-util.h"
#include "hpkvm-fake-kvm.h"

HpkvmFiles hpkvm_files;

const HpkvmKernel hpkvm_patched = { .hpkvm = "0x3f" };

static void set_or_unset(const char *name, const char *value)
{
    if (value) {
        g_setenv(name, value, true);
    } else {
        g_unsetenv(name);
    }
}

void hpkvm_use_kernel(const HpkvmKernel *kernel)
{
    set_or_unset("LD_PRELOAD", kernel ? HPKVM_FAKE_KVM : NULL);
    set_or_unset("FAKE_KVM_DEVICE", kernel ? hpkvm_files.device : NULL);
    set_or_unset("FAKE_KVM_LOG", kernel ? hpkvm_files.log : NULL);
    set_or_unset("FAKE_KVM_HPKVM", kernel ? kernel->hpkvm : NULL);
    set_or_unset("FAKE_KVM_ENABLE", kernel ? kernel->enable : NULL);
    set_or_unset("FAKE_KVM_TIMER", kernel ? kernel->timer : NULL);
    set_or_unset("FAKE_KVM_BUS", kernel ? kernel->bus : NULL);
    set_or_unset("FAKE_KVM_REFUSE", kernel ? kernel->refuse : NULL);
    set_or_unset("FAKE_KVM_UNTIL", kernel ? kernel->until : NULL);
    set_or_unset("FAKE_KVM_ONLINE", kernel ? kernel->online : NULL);
    set_or_unset("FAKE_KVM_LACKS", kernel ? kernel->lacks : NULL);
    if (kernel) {
        unlink(hpkvm_files.log);
    }
}

static char *read_file(const char *path)
{
    char *text;

    return g_file_get_contents(path, &text, NULL, NULL) ? text : g_strdup("");
}

char *hpkvm_read_log(void)
{
    return read_file(hpkvm_files.log);
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

int hpkvm_count_log(const char *what)
{
    g_autofree char *text = hpkvm_read_log();

    return count(text, what);
}

void hpkvm_assert_contains(const char *text, const char *what)
{
    if (!strstr(text, what)) {
        g_test_message("'%s' is not in: %s", what, text);
        g_test_fail();
    }
}

void hpkvm_assert_log(const char *what, int times)
{
    g_autofree char *text = hpkvm_read_log();

    if (count(text, what) != times) {
        g_test_message("expected %d times '%s' in the fake KVM's log: %s",
                       times, what, text);
        g_test_fail();
    }
}

void hpkvm_assert_stderr(const char *what, int times)
{
    g_autofree char *text = read_file(hpkvm_files.err);

    if (count(text, what) != times) {
        g_test_message("expected %d times '%s' in: %s", times, what, text);
        g_test_fail();
    }
}

QTestState *hpkvm_start_vm(const HpkvmKernel *kernel, const char *accel,
                           const char *args)
{
    QTestState *qts;

    hpkvm_use_kernel(kernel);
    qts = qtest_initf("-accel hpkvm,device=%s%s%s -M pc -cpu qemu64 "
                      "-nodefaults -m 64 -bios %s %s 2>%s",
                      hpkvm_files.device, *accel ? "," : "", accel,
                      hpkvm_files.bios, args, hpkvm_files.err);
    hpkvm_use_kernel(NULL);
    return qts;
}

int hpkvm_run_qemu(const HpkvmKernel *kernel, const char *args, char **out)
{
    g_autofree char *command = g_strdup_printf(
        "timeout --kill-after=5 60 %s -display none -nodefaults %s",
        getenv("QTEST_QEMU_BINARY"), args);
    g_autofree char *unused = NULL;
    g_autofree char *errors = NULL;
    int status;

    hpkvm_use_kernel(kernel);
    /* not to the test's own stdout, which is TAP */
    g_assert(g_spawn_command_line_sync(command, out ?: &unused, &errors,
                                       &status, NULL));
    hpkvm_use_kernel(NULL);
    g_assert(g_file_set_contents(hpkvm_files.err, errors, -1, NULL));
    g_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

QDict *hpkvm_query(QTestState *qts)
{
    return qtest_qmp_assert_success_ref(qts, "{'execute': 'query-hpkvm'}");
}

QDict *hpkvm_query_vcpu(QTestState *qts, int index)
{
    QDict *info = hpkvm_query(qts), *found = NULL;
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

void hpkvm_assert_bound(QTestState *qts, int index, int host_cpu)
{
    QDict *vcpu = hpkvm_query_vcpu(qts, index);

    g_assert(vcpu);
    g_assert_cmpstr(qdict_get_str(vcpu, "mode"), !=, "unbound");
    g_assert_cmpstr(qdict_get_str(vcpu, "mode"), !=, "waiting");
    g_assert_cmpint(qdict_get_int(vcpu, "host-cpu"), ==, host_cpu);
    qobject_unref(vcpu);
}

static void assert_no_core(QTestState *qts, int index, const char *mode,
                           const char *reason, const char *message)
{
    QDict *vcpu = hpkvm_query_vcpu(qts, index);

    g_assert(vcpu);
    g_assert_cmpstr(qdict_get_str(vcpu, "mode"), ==, mode);
    g_assert(!qdict_haskey(vcpu, "host-cpu"));
    g_assert(qdict_haskey(vcpu, "waited") == !strcmp(mode, "waiting"));
    g_assert_cmpstr(qdict_get_str(vcpu, "reason"), ==, reason);
    hpkvm_assert_contains(qdict_get_str(vcpu, "message"), message);
    qobject_unref(vcpu);
}

void hpkvm_assert_unbound(QTestState *qts, int index, const char *reason,
                          const char *message)
{
    assert_no_core(qts, index, "unbound", reason, message);
}

void hpkvm_assert_waiting(QTestState *qts, int index, const char *reason,
                          const char *message)
{
    assert_no_core(qts, index, "waiting", reason, message);
}

void hpkvm_wait_for_log(const char *what)
{
    for (int ms = 0; !hpkvm_count_log(what); ms += HPKVM_POLL_MS) {
        if (ms >= HPKVM_PATIENCE_MS) {
            g_autofree char *text = hpkvm_read_log();

            g_error("no '%s' in the fake KVM's log: %s", what, text);
        }
        g_usleep(HPKVM_POLL_MS * 1000);
    }
}

static void make_files(void)
{
    g_autofree char *nothing = g_malloc0(64 * KiB);

    hpkvm_files.dir = g_dir_make_tmp("hpkvm-test-XXXXXX", NULL);
    g_assert(hpkvm_files.dir);
    hpkvm_files.device = g_build_filename(hpkvm_files.dir, "kvm", NULL);
    hpkvm_files.log = g_build_filename(hpkvm_files.dir, "log", NULL);
    hpkvm_files.err = g_build_filename(hpkvm_files.dir, "stderr", NULL);
    hpkvm_files.bios = g_build_filename(hpkvm_files.dir, "bios", NULL);
    g_assert(g_file_set_contents(hpkvm_files.device, "", 0, NULL));
    g_assert(g_file_set_contents(hpkvm_files.bios, nothing, 64 * KiB, NULL));
}

static void remove_files(void)
{
    unlink(hpkvm_files.device);
    unlink(hpkvm_files.log);
    unlink(hpkvm_files.err);
    unlink(hpkvm_files.bios);
    rmdir(hpkvm_files.dir);
    g_free(hpkvm_files.device);
    g_free(hpkvm_files.log);
    g_free(hpkvm_files.err);
    g_free(hpkvm_files.bios);
    g_free(hpkvm_files.dir);
}

void hpkvm_test_init(int *argc, char ***argv)
{
    g_test_init(argc, argv, NULL);
    g_test_set_nonfatal_assertions();
    make_files();
}

int hpkvm_test_run(void)
{
    int ret = g_test_run();

    remove_files();
    return ret;
}
