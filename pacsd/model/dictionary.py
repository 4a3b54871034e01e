"""What a tag is called and which VR it has when the encoding doesn't say (PS3.6).

The columns of the index and the tags of queries come from a small table; pydicom's dictionary is loaded when
another one is asked for, because each worker's memory counts.
"""

from __future__ import annotations

from functools import lru_cache

from pacsd.model.attributes import BY_TAG

_FREQUENT = {
    0x00080005: "CS", 0x00080052: "CS", 0x00080054: "AE", 0x00080056: "CS", 0x00080061: "CS", 0x00080062: "UI",
    0x00080201: "SH", 0x00081110: "SQ", 0x00081115: "SQ", 0x00081140: "SQ", 0x00081150: "UI", 0x00081155: "UI",
    0x00081195: "UI", 0x00081197: "US", 0x00081198: "SQ", 0x00081199: "SQ", 0x00080058: "UI",
    0x00201200: "IS", 0x00201202: "IS", 0x00201204: "IS", 0x00201206: "IS", 0x00201208: "IS", 0x00201209: "IS",
    0x00400100: "SQ", 0x00080008: "CS", 0x00080022: "DA", 0x00080032: "TM", 0x00080070: "LO", 0x00081090: "LO",
}  # fmt: skip
_AMBIGUOUS = {"US or SS": "US", "OB or OW": "OW", "US or OW": "OW", "US or SS or OW": "OW"}


def vr_of(tag: int) -> str:
    """The VR of a tag: 'UN' for what no dictionary knows; of several possible ones the unsigned or the word one."""
    column = BY_TAG.get(tag)
    if column is not None:
        return column.vr
    return _FREQUENT.get(tag) or _looked_up(tag)


@lru_cache(maxsize=4096)
def _looked_up(tag: int) -> str:
    group, element = tag >> 16, tag & 0xFFFF
    if element == 0:
        return "UL"
    if group & 1:
        return "LO" if 0x10 <= element <= 0xFF else "UN"
    from pydicom.datadict import dictionary_VR

    try:
        vr = dictionary_VR(tag)
    except KeyError:
        return "UN"
    return _AMBIGUOUS.get(vr, vr if len(vr) == 2 else "UN")


@lru_cache(maxsize=1024)
def tag_of(keyword: str) -> int:
    """The tag of a keyword such as `PatientID`; raises KeyError."""
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    if tag is None:
        raise KeyError(keyword)
    return int(tag)


def keyword_of(tag: int) -> str:
    """The keyword of a tag; '' for private and unknown ones."""
    from pydicom.datadict import keyword_for_tag

    return str(keyword_for_tag(tag))
