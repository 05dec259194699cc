"""Why a model said what it said: attributions, importance, dependence, counter-examples."""
