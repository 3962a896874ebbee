"""What a plan assumes where nothing is measured: numbers and sources alone, which cost nothing to import."""

SEED_NOISE = 0.005
"""Standard deviation of ln loss between runs that differ in the seed alone, until it is measured. Kaplan et al. 2020,
section 4.2, estimate a variation of 0.02 nats at losses of 2 to 4, so 0.005 to 0.01 of the loss; the points of Hoffmann
et al. 2022 scatter about their law by as much (the median absolute residual times 1.48; a test measures it). Runs of
minutes differ by far more: 0.040 (0.030 to 0.059) was measured on three sizes of the sweep `demo`, 0.04M to 0.4M
parameters, at three budgets with three seeds each."""
SEED_NOISE_SOURCE = (
    "assumed: as the points of Hoffmann et al. 2022 scatter; Kaplan et al. 2020, section 4.2, say 0.02 nats"
)

SIMULATIONS = 2000
"""An end of a 95 % interval then has a standard error of about 4 % of the half width."""

REFERENCE_SOURCES = {
    "besiroglu": "Besiroglu et al. 2024, table 1",
    "hoffmann": "Hoffmann et al. 2022, approach 3",
    "kaplan": "Kaplan et al. 2020, eq. 1.5",
}
"""Where the constants of each published law that `ladder plan --reference` knows are from."""
