/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * QTest: vfio-hp-pci's irte=, as far as it goes without a device to assign
 *
 * Owns what is refused before the device is opened, and that it is opened
 * otherwise.
 */

#include "qemu/osdep.h"

#include "libqtest.h"
#include "hpkvm-util.h"

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
    HpkvmKernel kernel = { .hpkvm = c->offered };
    g_autofree char *args = g_strdup_printf(
        "-M q35 -m 64 -bios %s -accel %s,device=%s "
        "-device vfio-hp-pci,irte=on,host=0000:00:1f.7",
        hpkvm_files.bios, c->accel, hpkvm_files.device);

    g_assert_cmpint(hpkvm_run_qemu(&kernel, args, NULL), ==, 1);
    hpkvm_assert_stderr(c->message, 1);
    hpkvm_assert_stderr("Use irte=auto to do without", 1);
    hpkvm_assert_log("RUN", 0);
}

/* Where it can, the device itself is what is missing here */
static void test_irte_possible(void)
{
    static const char *const policies[] = { "on", "auto", "off" };

    for (int i = 0; i < ARRAY_SIZE(policies); i++) {
        g_autofree char *args = g_strdup_printf(
            "-M q35 -m 64 -bios %s -accel hpkvm,device=%s "
            "-device vfio-hp-pci,irte=%s,host=ffff:ff:1f.7",
            hpkvm_files.bios, hpkvm_files.device, policies[i]);

        g_assert_cmpint(hpkvm_run_qemu(&hpkvm_patched, args, NULL), ==, 1);
        hpkvm_assert_stderr("no such host device", 1);
        hpkvm_assert_stderr("irte=on: ", 0);
    }
}

static void test_irte_bad_value(void)
{
    g_autofree char *args = g_strdup_printf(
        "-M q35 -m 64 -bios %s -accel hpkvm,device=%s "
        "-device vfio-hp-pci,irte=maybe,host=0000:00:1f.7",
        hpkvm_files.bios, hpkvm_files.device);

    g_assert_cmpint(hpkvm_run_qemu(&hpkvm_patched, args, NULL), ==, 1);
    hpkvm_assert_stderr("'maybe'", 1);
}

static void add_tables(void)
{
    for (int i = 0; i < ARRAY_SIZE(irte_cases); i++) {
        g_autofree char *path = g_strdup_printf("hpkvm/irte/on/%s",
                                                irte_cases[i].name);
        qtest_add_data_func(path, &irte_cases[i], test_irte_on);
    }
}

int main(int argc, char **argv)
{
    hpkvm_test_init(&argc, &argv);

    qtest_add_func("hpkvm/irte/possible", test_irte_possible);
    qtest_add_func("hpkvm/irte/bad-value", test_irte_bad_value);
    add_tables();

    return hpkvm_test_run();
}
