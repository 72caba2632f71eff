"""Looking back at runs: why a step ran, what differs, what is not deterministic, what another model would say."""
