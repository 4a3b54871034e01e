"""The DICOM conformance statement, in the form of PS3.2 Annex N, rendered from what the server works by.

`python -m pacsd.dicom.conformance > docs/dicom-conformance.md`
"""

from __future__ import annotations

import sys
from string import Template
from typing import Final

import pacsd
from pacsd.config.sections import Dicom
from pacsd.dicom import conformance_tables as tables
from pacsd.dicom.scp.suboperations import HEARTBEAT_S, MIN_INTERVAL_S
from pacsd.dicom.scu.routes import MAX_CONTEXTS
from pacsd.dicom.scu.store import MAX_LOSSES
from pacsd.dicom.wire.implementation import IMPLEMENTATION_CLASS_UID, IMPLEMENTATION_VERSION
from pacsd.dicom.wire.negotiate import QUERY_ABILITIES, RETRIEVE_ABILITIES, STORAGE_ABILITIES
from pacsd.dicom.wire.receive import DEFAULT_MAX_ASSOCIATION_PDU
from pacsd.dicom.wire.user_information import ABSENT_MAX_PDU_LENGTH
from pacsd.model.attributes import Level
from pacsd.model.scan import MAX_PACKED_BYTES, MAX_PACKED_ELEMENT_BYTES, MAX_PACKED_SEQUENCE_BYTES
from pacsd.workflow.commitment import DELIVERY_LIMIT_S, FIRST_DELAY_S, LONGEST_DELAY_S, MAX_REFERENCES
from pacsd.workflow.retrieve import MAX_FAILED_UIDS

_OVERVIEW: Final = Template("""\
# DICOM Conformance Statement: pacsd $version

In the form of PS3.2 Annex N. Rendered by `python -m pacsd.dicom.conformance` from the tables by which the server
negotiates, matches and answers; don't edit it by hand (`make rendered`).

1. [Overview](#1-overview)
2. [Introduction](#2-introduction)
3. [Implementation model](#3-implementation-model)
4. [Services](#4-services)
5. [Associations](#5-associations)
6. [Character sets](#6-character-sets)
7. [Configuration](#7-configuration)
8. [Security](#8-security)
9. [Annexes](#9-annexes)

## 1 Overview

pacsd is a picture archiving and communication system: it receives, keeps, finds and gives back DICOM objects. This
statement covers its DICOM network services. It offers no DICOM media, print, worklist, procedure step, DICOMweb
or audit services in this release.

$services
## 2 Introduction

For those who connect modalities, workstations and other archives to pacsd, and for those who buy or judge it. The
reader knows DICOM; terms are the standard's. Conformance on both sides doesn't by itself guarantee that two products
work together; try each pair.

Departures from the standard, each in favour of keeping what a device sends:

- No object is refused for its content. Missing type 1 attributes, wrong VRs, odd lengths, wrong character sets, bad
  dates and padded UIDs are stored as received, flagged and counted. Objects without Study or Series Instance UID are
  found under a derived one (2.25.…), which no object is given: what is sent out is what came in.
- Unknown sub-items and trailing NULs in association PDUs, and group lengths in identifiers, are passed over.
- Storage commitment: a report is also sent to a requester that accepts the context but ignores role selection.

## 3 Implementation model

```mermaid
flowchart LR
    modality[Modality, workstation, archive] -- "C-ECHO, C-STORE" --> pacsd
    workstation[Workstation, archive] -- "C-FIND, C-MOVE, C-GET, C-CANCEL" --> pacsd
    requester[Modality] -- "N-ACTION" --> pacsd
    pacsd([pacsd]) -- "C-STORE for C-MOVE, pacsd peer send" --> destination[Registered peer]
    pacsd -- "N-EVENT-REPORT" --> requester
    pacsd -- "C-ECHO, C-FIND, C-MOVE, C-GET for pacsd peer" --> destination
```

One application entity, `PACSD` by default; it may answer to further titles. It accepts and opens associations. Several
processes may share its port; which of them serves an association makes no difference to the peer.

It opens associations for C-MOVE sub-operations, for storage commitment reports, and when an operator calls
`pacsd peer echo|find|pull|send`.

## 4 Services

Of an association's presentation contexts each SOP class other than storage takes the first of these transfer syntaxes
that is proposed, for identifiers and other messages:

$message_syntaxes
Error Comment (0000,0902) says in at most 64 characters what went wrong; it never holds patient data. Requests of
services that aren't listed are answered by 0211, Unrecognised operation.

### 4.1 Verification (SCU, SCP)

C-ECHO is answered by 0000. With `unknown_peers = "echo"` it is all that an unregistered calling title may do.
""")

_STORAGE: Final = Template("""\
### 4.2 Storage (SCU, SCP)

SOP classes: all of [annex 9.1](#91-storage-sop-classes). With `accept_any_sop_class` (the default) also every
class under the standard's storage root that isn't listed there, and every private UID.

Level 2 (full), as extended negotiation answers (`$storage_abilities`: level 2, signatures unspecified, elements may be
coerced). This release coerces nothing: the data set that is sent is the data set that was received, save that one of
odd length in a deflated syntax is padded.

Transfer syntaxes: all of [annex 9.2](#92-transfer-syntaxes) and unknown ones. For each context:

1. the proposer's first syntax is accepted;
2. except that explicit little endian is preferred to a first implicit little or explicit big endian, if it is
   proposed too;
3. where the requestor proposes itself as SCP only (C-GET), explicit, then implicit little endian is preferred; to get
   objects as they are stored, propose a context for each syntax.

#### SCP

Success means durable: the bytes and the directory entry are on stable storage, and the object can be found by the next
query. The object is kept as a Part 10 file with this product's file meta and the data set's bytes exactly as received.

$store_sent
The same object again is Success and kept once. Another object under the same SOP Instance UID (`on_conflict`):
`keep-both` keeps the first as what queries and retrieves give, sets the other aside and answers Success; `replace` lets
the new one answer for the UID and sets the first aside; `refuse` answers 0111 and keeps nothing. No warning status
is sent.

#### SCU

A context is proposed for each pair of SOP class and stored transfer syntax, and one for each class with explicit and
implicit little endian; more than $max_contexts contexts go over a further association. If the receiver takes the
stored syntax the bytes go out as they are, else the object is converted without further loss where annex 9.2 says that
it can be. `MoveOriginator` fields are set for C-MOVE.

$store_received
A warning counts as stored. After $max_losses associations in a row that are lost without one object delivered the
receiver is given up.
""")

_FIND: Final = Template("""\
### 4.3 Query (SCU, SCP)

$levels
Hierarchical queries, and relational ones where negotiated. The SCU uses Patient Root at patient level, else Study Root.

Extended negotiation (PS3.4 C.5.1.1.1), each byte answered by the lesser of both sides' (`$query_abilities`): relational
queries, combined date-time matching, fuzzy semantic matching of person names, timezone query adjustment. Enhanced
multi-frame image conversion isn't offered.

Every key is answered with what is held, without a value if there is none. Every key has universal matching: no value,
or only `*`. A value of two quotation marks (`""`) asks for an empty value. No file is opened by a query.

Type "unique": the level's unique key. "column": held by the index as text. "kept": computed from kept counts and lists.

#### Patient level

$patient
#### Study level

$study
#### Series level

$series
#### Image level

$image
#### Attributes without a column

Every other attribute of the level, also private ones, is matched and answered from the header that the first
received object of the patient, study or series had, or from the instance's own: all elements before the pixel data that
are at most $element_bytes bytes (sequences: $sequence_bytes), up to $head_kib KiB in all. The levels are those
of PS3.3's modules. By VR:

$kinds_by_vr
#### How keys are matched

- Single value and wildcard (`*`, `?`): case-sensitive, padding aside. Numbers (IS, DS, US, …) by value.
- Person names, single value or wildcard: case-insensitive, accents count; component by component within the
  alphabetic, ideographic and phonetic group; a key without `=` matches in any group. Fuzzy: every word of the key must
  occur, in any order, without regard to accents, by spelling or by sound.
- Multiple values and list of UID: one of them.
- Range: dates, times and date-times, open or closed; a partial value asks for all that it covers.
- Combined date-time: a date and its time as one moment, where negotiated.
- Timezone: where negotiated, Timezone Offset From UTC (0008,0201) in the identifier is that of DT keys without offset.
- Sequence: one item's keys must match one stored item; what the item asks for is returned.
- A key of a lower level: where relational queries were negotiated, it must match a child, and is returned without a
  value; else it is returned without a value and the answers' status is FF01.

Retrieve AE Title (0008,0054) is in each answer. Instance Availability (0008,0056) is ONLINE in this release. Answers
come in the Specific Character Set of the identifier if that can hold them, else in UTF-8.

C-CANCEL ends a query.

$find_sent
""")

_RETRIEVE: Final = Template("""\
### 4.4 Retrieve: C-MOVE and C-GET (SCU, SCP)

All levels of the three information models. The unique key of the level may be a list; those above it hold one value
each and may be missing where relational retrieval was negotiated (`$retrieve_abilities`). Other keys are ignored.

The first pending response comes at once; further ones when something changed, at most every $min_interval s, and every
$heartbeat s in any case. Sub-operation numbers above 65,535 are told as 65,535. The final response lists at most
$max_failed Failed SOP Instance UIDs. C-CANCEL stops before the next object.

Departure: PATIENT is also taken as a level of Study Root in a retrieve (not in a query), as Orthanc asks so.

C-GET sends over the association's own contexts in which the requestor is SCP of storage (role selection). C-MOVE sends
to a registered peer, to which `--max-associations` and `--bytes-per-s` of its registration apply.

C-MOVE:

$move_sent
C-GET:

$get_sent
The SCU (`pacsd peer pull`) asks at study level on Study Root:

$retrieve_received
""")

_COMMITMENT: Final = Template("""\
### 4.5 Storage Commitment Push Model (SCP)

N-ACTION (Action Type ID 1) on the well-known instance `1.2.840.10008.1.20.1.1`, at most $max_references references, is
answered as soon as the request is kept in the database.

$action_sent
Committed is what is held, is of the class named, and is whole when its file is read back now. The report goes over the
same association if that is still open, else over a new one to the peer registered under the requester's title, where
pacsd proposes itself as SCP. If it can't be delivered it is tried again, after $first_delay s, then ever later up to
$longest_delay s, for $delivery_days days, by any process, also after a restart. N-EVENT-REPORT: Event Type ID 1 all
committed, 2 with failures:

$reasons
N-EVENT-REPORT may be answered by Success or a warning; anything else is tried again.
""")

_REST: Final = Template("""\
## 5 Associations

### 5.1 Acceptance

$rejections
An association without any acceptable context is accepted, as PS3.8 has it. Limits are per process. A process at its
limit that shares the port leaves new connections to the others.

Registered peers may use all services. What others may do says `unknown_peers`: `accept` everything, `echo` Verification
only, `reject` nothing. C-MOVE destinations and receivers of storage commitment reports are always registered
(`pacsd peer add AE HOST PORT`). The peer's address isn't compared with the registered one.

### 5.2 Negotiation

| item | as acceptor | as requestor |
|---|---|---|
| application context | `1.2.840.10008.3.1.1.1` | the same |
| maximum PDU length | `max_pdu_length_bytes`, $max_pdu by default; longer PDUs are aborted | the same |
| peer without maximum length | taken as $absent_pdu | the same |
| association PDUs | at most $max_association_pdu bytes, 128 contexts | |
| implementation class UID | `$class_uid` | the same |
| implementation version name | `$version_name` | the same |
| asynchronous operations | at most $async invoked by the requestor, 1 performed | not negotiated |
| SCP/SCU role selection | requestor as SCP: storage (C-GET), storage commitment | the same services |
| extended negotiation | storage, query, retrieve | none |
| common extended negotiation | a class declared as storage that is related to a listed one is taken as storage | none |
| user identity | all types are taken, none is checked, no positive response is given | none |

### 5.3 Time limits and aborts

- `artim_s`: to send A-ASSOCIATE-RQ after connecting, to close after a release, rejection or abort, and for a peer that
  we call, to answer the request.
- `idle_timeout_s`: nothing received while nothing is owed.
- `dimse_timeout_s`: for a peer to answer a request of ours. A peer that stays below 512 bytes/s within a message for
  this long, or takes nothing of what is sent for twice as long, is aborted.
- A malformed or oversize PDU is answered by A-ABORT (source 2) with PS3.8's reason: 1 unrecognised PDU, 2 unexpected
  PDU, 6 invalid parameter. So are messages that break PS3.7.

TCP: IPv4 and IPv6, `TCP_NODELAY`, keep-alive; the receiving side acknowledges at once, so a sender with Nagle's
algorithm isn't held up.

## 6 Character sets

Read, and written in answers to queries, with and without code extension (ISO 2022):

$charsets
Misspelt terms (`ISO-IR 100`, `UTF-8`) are understood. What the declared set can't explain is read as UTF-8 if it is
that, else as Latin alphabet No. 1, and flagged; stored bytes never change.

## 7 Configuration

Section `[dicom]` of `pacsd.toml`; all settings are in [configuration.md](configuration.md). Peers are rows of the
database: title, host, port, associations at once, bytes per second.

$parameters
## 8 Security

None at the level of DICOM in this release, plainly: no TLS (PS3.15 B), no check of user identity, no audit messages, no
digital signatures, no de-identification. Access is by calling AE title alone, which a peer can claim at will. Keep the
port on a network that only trusted stations reach.

## 9 Annexes

### 9.1 Storage SOP classes

$storage_classes
### 9.2 Transfer syntaxes

Each is kept bit by bit. "Can become": what a stored object is converted to for a receiver that doesn't take it, the
preferred first, without loss beyond what its own encoding has lost. JPEG Baseline and other lossy colour becomes RGB.

$stored_syntaxes""")


def render() -> str:
    """The whole statement as Markdown."""
    dicom = Dicom()
    values = {
        "version": pacsd.__version__,
        "services": tables.services(),
        "message_syntaxes": tables.message_syntaxes(),
        "storage_abilities": STORAGE_ABILITIES.hex(" "),
        "query_abilities": QUERY_ABILITIES.hex(" "),
        "retrieve_abilities": RETRIEVE_ABILITIES.hex(" "),
        "store_sent": tables.sent("storage", tables.STORE_CASES),
        "store_received": tables.received("storage"),
        "find_sent": tables.sent("find", tables.FIND_CASES),
        "move_sent": tables.sent("move", tables.MOVE_CASES),
        "get_sent": tables.sent("get", tables.RETRIEVE_CASES),
        "retrieve_received": tables.received("move"),
        "action_sent": tables.sent("", tables.ACTION_CASES),
        "reasons": tables.reasons(),
        "levels": tables.levels(),
        "patient": tables.keys(Level.PATIENT),
        "study": tables.keys(Level.STUDY),
        "series": tables.keys(Level.SERIES),
        "image": tables.keys(Level.IMAGE),
        "kinds_by_vr": tables.kinds_by_vr(),
        "element_bytes": f"{MAX_PACKED_ELEMENT_BYTES:,}",
        "sequence_bytes": f"{MAX_PACKED_SEQUENCE_BYTES:,}",
        "head_kib": str(MAX_PACKED_BYTES // 1024),
        "max_contexts": str(MAX_CONTEXTS),
        "max_losses": str(MAX_LOSSES),
        "min_interval": f"{MIN_INTERVAL_S:g}",
        "heartbeat": f"{HEARTBEAT_S:g}",
        "max_failed": f"{MAX_FAILED_UIDS:,}",
        "max_references": f"{MAX_REFERENCES:,}",
        "first_delay": f"{FIRST_DELAY_S:g}",
        "longest_delay": f"{LONGEST_DELAY_S:,.0f}",
        "delivery_days": f"{DELIVERY_LIMIT_S / 86400:g}",
        "rejections": tables.rejections(),
        "max_pdu": f"{dicom.max_pdu_length_bytes:,}",
        "absent_pdu": f"{ABSENT_MAX_PDU_LENGTH:,}",
        "max_association_pdu": f"{DEFAULT_MAX_ASSOCIATION_PDU:,}",
        "class_uid": IMPLEMENTATION_CLASS_UID,
        "version_name": IMPLEMENTATION_VERSION,
        "async": str(dicom.async_operations),
        "charsets": tables.charsets(),
        "parameters": tables.parameters(),
        "storage_classes": tables.storage_classes(),
        "stored_syntaxes": tables.stored_syntaxes(),
    }
    parts = (_OVERVIEW, _STORAGE, _FIND, _RETRIEVE, _COMMITMENT, _REST)
    return "\n".join(part.substitute(values).strip("\n") + "\n" for part in parts)


if __name__ == "__main__":
    sys.stdout.write(render())
