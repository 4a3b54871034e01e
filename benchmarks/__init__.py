"""What pacsd reaches, measured beside Orthanc and DCMTK in one run: `make bench`."""
