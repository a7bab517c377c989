"""Interop: other projects' formats, in and out, and the Hugging Face Hub.

- export.py: `export_dataset`; import_dataset.py: `import_dataset`; hugging_face_hub.py: `push_dataset`; hub_exports.py: `push_export`
- pull_dataset.py: `pull_dataset`
- format.py: what every format does and how it names its INRs
- peer_layouts.py: one file an INR, as DWSNets, multi-view, NFN, Implicit-Zoo and inr2vec have it; file_per_inr.py: what
  these share; code_layouts.py: those of HyperDiffusion, COIN and siren-pytorch; split_files.py: splits.json; weight_statistics.py: statistics.pth
- fit_a_nef.py: HDF5 files of many INRs; file_per_shard.py: safetensors and parquet, one file a shard; previews.py: PNGs
  of INRs, which hubs show
- hdf5_files.py, table_files.py: the file types, read with checks
- state_dicts.py: INRs as state dicts and as the tuples that DWS and neural-graphs code takes; pyg.py: INRs as graphs
- conventions.py: what a project's numbers mean and the exact way to ours and back; convention_check.py: renders INRs to
  check it
- sidecar.py: the JSON file of an export that holds what its format cannot
- import_options.py, import_plan.py, import_foreign.py: an import without a sidecar
"""
