/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: promotion of "kvm" to "hpkvm"
 *
 * Owns the two ways in for management software that always says
 * "-accel kvm": the name of the program and QEMU_HPKVM.  Must not touch any
 * other accelerator, nor an explicit "-accel hpkvm".
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/error-report.h"
#include "system/hpkvm.h"

#define HPKVM_ENV "QEMU_HPKVM"
#define HPKVM_PROGRAM_SUFFIX "-hpkvm"

static bool is_word(const char *str, const char *const *words)
{
    return g_strv_contains(words, str);
}

const char *hpkvm_promote(const char *name, QemuOpts *opts)
{
    static const char *const on[] = { "", "1", "on", NULL };
    static const char *const off[] = { "0", "off", NULL };
    const char *env = getenv(HPKVM_ENV);
    const char *program = g_get_prgname();

    if (!name || !g_str_equal(name, "kvm")) {
        return name;
    }
    if (!env) {
        return program && g_str_has_suffix(program, HPKVM_PROGRAM_SUFFIX) ?
               "hpkvm" : name;
    }
    if (is_word(env, off)) {
        return name;
    }
    if (!is_word(env, on)) {
        /*
         * From here on a bad property is the variable's fault, not that of
         * the command line: make error messages say so.  Never freed, as
         * locations keep the pointer.
         */
        loc_set_file(g_strdup_printf(HPKVM_ENV "=%s", env), 0);
        qemu_opts_do_parse(opts, env, NULL, &error_fatal);
    }
    return "hpkvm";
}
