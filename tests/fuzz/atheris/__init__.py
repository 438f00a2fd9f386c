# SPDX-License-Identifier: MIT
"""Coverage-guided fuzzing of single parsers. Nothing is imported here, so that atheris sees all of luoser's imports."""
