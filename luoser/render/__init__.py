# SPDX-License-Identifier: MIT
"""States, findings and changes as text, tables, trees and JSON."""
