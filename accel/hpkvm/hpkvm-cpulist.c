/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * HPKVM accelerator: lists of host CPUs
 *
 * Owns the syntax of the cpus= property.  Must not judge whether a CPU
 * exists or is free: only the kernel knows, and it says so at bind.
 */

#include "qemu/osdep.h"
#include "qapi/error.h"
#include "qemu/bitmap.h"
#include "qemu/ctype.h"
#include "qemu/cutils.h"
#include "hpkvm-int.h"

#define EXPECTED "expected host CPU numbers and ascending ranges, like 2-5 " \
                 "or 2,4 (a comma is doubled on the command line: cpus=2,,4)"

/* Parse "N" or "N-M", which must be the whole of @part */
static bool parse_range(const char *part, unsigned int *first,
                        unsigned int *last)
{
    const char *end;

    if (!qemu_isdigit(part[0]) || qemu_strtoui(part, &end, 10, first)) {
        return false;
    }
    *last = *first;
    if (*end == '-') {
        part = end + 1;
        if (!qemu_isdigit(part[0]) || qemu_strtoui(part, &end, 10, last)) {
            return false;
        }
    }
    return *end == '\0';
}

HPKVMCore *hpkvm_parse_cpus(const char *str, unsigned int *nr, Error **errp)
{
    g_auto(GStrv) parts = g_strsplit(str, ",", -1);
    g_autoptr(GArray) cores = g_array_new(false, true, sizeof(HPKVMCore));
    g_autofree unsigned long *seen = bitmap_new(HPKVM_MAX_HOST_CPUS);

    if (!*str) {
        error_setg(errp, "cpus= is empty; " EXPECTED);
        return NULL;
    }

    for (char **part = parts; *part; part++) {
        unsigned int first, last;

        if (!parse_range(*part, &first, &last)) {
            error_setg(errp, "'%s' in cpus=%s is not a host CPU; " EXPECTED,
                       *part, str);
            return NULL;
        }
        if (first > last) {
            error_setg(errp, "'%s' in cpus=%s runs backwards; "
                       "expected %u-%u", *part, str, last, first);
            return NULL;
        }
        if (last >= HPKVM_MAX_HOST_CPUS) {
            error_setg(errp, "'%s' in cpus=%s is too high; expected host CPU "
                       "numbers up to %d", *part, str,
                       HPKVM_MAX_HOST_CPUS - 1);
            return NULL;
        }
        for (unsigned int cpu = first; cpu <= last; cpu++) {
            HPKVMCore core = { .host_cpu = cpu };

            if (test_and_set_bit(cpu, seen)) {
                error_setg(errp, "CPU %u appears twice in cpus=%s; expected "
                           "every host CPU at most once", cpu, str);
                return NULL;
            }
            g_array_append_val(cores, core);
        }
    }

    *nr = cores->len;
    return (HPKVMCore *)g_array_free(g_steal_pointer(&cores), false);
}

char *hpkvm_format_cpus(const HPKVMCore *cores, unsigned int nr)
{
    GString *str = g_string_new(NULL);
    unsigned int i, run;

    for (i = 0; i < nr; i += run) {
        for (run = 1; i + run < nr; run++) {
            if (cores[i + run].host_cpu != cores[i].host_cpu + run) {
                break;
            }
        }
        g_string_append_printf(str, "%s%u", i ? "," : "", cores[i].host_cpu);
        if (run > 1) {
            g_string_append_printf(str, "-%u", cores[i].host_cpu + run - 1);
        }
    }
    return g_string_free(str, false);
}
