"""fastMRI single-coil knees: slices undersampled in k-space, and the slices themselves. Not fetched here (agreement to sign).

Size      34,742 train, 3,554 validation and 3,581 test slices; 113 GB as volumes.
Source    https://fastmri.med.nyu.edu (knee_singlecoil_train, knee_singlecoil_val).
          Licence: data sharing agreement of NYU Langone Health, to be signed.
          Checksum: none here; the prepared dataset's digest tells one state of the files from another.
Gives     measured  ARRAY float16 [320, 320]: the zero-filled picture of a quarter of k-space, as a share of its volume's largest value
          image     ARRAY float16 [320, 320]: the picture of all of it, in the same unit
          label     INT, number of the volume
Splits    The official training volumes; the official validation volumes cut into validation and test.
Facts     mean and std of ``measured``; ssim: options of the metric (a flat window of 7x7, as in the fastMRI and AlgoPerf baselines)
"""

from __future__ import annotations

from ._gated import Column, Terms, gated_source

SOURCE = gated_source(
    "fastmri",
    Terms(
        url="https://fastmri.med.nyu.edu",
        licence="fastMRI data sharing agreement, non-commercial research",
        sign="sign the fastMRI data sharing agreement",
        download="knee_singlecoil_train and knee_singlecoil_val",
        size_bytes=113e9,
    ),
    "J. Zbontar et al. fastMRI: An Open Dataset and Benchmarks for Accelerated MRI. arXiv:1811.08839, 2018.",
    {"measured": Column("float16", (320, 320), 0), "image": Column("float16", (320, 320), 0), "label": Column("int64", (), 973)},
    lambda: {"mean": 0.5, "std": 0.29, "ssim": {"gaussian_kernel": False, "kernel_size": 7}},
)
