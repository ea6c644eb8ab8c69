/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Devices of a q35 that interrupt when a guest asks them to, and the two ways
 * by which they do: MSI, and level-triggered through the IOAPIC.
 *
 * QEMU's `edu` interrupts within the write that asks for it, in the context of
 * the CPU that writes. The HPET does so from QEMU's main loop, and keeps its
 * state across migration, which `edu` does not. Each MSI and each level
 * interrupt of one device must be taken before the next one is asked for.
 */
#ifndef DEVICES_H
#define DEVICES_H

#include <stdbool.h>
#include <stdint.h>

/* ---- IOAPIC: level-triggered, active high, physical destination ---- */

void ioapic_route_level(unsigned gsi, uint8_t vector, uint32_t apic_id);

/* ---- edu ---- */

struct edu {
    uint64_t regs;              /* address */
    uint16_t bdf;
    uint8_t msi;                /* offset of the MSI capability */
    uint8_t gsi;                /* of its INTx */
};

/* The @n-th `edu` of bus 0, from 0; false if there is none. */
bool edu_find(struct edu *e, unsigned n);

/* Its interrupts are MSIs from now on. */
void edu_use_msi(struct edu *e, uint8_t vector, uint32_t apic_id);
/* The same, with whatever else an MSI's @data may say. */
void edu_use_message(struct edu *e, uint32_t data, uint32_t apic_id);

/* They come by its INTx again. */
void edu_no_msi(struct edu *e);

void edu_raise(struct edu *e);
/* True if it did want an interrupt; after this it does not any more. */
bool edu_ack(struct edu *e);

/* ---- HPET: timer @n, one-shot ---- */

#define HPET_GSI_BASE   16      /* timer n may have GSI 16 + n, n < 4 */

/* Timers the machine has, 0 if there is no HPET; starts the counter. */
unsigned hpet_start(void);

/* False if the timer cannot send MSIs (-global hpet.msi=on). */
bool hpet_use_msi(unsigned n);
void hpet_set_msi(unsigned n, uint8_t vector, uint32_t apic_id);
void hpet_use_level(unsigned n, unsigned gsi);

/* One interrupt, @ticks of 10 ns from now. */
void hpet_arm(unsigned n, uint32_t ticks);
/* Level-triggered only: as edu_ack(). */
bool hpet_ack(unsigned n);
uint64_t hpet_counter(void);

#endif
