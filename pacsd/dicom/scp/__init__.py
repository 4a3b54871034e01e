"""What peers may ask of us over DICOM, one file a verb: thin adapters between DIMSE and the workflows."""
