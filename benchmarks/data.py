"""Studies to send: CT and MR with headers as scanners write them and pixels that don't compress.

Everything is made from a seed, in explicit VR little endian; each object has its own SOP Instance UID.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage


@dataclass(frozen=True, slots=True)
class Kind:
    """A modality's images. `size` in pixels, square, 16 bit."""

    name: str
    sop_class: str
    size: int


CT = Kind("CT", CTImageStorage, 512)
MR = Kind("MR", MRImageStorage, 64)


@dataclass(frozen=True, slots=True)
class Series:
    """One series on disk, `<folder>/<number>.dcm`; `sop_instance_uids` in the order of the numbers."""

    folder: Path
    study_uid: str
    series_uid: str
    sop_instance_uids: tuple[str, ...]
    n_bytes: int


class Scanner:
    """Makes series; the same seed gives the same objects."""

    def __init__(self, folder: Path, seed: int = 1) -> None:
        self._folder = folder
        self._random = random.Random(seed)
        self._noise = np.random.default_rng(seed)
        self._n_series = 0

    def series(self, kind: Kind, n_images: int) -> Series:
        """A study of one series."""
        self._n_series += 1
        folder = self._folder / f"{kind.name.lower()}-{self._n_series:03d}"
        folder.mkdir(parents=True)
        image = self._header(kind)
        uids = []
        n_bytes = 0
        for number in range(1, n_images + 1):
            image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = self._uid()
            image.InstanceNumber = number
            image.SliceLocation = f"{-400 + 1.25 * number:.2f}"
            image.ImagePositionPatient = ["-175.500", "-162.700", f"{-400 + 1.25 * number:.3f}"]
            image.PixelData = self._noise.integers(0, 4096, kind.size**2, dtype=np.uint16).tobytes()
            path = folder / f"{number:05d}.dcm"
            image.save_as(path, enforce_file_format=True)
            uids.append(str(image.SOPInstanceUID))
            n_bytes += path.stat().st_size
        return Series(folder, image.StudyInstanceUID, image.SeriesInstanceUID, tuple(uids), n_bytes)

    def _uid(self) -> str:
        return f"2.25.{self._random.getrandbits(120)}"

    def _header(self, kind: Kind) -> Dataset:
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.MediaStorageSOPClassUID = kind.sop_class
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.update(_general(kind, self._n_series))
        image.update(_pixels(kind))
        image.update(_ct() if kind is CT else _mr())
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = (self._uid() for _ in range(3))
        image.ReferencedStudySequence = Sequence([_reference("1.2.840.10008.3.1.2.3.1", self._uid())])
        image.ReferencedImageSequence = Sequence([_reference(kind.sop_class, self._uid()) for _ in range(2)])
        return image


def _dataset(**attributes: object) -> Dataset:
    made = Dataset()
    for keyword, value in attributes.items():
        setattr(made, keyword, value)
    return made


def _reference(sop_class: str, sop_instance: str) -> Dataset:
    return _dataset(ReferencedSOPClassUID=sop_class, ReferencedSOPInstanceUID=sop_instance)


def _code(value: str, scheme: str, meaning: str) -> Sequence:
    return Sequence([_dataset(CodeValue=value, CodingSchemeDesignator=scheme, CodeMeaning=meaning)])


def _general(kind: Kind, number: int) -> Dataset:
    """Patient, study, series, equipment, procedure step."""
    request = _dataset(
        RequestedProcedureDescription="Routine", ScheduledProcedureStepDescription="Routine",
        ScheduledProcedureStepID=f"SPS{number:06d}", RequestedProcedureID=f"RP{number:06d}",
    )  # fmt: skip
    return _dataset(
        SpecificCharacterSet="ISO_IR 100", ImageType=["ORIGINAL", "PRIMARY", "AXIAL"], SOPClassUID=kind.sop_class,
        InstanceCreationDate="20240311", InstanceCreationTime="101502.123000",
        StudyDate="20240311", SeriesDate="20240311", AcquisitionDate="20240311", ContentDate="20240311",
        StudyTime="100512.000000", SeriesTime="100915.330000", AcquisitionTime="101001.110000",
        ContentTime="101001.550000", AccessionNumber=f"A{number:08d}", Modality=kind.name, Manufacturer="ACME MEDICAL",
        InstitutionName="St. Elsewhere Hospital", InstitutionAddress="1 Hospital Road, Springfield",
        ReferringPhysicianName="WELBY^MARCUS^^DR", StationName=f"{kind.name}ROOM1",
        StudyDescription=f"{kind.name} THORAX ABDOMEN", SeriesDescription="1.25 mm axial, soft tissue",
        InstitutionalDepartmentName="Radiology", PerformingPhysicianName="HOUSE^GREGORY", OperatorsName="TECH^ONE",
        ManufacturerModelName="Scanner 3000", ProcedureCodeSequence=_code("RPID16", "RADLEX", "Thorax and abdomen"),
        PatientName=f"SMITH{number:04d}^JOHN^QUINCY", PatientID=f"BENCH{number:06d}",
        IssuerOfPatientID="ST-ELSEWHERE", PatientBirthDate="19560814", PatientSex="M", PatientAge="067Y",
        PatientSize="1.80", PatientWeight="82.5", EthnicGroup="", AdditionalPatientHistory="Cough for three weeks.",
        PregnancyStatus=4, BodyPartExamined="CHEST", DeviceSerialNumber="0123456789", SoftwareVersions="v12.3.4a",
        ProtocolName="5.1 Thorax/Abdomen", PatientPosition="HFS", StudyID=f"{number}", SeriesNumber=2,
        AcquisitionNumber=1, ImageOrientationPatient=[1, 0, 0, 0, 1, 0], PositionReferenceIndicator="SN",
        ImagesInAcquisition=500, PerformedProcedureStepStartDate="20240311",
        PerformedProcedureStepStartTime="100500.000000", PerformedProcedureStepID=f"PPS{number:06d}",
        PerformedProcedureStepDescription="Thorax/Abdomen", RequestAttributesSequence=Sequence([request]),
    )  # fmt: skip


def _pixels(kind: Kind) -> Dataset:
    return _dataset(
        SamplesPerPixel=1, PhotometricInterpretation="MONOCHROME2", Rows=kind.size, Columns=kind.size,
        PixelSpacing=["0.6855", "0.6855"], BitsAllocated=16, BitsStored=12, HighBit=11, PixelRepresentation=0,
        SmallestImagePixelValue=0, LargestImagePixelValue=4095, WindowCenter="40", WindowWidth="400",
    )  # fmt: skip


def _ct() -> Dataset:
    made = _dataset(
        ScanOptions="HELICAL MODE", SliceThickness="1.25", KVP="120", SpacingBetweenSlices="1.25",
        DataCollectionDiameter="500", ReconstructionDiameter="351", DistanceSourceToDetector="949.07",
        DistanceSourceToPatient="541", GantryDetectorTilt="0", TableHeight="154.2", RotationDirection="CW",
        ExposureTime=500, XRayTubeCurrent=265, Exposure=132, FilterType="BODY FILTER", GeneratorPower=31800,
        FocalSpots="1.2", ConvolutionKernel="STANDARD", RevolutionTime=0.5, SingleCollimationWidth=0.625,
        TotalCollimationWidth=40.0, TableSpeed=110.0, SpiralPitchFactor=1.375, CTDIvol=9.8,
        RescaleIntercept="-1024", RescaleSlope="1", RescaleType="HU", BurnedInAnnotation="NO",
    )  # fmt: skip
    private = made.private_block(0x0009, "ACME_IDEN_01", create=True)
    private.add_new(0x01, "LO", "ACME_CT_LIGHTSPEED")
    private.add_new(0x27, "SL", 1710150902)
    private = made.private_block(0x0043, "ACME_PARM_01", create=True)
    private.add_new(0x10, "US", 400)
    private.add_new(0x27, "SH", "/1.4:1")
    private.add_new(0x28, "OB", bytes(range(256)) * 2)
    return made


def _mr() -> Dataset:
    made = _dataset(
        ScanningSequence="EP", SequenceVariant="SK", ScanOptions="FS", MRAcquisitionType="2D", SequenceName="epfid2d1",
        AngioFlag="N", SliceThickness="3", RepetitionTime="2000", EchoTime="30", NumberOfAverages="1",
        ImagingFrequency="123.25", ImagedNucleus="1H", EchoNumbers="1", MagneticFieldStrength="3",
        SpacingBetweenSlices="3.3", NumberOfPhaseEncodingSteps="63", EchoTrainLength="31", PercentSampling="100",
        PercentPhaseFieldOfView="100", PixelBandwidth="2442", TransmitCoilName="Body", AcquisitionMatrix=[64, 0, 0, 64],
        InPlanePhaseEncodingDirection="COL", FlipAngle="77", VariableFlipAngleFlag="N", SAR="0.0487",
    )  # fmt: skip
    private = made.private_block(0x0019, "ACME MR HEADER", create=True)
    private.add_new(0x08, "CS", "IMAGE NUM 4")
    private.add_new(0x0A, "US", 36)
    private.add_new(0x28, "FD", 20.8)
    private = made.private_block(0x0029, "ACME CSA HEADER", create=True)
    private.add_new(0x10, "OB", bytes(range(256)))
    return made
