# SPDX-License-Identifier: GPL-2.0-or-later
"""What `make check` is made of; tests/run-checks puts it together."""
