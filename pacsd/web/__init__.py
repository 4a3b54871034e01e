"""The web server: health and metrics for those who run the site; DICOMweb, viewer and console stand on it."""
