# SPDX-License-Identifier: GPL-2.0-or-later
"""The demonstration: one guest, two accelerators, and how many exits each."""
