"""Interop: other projects' formats, in and out.

- conventions.py: what their numbers mean, and the exact way from them to ours and back
- state_dicts.py: INRs as state dicts and as the tuples that DWS and neural-graphs code takes; pyg.py: as graphs
- members.py: one INR of somebody else's set, and what all formats have in common
- trees.py: one file an INR; layouts.py: those of DWSNets, multi-view, NFN, Implicit-Zoo, inr2vec; splits.py: splits.json
- tables.py: many INRs a file (fit-a-nef, safetensors, parquet); foreign_hdf5.py and foreign_tables.py open their files
- peer_statistics.py: statistics.pth
- sidecar.py: the JSON beside an export that says all that its format cannot
- exports.py, imports.py: what the verbs do; import_options.py: what they are told; foreign_set.py: an import without a
  sidecar; listing.py: its plan; rendering_check.py: is a convention the right one
"""
