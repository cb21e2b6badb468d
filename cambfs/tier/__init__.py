"""Results in an engine that many machines share: one machine fetches a result, and the others read its bytes there."""
