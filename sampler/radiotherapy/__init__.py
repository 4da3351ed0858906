"""Contours and dose of radiotherapy cases, compared: descriptive aids for the VOL and DOSI items, not a pass mark.

``lattice`` says where voxels are, ``contours`` turns polygons into voxels, ``overlap`` and ``surface`` compare two
voxel sets, ``dvh`` reads dose inside one, ``consensus`` makes one of many, ``objects`` reads DICOM, ``comparison``
puts them together, ``picture`` draws it.

Libraries differ in their definitions; each module states the one it follows. Arrays are indexed (slice, row, column);
lengths are millimetres, volumes cubic centimetres, doses gray.
"""
