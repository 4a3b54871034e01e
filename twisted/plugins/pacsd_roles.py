"""The names under which twistd knows pacsd; what they do is in pacsd.cli.twistd."""

from twisted.application.service import ServiceMaker

pacsd = ServiceMaker("pacsd", "pacsd.cli.twistd.site", "All roles of a pacsd site.", "pacsd")
pacsd_dicom = ServiceMaker("pacsd DICOM", "pacsd.cli.twistd.dicom", "The DICOM server of pacsd.", "pacsd-dicom")
pacsd_web = ServiceMaker("pacsd web", "pacsd.cli.twistd.web", "The web server of pacsd.", "pacsd-web")
