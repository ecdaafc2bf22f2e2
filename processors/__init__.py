"""Two analyses as physicists write them: Higgs → ττ on flat skims, and ttbar against WW on NanoAOD."""
