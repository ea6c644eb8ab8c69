# SPDX-License-Identifier: GPL-2.0-or-later
"""The test host: a whole machine, emulated, that runs a patched kernel."""
