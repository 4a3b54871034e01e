"""DICOM on the wire, without a reactor, clock, file or log.

Read beside the standard: `pdu` and `user_information` are the byte tables of PS3.8 §9.3, `receive` walks what
a peer sends, `state` is Table 9-10, `association` joins them, `negotiate` decides what an association may
carry, `command` and `dimse` are PS3.7's messages, `status` their outcomes, `part10` the head of a kept file.
"""
