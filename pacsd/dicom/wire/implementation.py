"""Who we say we are in every association and in every file we write (PS3.7 §D.3.3.2, PS3.10 §7.1)."""

from __future__ import annotations

from typing import Final

IMPLEMENTATION_CLASS_UID: Final = "2.25.21827936245450671941802496924201701076"
"""Fixed for ever: a peer's workarounds are keyed to it. The UUID-derived root needs no registration (PS3.5
§B.2)."""

IMPLEMENTATION_VERSION: Final = "PACSD"
"""At most 16 characters. Without a release number, so that the same object gives the same file after an
update."""
