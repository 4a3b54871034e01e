"""What we ask of peers over DICOM, one file a verb."""
